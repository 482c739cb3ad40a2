"""Frames that nobody who is right sends: noise, old messages, results in somebody else's name."""

from random import Random
from typing import Any

from sz_protocol.codec import MAX_BYTES, decode, encode
from sz_protocol.kernel.errors import DecodeError
from sz_protocol.messages import (
    HANDLER_PROTO,
    TO_HANDLER,
    TO_HANDLER_SERVER,
    DispatchedRun,
    Hello,
    OfferedMethod,
    Results,
    RunReport,
)
from sz_protocol.records import Outcome
from sz_runtime.simulation.handler_link import Frame, SimLinks
from sz_runtime.simulation.steps import Meddle, Meddling
from sz_runtime.simulation.worker_facts import Mischief

MOST_NOISE = 64
STRANGER = "stranger"
OVERSIZE = 2
"""Which of the strangers has a frame that is too long for anybody."""
OWN_SESSION = 0.6


def meddle(links: SimLinks, step: Meddle) -> None:
    """Put one such frame on its way, if there is anything to make it of."""
    match step.kind:
        case Meddling.NOISE:
            _put(links, step, _connection(links, step), _noise(links, step, links.rng))
        case Meddling.REPLAY:
            frames = [frame for frame in links.sent if (frame.sender, frame.to) == (step.sender, step.to)]
            if frames:
                frame, connection = links.rng.choice(frames), _connection(links, step)
                _put(links, step, connection, frame.bytes, frame.message if frame.connection == connection else None)
        case Meddling.FORGE:
            _forge(links, step)


def come_as_strangers(links: SimLinks, server: str, count: int) -> None:
    """Connections that nobody knows, and that stay open."""
    for number in range(count):
        connection = links.connect(STRANGER, server)
        if not connection:
            return
        hello = encode(Hello(f"{STRANGER}{number}", number + 1, 1, 1, HANDLER_PROTO, (OfferedMethod("work"),), 1))
        says = (b"", hello[: len(hello) // 2], b"\xc1" + links.rng.randbytes(MOST_NOISE), hello)[number % 4]
        if number == OVERSIZE:
            says = bytes(MAX_BYTES + 1)
        if says:
            links.put(STRANGER, server, connection, says)


def _put(links: SimLinks, step: Meddle, connection: int, frame: bytes, genuine: Any = None) -> None:
    """`genuine`: what it says, where it comes from the connection to which its session belongs."""
    if connection:
        number = links.put(step.sender, step.to, connection, frame)
        session, granted = getattr(genuine, "session", 0), getattr(genuine, "granted", -1)
        links.trace.add(Mischief(links.agenda.now_us, step.to, step.sender, number, step.kind, session, granted))


def _connection(links: SimLinks, step: Meddle) -> int:
    """The one between the two that is up now."""
    for worker, server in ((step.sender, step.to), (step.to, step.sender)):
        client = links.calling.get(worker)
        if client is not None and client.server == server:
            return client.number
    return 0


def _noise(links: SimLinks, step: Meddle, rng: Random) -> bytes:
    """Never a message: one that says something else than was said is no noise but a lie, and the encryption of the line
    is there to prevent it."""
    frames = [frame for frame in links.sent if (frame.sender, frame.to) == (step.sender, step.to)]
    data = bytearray(rng.choice(frames).bytes) if frames and rng.random() < 0.7 else bytearray()
    for _ in range(rng.randint(1, 4) if data else 0):
        data[rng.randrange(len(data))] = rng.randrange(256)
    noise = bytes(data[: rng.randint(1, len(data))] if data and rng.random() < 0.3 else data)
    return noise if noise and not _is_message(noise) else b"\xc1" + rng.randbytes(rng.randint(0, MOST_NOISE))


def _is_message(frame: bytes) -> bool:
    try:
        decode(frame, (*TO_HANDLER, *TO_HANDLER_SERVER))
    except DecodeError:
        return False
    return True


def _forge(links: SimLinks, step: Meddle) -> None:
    """Results of runs that were sent to others, in the sender's own session; or of anybody's runs, in the session in
    which they were sent, from a connection to which that does not belong."""
    dispatched = [frame for frame in links.sent if frame.sender == step.to and hasattr(frame.message, "runs")]
    others = [frame for frame in dispatched if frame.to != step.sender]
    own = [frame for frame in links.sent if (frame.sender, frame.to) == (step.sender, step.to)]
    in_session = [frame for frame in own if not isinstance(frame.message, Hello)]
    belongs = False
    if others and in_session and links.rng.random() < OWN_SESSION:
        victim, session = others[-1], in_session[-1].message.session
        connection = _connection(links, step)
        belongs = in_session[-1].connection == connection
    elif dispatched:
        victim = dispatched[-1]
        session = victim.message.session
        connection = links.connect(step.sender, step.to)
    else:
        return
    results = Results(session, 0, _lies(victim, links.rng))
    _put(links, step, connection, encode(results), results if belongs else None)


def _lies(victim: Frame, rng: Random) -> tuple[RunReport, ...]:
    runs: tuple[DispatchedRun, ...] = victim.message.runs
    return tuple(
        RunReport(
            row=run.row,
            attempt=run.attempt,
            delivery=run.delivery,
            fence=run.fence,
            incarnation=rng.getrandbits(62),
            outcome=Outcome.SUCCEEDED,
            reason="",
            started_us=run.fire_us,
            finished_us=run.fire_us + 1,
            result='{"forged":true}',
        )
        for run in runs
    )
