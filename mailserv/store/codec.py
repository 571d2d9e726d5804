"""How nouns are written in columns: addresses as text that reads back exactly, mappings and trace as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from mailserv.mail.address import NULL_REVERSE_PATH, Address
from mailserv.mail.trace import TraceEntry

_encode = msgspec.json.encode
_parameters = msgspec.json.Decoder(dict[str, str])
_trace = msgspec.json.Decoder(list[TraceEntry])

Undecodable = (msgspec.DecodeError, msgspec.ValidationError)


def pack_address(address: Address) -> str:
    """The local-part unquoted, "@", the domain; "" for the null reverse-path. A domain has no "@", so this reads back."""
    return "" if address.is_null else f"{address.local_part}@{address.domain}"


def unpack_address(text: str) -> Address:
    """The inverse of `pack_address`."""
    if not text:
        return NULL_REVERSE_PATH
    local_part, _, domain = text.rpartition("@")
    return Address(local_part, domain)


def pack_parameters(parameters: Mapping[str, str]) -> str:
    return _encode(dict(parameters)).decode() if parameters else "{}"


def unpack_parameters(text: str) -> dict[str, str]:
    """Raises `Undecodable`."""
    return _parameters.decode(text) if text != "{}" else {}


def pack_trace(entries: Sequence[TraceEntry]) -> str:
    return _encode(entries).decode()


def unpack_trace(text: str) -> list[TraceEntry]:
    """Raises `Undecodable`."""
    return _trace.decode(text)
