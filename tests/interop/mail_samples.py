"""Messages as they are sent: what comes back by POP3 has to end with these very octets."""

from __future__ import annotations

import base64
import random

HEADER = (
    b"From: Somebody <somebody@example.net>\r\n"
    b"To: You <you@example.org>\r\n"
    b"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\n"
    b"Message-ID: <sample@example.net>\r\n"
)


def _message(name: str, body: bytes, fields: bytes = b"") -> bytes:
    return HEADER + b"Subject: " + name.encode() + b"\r\n" + fields + b"\r\n" + body


def long_body(octets: int) -> bytes:
    """So many octets in lines of 76 characters, always the same."""
    text = base64.b64encode(random.Random(octets).randbytes(octets * 57 // 78))
    return b"".join(text[at : at + 76] + b"\r\n" for at in range(0, len(text), 76))


EIGHT_BIT = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"

PLAIN = _message("plain", b"Hello.\r\n")
SAMPLES = {
    "plain": PLAIN,
    "empty_body": _message("empty_body", b""),
    "eight_bit": _message(
        "eight_bit", "Grüße aus Köln, 你好\r\n".encode() + b"latin: \xe4\xf6\xfc \xff\r\n", EIGHT_BIT
    ),
    "dot_lines": _message("dot_lines", b".\r\n..\r\n...\r\n.hidden\r\n. \r\n\r\n.\r\n\r\nlast:\r\n.\r\n"),
    "long_line": _message("long_line", b"x" * 998 + b"\r\n." + b"y" * 997 + b"\r\n"),
    "five_megabytes": _message("five_megabytes", long_body(5_000_000)),
}
