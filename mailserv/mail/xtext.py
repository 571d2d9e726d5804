"""xtext, in which the DSN extension writes ENVID and ORCPT (RFC 3461 §4)."""

from __future__ import annotations

import re

_HEXCHAR = re.compile(r"\+([0-9A-F]{2})")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")


def decode_xtext(text: str) -> str:
    """The text behind an xtext; octets that are no UTF-8 become U+FFFD. Raises ValueError when it is no xtext."""
    if not _XTEXT.fullmatch(text):
        raise ValueError("this is no xtext (RFC 3461 §4)")
    octets = _HEXCHAR.sub(lambda hexchar: chr(int(hexchar.group(1), 16)), text)
    return octets.encode("latin-1").decode("utf-8", "replace")
