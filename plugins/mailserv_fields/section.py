"""A header section as its fields, changed, and what DKIM signatures cover (RFC 5322 §2.2, RFC 6376 §3.5, §5.4)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mailserv.mail.message import Content, field_name, header_fields, header_section

_SIGNED = re.compile(rb"(?:^|;)[ \t\r\n]*h[ \t\r\n]*=([^;]*)", re.IGNORECASE)
_SIGNATURES = frozenset({b"dkim-signature", b"arc-message-signature"})  # both have h= (RFC 8617 §4.1.2)
_FROM_CLAUSE = re.compile(rb"^Received: from .*?\r\n\tby ", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Changes:
    """`remove`: names in small letters, those that `add` replaces among them. `signed`: a signature holds nothing back."""

    remove: frozenset[bytes]
    add: bytes
    hides_client: bool
    signed: bool

    def __bool__(self) -> bool:
        return bool(self.remove or self.hides_client)


def changed(content: Content, changes: Changes, *, our_received: bool) -> tuple[bytes | None, tuple[str, ...]]:
    """The whole content, None when it stays as it is; and the names that a signature kept from being changed."""
    section = header_section(content)
    fields = header_fields(section)
    if section and not fields:
        return None, ()  # its end is further away than anybody looks for it
    ours, rest = (fields[:1], fields[1:]) if our_received else ([], fields)
    added = header_fields(changes.add)
    touched = {*map(field_name, added), *(changes.remove & set(map(field_name, rest)))}
    kept = set() if changes.signed else touched & _covered(rest)
    new = [_hidden(field) for field in ours] if changes.hides_client else ours
    new += [field for field in added if field_name(field) not in kept]
    new += [field for field in rest if field_name(field) in kept or field_name(field) not in changes.remove]
    names = tuple(sorted(name.decode("ascii", "replace") for name in kept))
    if new == fields:
        return None, names
    return b"".join(new) + b"".join(content.blocks())[len(section) :], names


def _covered(fields: Iterable[bytes]) -> set[bytes]:
    """Every name in some signature's h=, whether there is such a field or not: that there is none may be signed, too."""
    tags = [_SIGNED.search(field.partition(b":")[2]) for field in fields if field_name(field) in _SIGNATURES]
    return {name.strip().lower() for tag in tags if tag for name in tag.group(1).split(b":")}


def _hidden(received: bytes) -> bytes:
    """Our Received field without its FROM clause."""
    return _FROM_CLAUSE.sub(b"Received: by ", received, count=1)
