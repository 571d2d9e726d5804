"""A header section in UTF-8 (RFC 6532) as one that every reader knows, by the rules of RFC 6858 §2. Information is lost."""

from __future__ import annotations

import re
from email.header import Header
from email.utils import formataddr

from mailserv.mail.address_list import read_addresses

INVALID = "invalid@internationalized-address.invalid"  # RFC 6858 §2.1: nobody can answer to it, and nobody shall
ADDRESSES = frozenset(
    b"from sender to cc bcc reply-to resent-from resent-sender resent-to resent-cc resent-bcc return-path".split()
)
_FIELD_END = re.compile(rb"\r\n(?![ \t])")
_PARAMETER = re.compile(r';\s*[^=;"]+=(?:"(?:[^"\\]|\\.)*"|[^;]*)')


def in_ascii(header: bytes) -> bytes:
    """The header section, as RFC 6858 has it: fields in ASCII stay; addresses keep a name that can be read and lose
    themselves; Subject is encoded (RFC 2047); MIME parameters that are not ASCII go, and so does every other such field.
    """
    fields = [field for field in _FIELD_END.split(header) if field]
    kept = [field if field.isascii() else _replaced(field) for field in fields]
    return b"".join(field + b"\r\n" for field in kept if field)


def _replaced(field: bytes) -> bytes:
    """b"" for a field that goes."""
    name, _, raw = field.partition(b":")
    value = " ".join(raw.decode("utf-8", "replace").split())
    if not name.isascii():
        return b""
    label = name.decode("ascii").strip()
    match label.lower():
        case "subject":
            text = _encoded(value, len(label))
        case "return-path":
            text = f"<{INVALID}>"
        case "content-type" | "content-disposition":
            text = _PARAMETER.sub(lambda found: found.group() if found.group().isascii() else "", value)
        case word if word.encode() in ADDRESSES:
            text = ",\r\n ".join(_address(*pair) for pair in read_addresses(value)) or f"<{INVALID}>"
        case _:
            return b""
    return f"{label}: {text}".encode("ascii") if text.isascii() else b""


def _address(name: str, address: str) -> str:
    """Who has no name has the address that could not be shown for one."""
    if address.isascii() and name.isascii():
        return formataddr((name, address))
    shown = _encoded(name or address, 0)
    return f"{shown} <{address if address.isascii() else INVALID}>"


def _encoded(text: str, used: int) -> str:
    """Encoded words of at most 75 characters, folded (RFC 2047 §2). `used`: the name of the field before it."""
    clean = "".join(character for character in text if character.isprintable())
    return Header(clean, "utf-8", maxlinelen=75, header_name="x" * used).encode(linesep="\r\n")
