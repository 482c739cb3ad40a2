"""How the records of a trace are made: most of what a simulation creates are these."""

from sz_protocol.kernel.record import record as fact

__all__ = ["fact"]
