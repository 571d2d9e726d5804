"""The addresses in a header field of a stranger's message (RFC 5322 §3.4), in bounded time and depth."""

from __future__ import annotations

from email.utils import getaddresses

LONGEST = 8_192  # characters of one field; the time that is taken grows with the square of a group's members


def read_addresses(value: str) -> list[tuple[str, str]]:
    """(name, address) pairs, of a longer field those at its start. None of one in which comments or groups stand in each
    other deeper than anybody writes: the standard library reads each level by a call of its own, until Python ends that.
    """
    if len(value) > LONGEST:
        value = value[:LONGEST].rpartition(",")[0]
    try:
        return getaddresses([value])
    except RecursionError:
        return []
