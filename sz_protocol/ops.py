"""Numbers of operations. One counter a node, so that an answer finds its asker whichever machine that is."""

from attrs import define


@define
class Ops:
    """Hands out operation numbers and the number of the current stream of dependent writes."""

    last: int = 0
    stream: int = 1

    def next(self) -> int:
        """A number that was never given before in this life."""
        self.last += 1
        return self.last
