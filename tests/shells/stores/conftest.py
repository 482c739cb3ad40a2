"""A SQLite store to do harm to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sz_shells.stores.sqlite import SqliteStore
from tests.contracts.store_world import Session
from tests.contracts.test_stores_contract import SqliteWorld


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where its file is."""
    return tmp_path / "data" / "store.db"


@pytest.fixture
def session(path: Path, tmp_path: Path) -> Iterator[Session]:
    """The store, open."""
    session = Session.begin(SqliteWorld(tmp_path), SqliteStore(path, busy_timeout_ms=100))
    yield session
    session.store.close()
