"""The SQLite store: one file, one server, every answer durable. `specs/stores.md` says what it promises."""

from sz_shells.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
