"""What the tests of policy plugins share: a plugin made as the server makes it, and clients for it."""

from __future__ import annotations

import smtplib
from collections.abc import Mapping, Sequence
from typing import Any

from mailserv.clock import Clock
from mailserv.hooks.brought import Plugins
from mailserv.hooks.host import load_plugins
from mailserv.hooks.rooms import Rooms
from mailserv.mail.address import NULL_REVERSE_PATH, parse_mailbox
from mailserv.mail.envelope import Envelope, Recipient
from mailserv.mail.peer import Peer
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import WAIT_SECONDS, MailServer


def make_plugins(
    name: str, settings: Mapping[str, Any], *, clock: Clock | None = None, rooms: Rooms | None = None
) -> Plugins:
    """The plugin `name`, alone. Raises ConfigError as the server's start would."""
    sections = {name: settings}
    clock = clock or FakeClock()
    return load_plugins((name,), (), None, sections, hostname="mail.example.org", clock=clock, rooms=rooms)


def peer(ip: str, *, service: str = "smtp", login: str = "", relay: bool = False) -> Peer:
    return Peer(ip=ip, port=40_000, service=service, session_id="S", helo="client", login=login, relay=relay)


CLIENT = "127.0.0.5"  # this machine, too; 127.0.0.1 is the address that no list of clients may have (RFC 5782 §5)


def send_as_client(running: MailServer, reverse_path: str, forward_paths: Sequence[str], content: bytes) -> None:
    """As `running.send`, from CLIENT."""
    host, port = running.address("smtp")
    with smtplib.SMTP(host, port, "client.example.net", WAIT_SECONDS, source_address=(CLIENT, 0)) as client:
        client.sendmail(reverse_path, list(forward_paths), content)


def envelope(reverse_path: str, *forward_paths: str, **parameters: str) -> Envelope:
    """ "" is the null reverse-path."""
    sender = parse_mailbox(reverse_path) if reverse_path else NULL_REVERSE_PATH
    return Envelope(sender, tuple(Recipient(parse_mailbox(path)) for path in forward_paths), parameters)
