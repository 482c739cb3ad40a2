"""How the records of a trace are made: most of what a simulation creates are these."""

from typing import TYPE_CHECKING

__all__ = ["fact"]

if TYPE_CHECKING:
    from attrs import frozen as fact
else:
    from attrs import define

    def fact(kind: type) -> type:
        """A frozen record for the type checker. At run time nothing guards its fields: a guard makes each record three
        times as expensive to create."""
        return define(kind, unsafe_hash=True)
