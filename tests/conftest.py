"""Shared fixtures and settings: everything that awaits is tested on both event loops; in CI examples are not random."""

import os

import pytest
from hypothesis import settings

settings.register_profile("ci", settings.get_profile("ci"), derandomize=True, database=None, print_blob=True)
if "CI" in os.environ:  # .ci/run sets it. Elsewhere examples are random, and what is found is kept in .hypothesis
    settings.load_profile("ci")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The backends the product promises; anyio's plugin runs each async test once on each."""
    return str(request.param)
