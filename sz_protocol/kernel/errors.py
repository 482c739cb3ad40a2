"""The two ways in which the core refuses to go on.

Remote nonsense never raises: it becomes `Publish(Ignored(...))`.
"""


class ProtocolError(Exception):
    """Base of everything that the core raises."""


class LocalProtocolError(ProtocolError):
    """The local program misused the core, for example by answering an operation that was never asked for."""


class DecodeError(ProtocolError):
    """Bytes from a peer or a disk that are not what the format promises."""
