"""The stores that stand in this repository, each under the whole contract."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import Factory, define

from sz_runtime.ports import Store
from sz_shells.stores.memory import MemoryStore
from sz_shells.stores.sqlite import SqliteStore
from tests.contracts.store_world import StoreWorld
from tests.contracts.stores import DurableStoreContract, StoreContract


def wait_until(done: Callable[[], bool]) -> None:
    """Real time goes on by itself."""
    patience_s = time.monotonic() + 20
    while not done():
        assert time.monotonic() < patience_s, "the store did not answer"
        time.sleep(0.0002)


class MemoryWorld:
    """Its contents live as long as the object."""

    def make(self) -> Store:
        return MemoryStore()

    def reopened(self, store: Store) -> Store:
        return store

    def crashed(self, store: Store) -> Store:
        raise AssertionError("a memory store promises nothing about crashes")

    def settle(self, done: Callable[[], bool]) -> None:
        wait_until(done)


@define
class SqliteWorld:
    """Files in a directory. A crash is a copy of them as they are at that moment, the log's end torn or not; the
    process that dies for real is in tests/shells/stores."""

    directory: Path
    lives: list[Store] = Factory(list)

    def make(self) -> Store:
        return self._at(self.directory / "0" / "store.db")

    def reopened(self, store: Store) -> Store:
        return self._at(self._path())

    def crashed(self, store: Store) -> Store:
        old = self._path()
        new = self.directory / str(len(self.lives)) / "store.db"
        new.parent.mkdir()
        for suffix in ("-wal", ""):
            shutil.copyfile(old.with_name(old.name + suffix), new.with_name(new.name + suffix))
        return self._at(new)

    def settle(self, done: Callable[[], bool]) -> None:
        wait_until(done)

    def close(self) -> None:
        for store in self.lives:
            store.close()

    def _path(self) -> Path:
        return max(self.directory.glob("*/store.db"), key=lambda path: int(path.parent.name))

    def _at(self, path: Path) -> Store:
        self.lives.append(SqliteStore(path))
        return self.lives[-1]


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def world(self) -> StoreWorld:
        return MemoryWorld()


class TestSqliteStore(DurableStoreContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[StoreWorld]:
        before = threading.enumerate()
        world = SqliteWorld(tmp_path)
        yield world
        world.close()
        started = [thread for thread in threading.enumerate() if thread not in before]
        assert not [thread for thread in started if thread.name.startswith("store-")]
