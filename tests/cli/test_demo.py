"""`schedulezero demo`: it ends well and in time, and its account would show what is wrong."""

import sqlite3
import time
from pathlib import Path

import pytest

from sz_protocol.queries import RunsPage
from sz_shells.cli.demo import CONFIG, PATIENCE_S, demo, take_account
from sz_shells.cli.demo_handlers import DIARY
from sz_shells.stores.sqlite import SqliteStore
from tests.faults.server import Server


def test_the_demo_kills_its_server_and_the_account_balances_within_the_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    began = time.monotonic()
    assert demo(seconds=8) == 0
    assert time.monotonic() - began < 8 + 8 + PATIENCE_S
    told = capsys.readouterr().out
    assert "kill -9" in told
    assert "started again" in told
    assert "Nothing was lost, nothing was doubled." in told


def test_the_account_of_the_demo_sees_what_is_missing_doubled_open_or_made_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diary = tmp_path / "diary.txt"
    monkeypatch.setenv(DIARY, str(diary))
    server = Server(tmp_path)
    server.config.write_text(
        CONFIG.format(database=server.database, once="2030-01-01T00:00:00Z", address="tcp://127.0.0.1:*")
    )
    server.start()
    try:
        server.wait_for(lambda: len(server.runs("every-second")) >= 2)
        assert server.stop() == 0
    finally:
        server.kill()
    store = SqliteStore(server.database)
    assert take_account(store, diary).holds

    lines = diary.read_text()
    diary.write_text("")
    assert take_account(store, diary).unexecuted > 0
    diary.write_text(lines)
    newest = store.query(RunsPage(limit=1, schedule_id="every-second"))[0].row
    with sqlite3.connect(server.database) as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(runs)") if row[1] not in ("row", "run_key")]
        names = ", ".join(columns)
        copy = f"INSERT INTO runs (row, run_key, {names}) SELECT row + 1000, x'00', {names} FROM runs WHERE row = ?"
        database.execute(copy, (newest,))
    assert take_account(store, diary).doubled == 1
    with sqlite3.connect(server.database) as database:
        database.execute("DELETE FROM runs WHERE row IN (?, ?)", (newest, newest + 1000))
    account = take_account(store, diary)
    assert (account.missing, account.doubled, account.holds) == (1, 0, False)
