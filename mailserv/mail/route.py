"""Where a recipient's mail goes next."""

from __future__ import annotations

import re

from mailserv.errors import AddressSyntaxError
from mailserv.mail.address import parse_domain
from mailserv.mail.ip import plain_ip
from mailserv.mail.value import Value

MAILBOX = "mailbox"  # the row in the store is the delivery
SMTP = "smtp"  # the outbound queue, drained by the SMTP client
_HOST_AND_PORT = re.compile(r"\[([^\[\]]+)\](?::(\d{1,5}))?")
TRANSPORT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


class Route(Value, frozen=True, order=True):
    """A transport's name and its next hop, together the *destination* by which the queue groups.

    For "smtp" the next hop is a domain ("example.net": look up its MX) or "[host]:port" (no MX lookup).
    For "mailbox" it is the account's address. A plugin's transport gives it a meaning of its own.
    """

    transport: str
    next_hop: str

    def __str__(self) -> str:
        return f"{self.transport}:{self.next_hop}"


def parse_route(text: str) -> Route:
    """Read "smtp:[host]:port", "smtp:domain" or "transport:next_hop". Raises ValueError, which says what is wrong."""
    transport, colon, next_hop = text.partition(":")
    if not colon or not TRANSPORT_NAME.fullmatch(transport):
        raise ValueError(
            f'"{text}" is no route; it looks like "smtp:[host]:port", "smtp:domain" or "transport:next_hop"'
        )
    if transport == MAILBOX:
        raise ValueError(f'"{text}": mailboxes are reached by local_domains, not by a route')
    if transport != SMTP:
        return Route(transport, next_hop)
    if not next_hop.startswith("["):
        return Route(SMTP, _domain(next_hop, text))
    host = _HOST_AND_PORT.fullmatch(next_hop)
    if not host or not 0 < int(host.group(2) or 25) < 65536:
        raise ValueError(f'"{text}": a host without MX look-up is written "smtp:[host]:port"')
    return Route(SMTP, f"[{_host(host.group(1), text)}]:{int(host.group(2) or 25)}")


def _host(name: str, text: str) -> str:
    name = name[5:] if name[:5].lower() == "ipv6:" else name
    return plain_ip(name) if ":" in name else _domain(name, text)


def _domain(name: str, text: str) -> str:
    try:
        return parse_domain(name)
    except AddressSyntaxError as error:
        hint = '; with a port it is written "smtp:[host]:port"' if ":" in name else ""
        raise ValueError(f'"{text}": {error}{hint}') from error
