"""Content as programs on this machine keep it: LF line ends, as in a Maildir or on a command's standard input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def with_lf(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Every CRLF an LF, also one that lies across the border of two blocks; any other CR stays. Holds one block."""
    half = b""
    for block in blocks:
        whole = half + block
        half = b"\r" if whole.endswith(b"\r") else b""
        yield whole.removesuffix(half).replace(b"\r\n", b"\n")
    if half:
        yield half


def with_crlf(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Every bare LF a CRLF, as content has it (RFC 5321 §2.3.8); a CRLF stays, and so does any other CR. Holds one block."""
    half = b""
    for block in blocks:
        whole = half + block
        half = b"\r" if whole.endswith(b"\r") else b""
        yield whole.removesuffix(half).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if half:
        yield half


def ended(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """With an end for the last line of what has CRLF. RETR sends one anyhow (RFC 1939 §3), and LIST must count it."""
    last = b"\n"
    for block in blocks:
        last = block[-1:] or last
        yield block
    if last != b"\n":
        yield b"\r\n"
