"""How the values that are made for every run, event and message are declared."""

from typing import TYPE_CHECKING

__all__ = ["record"]

if TYPE_CHECKING:
    from attrs import frozen as record
else:
    from attrs import define

    def record(kind: type | None = None, **options: object) -> type:
        """A frozen record for the type checker. At run time nothing guards its fields: a guard makes each record three
        to five times as expensive to create, and creating them is a third of what a fire costs."""
        return define(kind, unsafe_hash=True, **options)
