"""Each durable store of this repository against the memory store as its model."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings

from tests.contracts.store_model import StoreModel
from tests.contracts.store_world import StoreWorld
from tests.contracts.test_stores_contract import SqliteWorld


class SqliteModel(StoreModel):
    def make_world(self) -> StoreWorld:
        # In memory where there is such a directory: what a sync costs does not matter here.
        shared = Path("/dev/shm")
        self.directory = tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None)
        return SqliteWorld(Path(self.directory.name))

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


TestSqliteAgainstMemory = SqliteModel.TestCase
TestSqliteAgainstMemory.settings = settings(
    max_examples=50, stateful_step_count=8, deadline=None, suppress_health_check=list(HealthCheck)
)
