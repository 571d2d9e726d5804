"""ETRN (RFC 1985): a client that is not always there asks for its mail, which is tried at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail import reply
from mailserv.mail.address import parse_domain
from mailserv.mail.extension import SessionView, SMTPExtension, StartQueue, Verb, VerbAnswer
from mailserv.mail.ip import is_within
from mailserv.mail.peer import Peer
from mailserv.mail.plugin import Services, reading
from mailserv.mail.reply import Reply
from mailserv.mail.values import Network

NOT_ALLOWED = Reply(459, "4.7.1", "You may not start the queue of that node")  # RFC 1985 §5.3
NO_QUEUES = Reply(501, "5.5.4", "There are no named queues here")


class Client(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    networks: Annotated[tuple[Network, ...], msgspec.Meta(description="where the client connects from")]
    domains: Annotated[
        tuple[str, ...], msgspec.Meta(description='whose mail it may ask for; "@example.net": with all subdomains')
    ]

    def may_start(self, domain: str, *, subdomains: bool) -> bool:
        """Whether the domain, with `subdomains` all of them too, is the client's."""
        for ours in self.domains:
            whole = ours.startswith("@")
            name = parse_domain(ours.removeprefix("@"))
            if (domain == name and (whole or not subdomains)) or (whole and domain.endswith(f".{name}")):
                return True
        return False


class EtrnSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    clients: Annotated[tuple[Client, ...], msgspec.Meta(description="who may ask for which mail; nobody else may")] = ()


def tell(node: str, count: int) -> Reply:
    """RFC 1985 §5.3: 251 when nothing waits, else 253 with the number of messages."""
    if not count:
        return Reply(251, "2.0.0", f"No messages waiting for node {node}")
    return Reply(253, "2.0.0", f"{count} pending messages for node {node} started")


class Plugin:
    Settings = EtrnSettings

    def __init__(self, settings: EtrnSettings, services: Services) -> None:
        self._clients = settings.clients
        with reading(services, "clients.domains"):
            for client in settings.clients:
                for name in client.domains:
                    parse_domain(name.removeprefix("@"))

    @hookimpl
    def register_smtp_extensions(self) -> Iterable[SMTPExtension]:
        verb = Verb(
            "ETRN",
            self._start,
            needs_greeting=True,
            in_transaction=False,
            help="ETRN domain, ETRN @domain: send what waits for it (RFC 1985)",
        )
        return [SMTPExtension("ETRN", lambda view: "" if self._rules(view.peer) else None, verbs=(verb,))]

    def _rules(self, peer: Peer) -> list[Client]:
        return [client for client in self._clients if is_within(peer.ip, client.networks)]

    def _start(self, view: SessionView, argument: str) -> VerbAnswer:
        """RFC 1985 §5.2: a node, "@" before it for its subdomains too, "#" for a queue of that name."""
        subdomains = argument.startswith("@")
        if argument.startswith("#"):
            return NO_QUEUES
        try:
            domain = parse_domain(argument.removeprefix("@").removesuffix("."))
        except ValueError:
            return reply.SYNTAX
        if not any(client.may_start(domain, subdomains=subdomains) for client in self._rules(view.peer)):
            return NOT_ALLOWED
        return StartQueue(domain, subdomains, lambda count: tell(argument, count))
