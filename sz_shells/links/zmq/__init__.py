"""Links over ZeroMQ: bytes in, bytes out, to and from processes that are known by their keys."""
