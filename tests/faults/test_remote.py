"""Faults of remote handlers, shown on real processes over TCP (issue "remote handlers"; rules MEMB and ATT)."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sz_protocol.kernel.now import SECOND_US
from sz_protocol.records import Outcome, ScheduleState
from tests.faults.fleet import Entry, Fleet, WorkerProcess, standing_still


@pytest.fixture
def fleet(tmp_path: Path, anyio_backend: str) -> Iterator[Fleet]:
    made = Fleet(tmp_path, anyio_backend)
    yield made
    made.kill()


LONG_AWAY = "heartbeat: 200ms, lease: 2s, away_grace: 1m"


def every(name: str, handler: str, method: str = "noop", rest: str = "") -> str:
    return f"{{id: {name}, handler_id: {handler}, method: {method}, trigger: {{type: interval, seconds: 1}}{rest}}}"


def successes(fleet: Fleet, schedule_id: str) -> int:
    return sum(run.outcome is Outcome.SUCCEEDED for run in fleet.runs(schedule_id))


def test_a_worker_executes_what_is_scheduled_for_it_and_drains_on_sigterm(fleet: Fleet) -> None:
    fleet.configure(every("tick", "edge"))
    fleet.start()
    worker = fleet.worker("edge")
    fleet.wait_for(lambda: successes(fleet, "tick") >= 2)
    assert {entry.who for entry in fleet.entries("start", "tick")} == {"edge"}
    run_id = fleet.run_now("edge", "nap", '{"seconds": 2}')
    fleet.wait_for(lambda: fleet.starts_of(run_id))
    assert worker.stop() == 0
    assert fleet.wait_outcome(run_id) == "succeeded"
    assert fleet.registered() == {"edge": "away"}
    assert fleet.stop() == 0


def test_a_worker_that_is_killed_before_a_run_gets_it_when_it_is_back(fleet: Fleet) -> None:
    fleet.configure(every("tick", "edge"))
    fleet.start()
    worker = fleet.worker("edge")
    fleet.wait_for(lambda: successes(fleet, "tick") >= 1)
    worker.kill9()
    fleet.wait_for(lambda: fleet.registered()["edge"] in ("suspect", "lost"))
    before = successes(fleet, "tick")
    worker.start()
    fleet.wait_for(lambda: successes(fleet, "tick") > before)


def test_pain_7_a_worker_that_is_killed_during_a_run_leaves_no_phantom(fleet: Fleet) -> None:
    """The lease ends in an explicit loss: at least once is executed again, at most once is lost."""
    once = every("once", "edge", "nap", ", params: {seconds: 600}, semantics: at_most_once")
    fleet.configure(once, every("again", "edge", "nap", ", params: {seconds: 4}"))
    fleet.start()
    worker = fleet.worker("edge")
    fleet.wait_for(lambda: fleet.entries("start", "once") and fleet.entries("start", "again"))
    (first,) = fleet.entries("start", "once")
    again = fleet.entries("start", "again")[0]
    worker.kill9()
    worker.start()
    assert fleet.wait_outcome(first.run_id) == "lost"
    assert fleet.wait_outcome(again.run_id) == "succeeded"
    attempts = [entry.attempt for entry in fleet.entries("start", "again") if entry.run_id == again.run_id]
    assert attempts == [1, 2]
    assert fleet.starts_of(first.run_id) == 1


def test_a_result_survives_the_crash_of_its_worker(fleet: Fleet) -> None:
    """Killed after the run and before the result was acknowledged: the outbox brings it with the next life."""
    fleet.configure(remote="heartbeat: 1s, lease: 15s, away_grace: 15s")
    server = fleet.start()
    worker = fleet.worker("edge")
    fleet.wait_registered("edge")
    run_id = fleet.run_now("edge", "nap", '{"seconds": 1}')
    fleet.wait_for(lambda: fleet.starts_of(run_id))
    with standing_still(server, 4):
        # The server hears nothing: the run ends, its result is kept, the worker dies, another life begins.
        wait_for_the_end_of(fleet, run_id)
        time.sleep(0.5)
        worker.kill9()
        worker.start()
    assert fleet.wait_outcome(run_id) == "succeeded"
    assert fleet.starts_of(run_id) == 1


def wait_for_the_end_of(fleet: Fleet, run_id: str) -> None:
    until = time.monotonic() + 20
    while not any(entry.run_id == run_id for entry in fleet.entries("end")):
        assert time.monotonic() < until, fleet.tail()
        time.sleep(0.05)


def test_pain_22_a_server_that_is_killed_finds_its_runs_again_and_repeats_none(fleet: Fleet) -> None:
    fleet.configure(remote="heartbeat: 200ms, lease: 10s, away_grace: 10s")
    fleet.start()
    fleet.worker("edge")
    fleet.wait_registered("edge")
    under_way = fleet.run_now("edge", "nap", '{"seconds": 6}')
    ends_meanwhile = fleet.run_now("edge", "nap", '{"seconds": 1}')
    fleet.wait_for(lambda: fleet.starts_of(under_way) and fleet.starts_of(ends_meanwhile))
    kill_server(fleet)
    wait_for_the_end_of(fleet, ends_meanwhile)
    fleet.start()
    assert fleet.wait_outcome(ends_meanwhile) == "succeeded"
    assert fleet.wait_outcome(under_way) == "succeeded"
    assert fleet.starts_of(under_way) == fleet.starts_of(ends_meanwhile) == 1


def test_pain_16_a_deploy_without_a_method_parks_its_schedules_and_the_next_one_brings_them_back(fleet: Fleet) -> None:
    """Nothing is deleted: neither the schedule whose method is gone, nor what passed meanwhile, nor an older name."""
    module = fleet.folder / "fleet_handlers.py"
    whole = module.read_text()
    fleet.configure(
        every("gone", "edge", rest=", misfire: {policy: all}, overlap: queue(100)"),
        every("stays", "edge", "nap", ", params: {seconds: 0}"),
        remote="heartbeat: 200ms, lease: 2s, away_grace: 1s",
    )
    fleet.start()
    worker = fleet.worker("edge")
    fleet.wait_for(lambda: successes(fleet, "gone") >= 1 and successes(fleet, "stays") >= 1)

    deploy(worker, whole.replace("for method in (noop, ", "for method in ("))
    fleet.wait_for(lambda: fleet.schedules()["gone"].state is ScheduleState.PARKED)
    assert "noop" in fleet.schedules()["gone"].reason
    before = successes(fleet, "stays")
    fleet.wait_for(lambda: successes(fleet, "stays") >= before + 2)
    assert fleet.schedules()["gone"].state is ScheduleState.PARKED

    # It comes back under another name, and answers to the old one.
    renamed = whole.replace("noop", "renamed").replace(
        "for method in (renamed, nap, block, guarded):",
        'register_local(ME, aliases=["noop"])(renamed)\nfor method in (nap, block, guarded):',
    )
    deploy(worker, renamed)
    fleet.wait_for(lambda: fleet.schedules()["gone"].state is ScheduleState.ACTIVE)

    # Every second since the first has its run: what was missed is caught up with, and nothing is begun twice.
    now = time.time_ns() // 1_000_000_000
    first = min(run.fire_us for run in fleet.runs("gone")) // SECOND_US
    fleet.wait_for(lambda: set(range(first, now + 2)) <= seconds_that_ran(fleet, "gone"))
    seconds = [run.fire_us // SECOND_US for run in fleet.runs("gone")]
    assert len(seconds) == len(set(seconds))
    starts = [entry.run_id for entry in fleet.entries("start", "gone")]
    assert len(starts) == len(set(starts))


def seconds_that_ran(fleet: Fleet, schedule_id: str) -> set[int]:
    """Of UTC."""
    return {run.fire_us // SECOND_US for run in fleet.runs(schedule_id) if run.outcome is Outcome.SUCCEEDED}


def deploy(worker: WorkerProcess, source: str) -> None:
    """Stop a worker in order, and start it with another version of its module."""
    assert worker.stop() == 0
    (worker.fleet.folder / "fleet_handlers.py").write_text(source)
    worker.start()


def kill_server(fleet: Fleet) -> None:
    assert fleet.process is not None
    fleet.process.kill()
    fleet.process.wait()


def test_a_server_that_stops_in_order_leaves_remote_runs_alone(fleet: Fleet) -> None:
    fleet.configure(remote="heartbeat: 200ms, lease: 10s, away_grace: 10s")
    fleet.start()
    fleet.worker("edge")
    fleet.wait_registered("edge")
    run_id = fleet.run_now("edge", "nap", '{"seconds": 5}')
    fleet.wait_for(lambda: fleet.starts_of(run_id))
    began = time.monotonic()
    assert fleet.stop() == 0
    assert time.monotonic() - began < 5, "a drain does not wait for what goes on elsewhere"
    fleet.start()
    assert fleet.wait_outcome(run_id) == "succeeded"
    assert fleet.starts_of(run_id) == 1


def test_a_worker_that_stands_still_longer_than_its_lease_loses_its_run_and_its_late_result_is_not_taken(
    fleet: Fleet,
) -> None:
    fleet.configure()
    fleet.start()
    worker = fleet.worker("edge", "--tag", "site=a")
    fleet.worker("spare", "--tag", "site=a")
    fleet.wait_registered("edge", "spare")
    fleet.configure(every("job", "edge", "nap", ", params: {seconds: 1}, away: elsewhere, tags: {site: a}"))
    assert fleet.cli("reload", str(fleet.config)).returncode == 0
    fleet.wait_for(lambda: any(entry.who == "edge" for entry in fleet.entries("start", "job")))
    assert worker.process is not None
    with standing_still(worker.process, 4):
        stopped = fleet.entries("start", "job")[-1]
        fleet.wait_for(lambda: fleet.outcome(stopped.run_id), 40)
    fleet.wait_for(lambda: [entry for entry in fleet.entries("end") if (entry.run_id, entry.who) == late(stopped)])
    fleet.wait_registered("edge", "spare")
    assert fleet.wait_outcome(fleet.run_now("edge", "noop")) == "succeeded", "what came before this was heard"
    (row,) = (run for run in fleet.runs("job") if run.run_id == stopped.run_id)
    assert (row.attempt, row.result) == (2, '"spare"')


def late(entry: Entry) -> tuple[str, str]:
    """The end that comes too late."""
    return entry.run_id, "edge"


def test_a_server_that_stands_still_longer_than_the_lease_blames_nobody(fleet: Fleet) -> None:
    fleet.configure()
    server = fleet.start()
    fleet.worker("edge")
    fleet.wait_registered("edge")
    run_id = fleet.run_now("edge", "nap", '{"seconds": 6}')
    fleet.wait_for(lambda: fleet.starts_of(run_id))
    with standing_still(server, 4):
        pass
    assert fleet.wait_outcome(run_id) == "succeeded"
    assert fleet.starts_of(run_id) == 1


def test_of_two_workers_with_one_id_the_first_works_on_and_the_second_is_told(fleet: Fleet) -> None:
    fleet.configure(every("tick", "edge"))
    fleet.start()
    first = fleet.worker("edge")
    fleet.wait_for(lambda: successes(fleet, "tick") >= 1)
    twin = fleet.worker("edge", outbox="twin")
    fleet.wait_for(lambda: "duplicate" in twin.tail())
    before = successes(fleet, "tick")
    fleet.wait_for(lambda: successes(fleet, "tick") >= before + 2)
    # Once the first has gone, the second takes its place.
    first.kill9()
    before = successes(fleet, "tick")
    fleet.wait_for(lambda: successes(fleet, "tick") > before)
    twin.kill9()


def test_a_slow_worker_among_fast_ones_holds_nobody_up(fleet: Fleet) -> None:
    fleet.configure()
    fleet.start()
    for name in ("slow", "fast1", "fast2"):
        fleet.worker(name, "--concurrency", "2", "--tag", "role=any")
    fleet.wait_registered("slow", "fast1", "fast2")
    stuck = [fleet.run_now("slow", "nap", '{"seconds": 20}') for _ in range(2)]
    fleet.wait_for(lambda: all(fleet.starts_of(run_id) for run_id in stuck))
    quick = [fleet.run_now("*", "block", '{"seconds": 0.1}') for _ in range(8)]
    for run_id in quick:
        assert fleet.wait_outcome(run_id, 10) == "succeeded"
    who = {entry.who for entry in fleet.entries("start") if entry.run_id in quick}
    assert "slow" not in who
    assert who & {"fast1", "fast2"}, "the server is not the only one who can"
    assert not any(fleet.outcome(run_id) for run_id in stuck)


def test_a_dead_handler_slows_nobody_else(fleet: Fleet) -> None:
    """As published, one dead handler made everything else wait for it (users.md)."""
    fleet.configure(every("local", "server"), every("gone", "edge"), remote=LONG_AWAY)
    fleet.start()
    worker = fleet.worker("edge")
    fleet.wait_for(lambda: successes(fleet, "gone") >= 1 and successes(fleet, "local") >= 1)
    assert worker.process is not None
    with standing_still(worker.process, 6):
        before = successes(fleet, "local")
        time.sleep(5)
        assert successes(fleet, "local") >= before + 3
        asked = time.monotonic()
        assert fleet.registered()["edge"] in ("suspect", "lost")
        assert time.monotonic() - asked < 2
    late = [
        run for run in fleet.runs("local") if run.started_us is not None and run.started_us - run.fire_us > 1_500_000
    ]
    assert not late


def test_a_job_of_12_seconds_runs_once(fleet: Fleet) -> None:
    """As published it ran three times (users.md)."""
    fleet.configure()
    fleet.start()
    fleet.worker("edge")
    fleet.wait_registered("edge")
    waits, blocks = fleet.run_now("edge", "nap", '{"seconds": 12}'), fleet.run_now("edge", "block", '{"seconds": 12}')
    assert fleet.wait_outcome(waits) == "succeeded"
    assert fleet.wait_outcome(blocks) == "succeeded"
    assert fleet.starts_of(waits) == fleet.starts_of(blocks) == 1


def test_pain_8_a_handler_that_blocks_its_loop_costs_its_worker_nothing(fleet: Fleet) -> None:
    blocking = (fleet.folder / "fleet_handlers.py").read_text().replace("def block(run", "async def block(run")
    (fleet.folder / "fleet_handlers.py").write_text(blocking)
    fleet.configure()
    fleet.start()
    fleet.worker("edge")
    fleet.wait_registered("edge")
    run_id = fleet.run_now("edge", "block", '{"seconds": 5}')
    fleet.wait_for(lambda: fleet.starts_of(run_id))
    for _ in range(4):
        assert fleet.registered()["edge"] == "present"
        time.sleep(0.5)
    assert fleet.wait_outcome(run_id) == "succeeded"
    assert fleet.starts_of(run_id) == 1


def test_two_run_now_calls_at_once_both_run(fleet: Fleet) -> None:
    """As published, two of them aborted the process (users.md)."""
    fleet.configure()
    fleet.start()
    fleet.worker("edge")
    fleet.wait_registered("edge")
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(fleet.run_now("edge", "noop"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 2
    assert [fleet.wait_outcome(run_id) for run_id in ids] == ["succeeded", "succeeded"]


def test_a_remote_run_is_cancelled_and_times_out(fleet: Fleet) -> None:
    fleet.configure(every("slow", "edge", "nap", ", params: {seconds: 600}, timeout: 1s, overlap: skip"))
    fleet.start()
    fleet.worker("edge")
    fleet.wait_for(lambda: any(run.reason == "timeout" for run in fleet.runs("slow")))
    run_id = fleet.run_now("edge", "nap", '{"seconds": 600}')
    fleet.wait_for(lambda: fleet.starts_of(run_id))
    assert fleet.cli("cancel", run_id, str(fleet.config)).returncode == 0
    assert fleet.wait_outcome(run_id) == "cancelled"


@pytest.mark.parametrize("away", ["wait", "skip", "elsewhere"])
def test_a_schedule_whose_handler_is_away_follows_its_policy(fleet: Fleet, away: str) -> None:
    fleet.configure(every("job", "edge", "noop", f", away: {away}"))
    fleet.start()
    worker, spare = fleet.worker("edge"), fleet.worker("spare")
    fleet.wait_for(lambda: any(entry.who == "edge" for entry in fleet.entries("end", "job")))
    worker.kill9()
    match away:
        case "skip":
            fleet.wait_for(lambda: any(run.reason == "handler_away" for run in fleet.runs("job")))
        case "elsewhere":
            fleet.wait_for(lambda: any(entry.who != "edge" for entry in fleet.entries("end", "job")))
        case _:
            fleet.wait_for(lambda: fleet.schedules()["job"].state == "parked")
            worker.start()
            fleet.wait_for(lambda: fleet.schedules()["job"].state == "active")
    assert spare.process is not None
    before = successes(fleet, "job")
    fleet.wait_for(lambda: away == "skip" or successes(fleet, "job") > before)
