"""The client's name in DNS, confirmed: iprev of RFC 8601 §3. PTR says a name, and the name has to lead back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.auth_result import AuthResult
from mailserv.mail.ip import parse_ip
from mailserv.mail.peer import Peer
from mailserv.mail.plugin import Names, ResolverError, Services

TIME_LIMIT = 30.0  # seconds: then no further name is looked up, so that the last question ends within the hook's budget


class IprevSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    names: Annotated[
        int, msgspec.Meta(ge=1, description="so many names of an address are looked up; some have hundreds")
    ] = 10


class Plugin:
    Settings = IprevSettings

    def __init__(self, settings: IprevSettings, services: Services) -> None:
        self._settings = settings
        self._dns = services.dns
        self._monotonic = services.monotonic

    @hookimpl
    def message_authenticate(self, peer: Peer) -> Sequence[AuthResult] | None:
        if not peer.is_stranger:
            return None  # the name of somebody's phone says nothing: who it is, the login has proven
        result, name, reason = look_up(self._dns, peer.ip, self._settings.names, self._monotonic)
        return [AuthResult("iprev", result, (("policy.iprev", peer.ip),), reason, name)]


def look_up(dns: Names, ip: str, most: int, monotonic: Callable[[], float]) -> tuple[str, str, str]:
    """The result, the confirmed name, and the reason where there is none (RFC 8601 §2.7.3, §3)."""
    ends = monotonic() + TIME_LIMIT
    try:
        names = dns.ptr(ip)[:most]
    except ResolverError as error:
        return "temperror", "", str(error)
    if not names:
        return "permerror", "", "the address has no name"
    trouble = ""
    for name in names:
        if monotonic() >= ends:  # a client may have names in a zone whose servers are dead
            trouble = trouble or f"no time is left for {name}"
            break
        try:
            if parse_ip(ip) in map(parse_ip, dns.addresses(name)):
                return "pass", name, ""
        except ResolverError as error:
            trouble = str(error)
    return ("temperror", "", trouble) if trouble else ("fail", "", f"{names[0]} does not lead back")
