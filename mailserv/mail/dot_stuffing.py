"""Content on its way out, with its dots (RFC 5321 §4.5.2, RFC 1939 §3): whole blocks, never line by line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def stuff_whole(content: bytes) -> bytes:
    """`stuff`, for content that is in memory whole."""
    content = content.replace(b"\r\n.", b"\r\n..")  # the same object when there is none, and sooner than `in`
    if content.startswith(b"."):
        content = b"." + content
    return content + (b".\r\n" if content.endswith(b"\r\n") or not content else b"\r\n.\r\n")


def stuff(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Dot-stuffed content ready for the wire, its last line ended if it was not, and the final ".\\r\\n".

    Holds one block at a time. The caller's content has CRLF line ends; bare ones pass as they are.
    """
    tail = b"\r\n"
    for block in blocks:
        if not block:
            continue
        if block[0] == 0x2E and tail == b"\r\n":
            yield b"."
        elif tail[-1:] == b"\r" and block.startswith(b"\n."):
            yield b"\n."
            block = block[1:]
        tail = (tail + block[-2:])[-2:]
        yield block.replace(b"\r\n.", b"\r\n..") if b"\r\n." in block else block
    yield b".\r\n" if tail == b"\r\n" else b"\r\n.\r\n"
