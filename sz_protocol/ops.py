"""Numbers that are handed out once: operations and claims. One counter a node, so that an answer finds its asker
whichever machine that is."""

from attrs import define

from sz_protocol.records import CLAIMS_PER_TERM


@define
class Ops:
    """The numbers of one life. `term` is set at the start; `stream` is that of the current dependent writes; `edits`
    counts the edits of schedules whose write is under way: a drain waits for them."""

    term: int = 0
    last: int = 0
    stream: int = 1
    claims: int = 0
    edits: int = 0

    def next(self) -> int:
        """An operation number that was never given before in this life."""
        self.last += 1
        return self.last

    def next_claim(self) -> int:
        """The next fencing token, and the address of a new ledger row: (term, claim number) as one integer, greater
        than every earlier one on this store."""
        self.claims += 1
        return self.term * CLAIMS_PER_TERM + self.claims
