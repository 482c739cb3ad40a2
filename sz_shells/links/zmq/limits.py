"""The bounds of both links, and the options of a socket that follow from them."""

import zmq
from attrs import frozen


@frozen
class Limits:
    """Times in seconds, sizes in bytes; those of a peer hold for each peer alone."""

    max_frame: int = 4 * 1024 * 1024
    """A longer frame ends its connection. Not below what the codec writes (codec.MAX_BYTES)."""
    max_connections: int = 1024
    """Where there are more, the oldest that has said nothing yet has to go."""
    outbox_messages: int = 1000
    outbox_bytes: int = 16 * 1024 * 1024
    """What may wait for one peer, beside what libzmq has taken."""
    queue: int = 256
    """Messages of one peer that libzmq holds, each way."""
    handshake_s: float = 5.0
    silence_s: float = 10.0
    """How long a connection may last before its first message."""
    beat_s: float = 5.0
    dead_s: float = 15.0
    """libzmq's own heartbeats: they find dead connections, not dead processes."""
    leave_s: float = 0.25
    """How long a link that ends waits for what it was given to leave."""

    def apply(self, socket: "zmq.Socket[bytes]") -> None:
        """Set what both kinds of sockets share; before bind or connect."""
        socket.linger = 0
        socket.maxmsgsize = self.max_frame
        socket.sndhwm = self.queue
        socket.rcvhwm = self.queue
        socket.handshake_ivl = _ms(self.handshake_s)
        socket.heartbeat_ivl = _ms(self.beat_s)
        socket.heartbeat_timeout = _ms(self.dead_s)
        socket.heartbeat_ttl = _ms(self.dead_s)
        socket.tcp_keepalive = 1
        socket.tcp_keepalive_idle = 30
        socket.tcp_keepalive_intvl = 10
        socket.tcp_keepalive_cnt = 3


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
