"""Shared fixtures: everything that awaits is tested on both event loops."""

import pytest


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The backends the product promises; anyio's plugin runs each async test once on each."""
    return str(request.param)
