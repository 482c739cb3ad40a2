"""A server process for tests to kill: `python -m tests.shells.stores.store_process MODE PATH`.

It prints a line for each thing that happened and ends when its input ends.
"""

import ctypes
import os
import platform
import struct
import sys
import threading
from collections.abc import Callable, Sequence

from sz_protocol.changes import CursorMove, InsertRuns, MoveCursors, PutSchedules
from sz_protocol.kernel.effects import Write
from sz_protocol.kernel.events import Event, WriteDone, WriteFailed
from sz_protocol.queries import SchedulesById, UnfinishedRuns
from sz_shells.stores.sqlite import SqliteStore
from tests.contracts.store_world import T0, a_run, a_schedule

IN_FLIGHT = 64


def say(*words: object) -> None:
    """One line to the test, at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def hold(path: str) -> None:
    """Be the server of this file."""
    term = SqliteStore(path).open(lambda events: None).term
    say("open", term)
    sys.stdin.read()


def hold_with_child(path: str) -> None:
    """The same, with a forked child that goes on for a while, as a handler's worker pool would."""
    SqliteStore(path).open(lambda events: None)
    if os.fork() == 0:
        say("child", os.getpid())
        threading.Event().wait(60)
        os._exit(0)
    sys.stdin.read()


def write_on(path: str) -> None:
    """Insert runs 1, 2, 3 ... of schedule "a", each together with its cursor's move, from where the last life ended,
    and say which are durable."""
    room = threading.Semaphore(IN_FLIGHT)

    def complete(events: Sequence[Event]) -> None:
        for event in events:
            assert isinstance(event, WriteDone), event
            say("durable", event.op)
            room.release()

    store = SqliteStore(path)
    term = store.open(complete).term
    stored = store.query(SchedulesById(("a",)))
    number = stored[0].cursor_us - T0 if stored else 0
    if not stored:
        store.submit(Write(0, (PutSchedules((a_schedule("a"),), (None,)),), term))
    while True:
        room.acquire()
        number += 1
        move = CursorMove("a", 1, T0 + number - 1, T0 + number, T0 + number + 1)
        store.submit(Write(number, (InsertRuns((a_run(number),)), MoveCursors((move,))), term, stream=1))


def fail_to_sync(path: str) -> None:
    """Write 1 is durable; then every sync of the writing thread fails, and writes 2 and 3 are tried."""
    answered = threading.Semaphore(0)

    def complete(events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case WriteDone(op):
                    say(op, "done")
                    forbid_syncs()
                case WriteFailed(op, reason):
                    say(op, reason)
            answered.release()

    store = SqliteStore(path)
    term = store.open(complete).term
    for op in (1, 2, 3):
        store.submit(Write(op, (InsertRuns((a_run(op),)),), term, stream=1))
        answered.acquire()
    say("visible", *(run.row for run in store.query(UnfinishedRuns())))
    sys.stdin.read()


def forbid_syncs() -> None:
    """Let the kernel answer fsync and fdatasync of this thread with EIO from now on (a seccomp filter)."""
    numbers = {"x86_64": (74, 75), "aarch64": (82, 83)}[platform.machine()]
    load, jump_if_equal, give = 0x20, 0x15, 0x06
    steps = [
        (load, 0, 0, 0),
        (jump_if_equal, 1, 0, numbers[0]),
        (jump_if_equal, 0, 1, numbers[1]),
        (give, 0, 0, 0x00050000 | 5),  # errno 5: EIO
        (give, 0, 0, 0x7FFF0000),  # allow
    ]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    header = struct.pack("HL", len(steps), ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS"
    assert libc.prctl(22, 2, ctypes.c_char_p(header)) == 0, f"PR_SET_SECCOMP: {ctypes.get_errno()}"


MODES: dict[str, Callable[[str], None]] = {
    "hold": hold,
    "hold-with-child": hold_with_child,
    "write-on": write_on,
    "fail-to-sync": fail_to_sync,
}

if __name__ == "__main__":
    MODES[sys.argv[1]](sys.argv[2])
