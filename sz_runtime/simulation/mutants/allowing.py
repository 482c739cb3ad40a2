"""Bugs of the server's side of keys: who may speak, and what becomes of those who may not any more."""

from typing import Any

from sz_protocol.machines.membership import Membership
from sz_protocol.machines.registration import Registration
from sz_runtime.simulation.mutants.planting import mutant


def _nothing(original: Any) -> Any:
    return lambda self, now: []


def _any_of_the_list(original: Any) -> Any:
    def decide_key(self: Registration, hello: Any, key: str) -> Any:
        return "" if self.allowed and key in self.allowed else original(self, hello, key)

    return decide_key


def _everybody(original: Any) -> Any:
    return lambda self, hello, key: ""


def _given_up_at_once(original: Any) -> Any:
    def end_sessions(self: Membership, now: Any) -> Any:
        before = {worker.id: worker for worker, _ in self.workers.sessions.values() if worker is not None}
        effects = original(self, now)
        for worker in before.values():
            if worker.session is None:
                self.carriage.vanish(worker, list(worker.leases.values()), "its key was taken away")
        return effects

    return end_sessions


ALLOWING = (
    mutant(
        "revoked_goes_on",
        "a worker whose key is taken away keeps its session",
        (Membership, "_end_sessions", _nothing),
    ),
    mutant(
        "any_key_for_any_handler",
        "who has a key that is allowed may be any handler",
        (Registration, "decide_key", _any_of_the_list),
    ),
    mutant(
        "keys_not_asked", "whoever says Hello may register, whatever its key", (Registration, "decide_key", _everybody)
    ),
    mutant(
        "revoked_is_given_up_at_once",
        "the runs of a worker whose key is taken away have no lease any more",
        (Membership, "_end_sessions", _given_up_at_once),
    ),
)
