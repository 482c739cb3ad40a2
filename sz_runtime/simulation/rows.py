"""Addresses of rows, for people."""

from sz_protocol.records import CLAIMS_PER_TERM


def number(row: int) -> str:
    """The address of a row, as term and claim."""
    return f"{row // CLAIMS_PER_TERM}.{row % CLAIMS_PER_TERM}"
