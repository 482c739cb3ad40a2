"""A worker's outbox for tests to kill: `python -m tests.shells.outboxes.outbox_process PATH`.

It keeps reports 1, 2, 3 ... from where the last life ended, forgets every tenth, and says which are durable.
"""

import sys
import threading
from collections.abc import Sequence

from sz_protocol.attaching import Forget, Keep, KeepAnswer, Kept
from sz_shells.outboxes.sqlite import SqliteOutbox
from tests.contracts.outboxes import a_report, key_of

IN_FLIGHT = 16


def main(path: str) -> None:
    """Until somebody kills it."""
    room = threading.Semaphore(IN_FLIGHT)

    def complete(answers: Sequence[KeepAnswer]) -> None:
        for answer in answers:
            assert isinstance(answer, Kept), answer
            sys.stdout.write(f"{answer.op}\n")
            room.release()
        sys.stdout.flush()

    outbox = SqliteOutbox(path, "edge-1")
    left = outbox.open(complete)
    number = max((report.delivery for report in left), default=0)
    while True:
        room.acquire()
        number += 1
        outbox.submit(Keep(number, (a_report(number),)))
        if number % 10 == 0:
            outbox.submit(Forget((key_of(a_report(number - 5)),)))


if __name__ == "__main__":
    main(sys.argv[1])
