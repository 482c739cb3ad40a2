"""Moving what the log holds into the database, beside the writer.

A checkpoint of some thousand pages takes up to a tenth of a second: too long for a group to wait. So a thread of its
own does most of it. It cannot finish: the log grows while it works, and the log starts anew only once all of it has
been moved. What is left the writer moves between two groups.
"""

import sqlite3
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread

CHECKPOINT_ROWS = 8192
_ROWS_OF_A_GROUP = 32  # the pages that even the smallest commit writes


class Checkpointer:
    """Owns a connection and a thread. All methods are for the writer's thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._rows = 0
        self._busy = False
        self._nearly_done = False
        self._orders: SimpleQueue[bool] = SimpleQueue()
        self._thread = Thread(target=self._serve, name="store-checkpointer", daemon=True)
        self._thread.start()

    def after_group(self, rows: int, writer: sqlite3.Connection) -> None:
        """A group of about so many rows was committed."""
        self._rows += _ROWS_OF_A_GROUP + rows
        if self._nearly_done:
            self._nearly_done = self._busy = False
            _checkpoint(writer)
        elif self._rows >= CHECKPOINT_ROWS and not self._busy:
            self._rows = 0
            self._busy = True
            self._orders.put(True)

    def close(self) -> None:
        """Finish what is under way."""
        self._orders.put(False)
        self._thread.join()
        self._connection.close()

    def _serve(self) -> None:
        while self._orders.get():
            # Twice: the second time there is only what was written during the first.
            _checkpoint(self._connection)
            _checkpoint(self._connection)
            self._nearly_done = True


def _checkpoint(connection: sqlite3.Connection) -> None:
    # Where the disk is full: all that is committed stands in the log, and the next write will tell.
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
