"""Mailing lists: a message to the list goes to its members under the list's own reverse-path (RFC 5321 §3.9.2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import Address, parse_mailbox
from mailserv.mail.delivery import Transport
from mailserv.mail.envelope import Envelope
from mailserv.mail.peer import Peer
from mailserv.mail.plugin import Services, reading
from mailserv.mail.reply import LOCAL_ERROR
from mailserv.mail.resolution import Resolution
from mailserv.mail.route import Route
from mailserv.mail.verdict import Verdict, reject, tempfail
from mailserv_list.members import Members
from mailserv_list.posting import ROLES, ListTransport, MailingList


class ListOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    owner: Annotated[str, msgspec.Meta(description="who gets the list's bounces, and mail to NAME-owner")]
    members: Annotated[tuple[str, ...], msgspec.Meta(description="the addresses on the list")] = ()
    members_file: Annotated[
        Path | None, msgspec.Meta(description="more of them, one a line; read again when it changes")
    ] = None
    posting: Annotated[
        Literal["members", "anyone"], msgspec.Meta(description="who may send to the list, by reverse-path")
    ] = "members"


class ListSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    lists: Annotated[
        dict[str, ListOf], msgspec.Meta(description="the list's address, of `local_domains`, and the list")
    ] = msgspec.field(default_factory=dict)


def _list(name: str, settings: ListOf) -> MailingList:
    address = parse_mailbox(name)
    if not str(address).isascii() or str(address).startswith('"'):
        raise ValueError("a list has a plain name")
    try:
        members = Members(settings.members, settings.members_file)
    except OSError as error:
        raise ValueError(f"members_file: {settings.members_file}: {error.strerror}") from error
    made = MailingList(address, parse_mailbox(settings.owner), members, settings.posting == "anyone")
    for role in ROLES:
        parse_mailbox(str(made.role(role)))  # a long name has no room for -bounces (RFC 5321 §4.5.3.1.1)
    return made


class Plugin:
    Settings = ListSettings

    def __init__(self, settings: ListSettings, services: Services) -> None:
        made: list[MailingList] = []
        for name, its in settings.lists.items():
            with reading(services, f'lists."{name}"'):
                made.append(_list(name, its))
        self._lists = {each.address.key: each for each in made}
        self._owners = {each.role(role).key: each.owner for each in made for role in ROLES}
        self._transport = ListTransport(self._lists, services)

    @hookimpl
    def register_transports(self) -> Iterable[tuple[str, Transport]]:
        return [("list", self._transport)]

    @hookimpl
    def resolve_recipient(self, address: Address) -> Resolution | None:
        if address.key not in self._lists:
            return None
        return Resolution(remotes=((address, Route("list", address.key)),), is_local=True)

    @hookimpl
    def expand_recipient(self, address: Address) -> Sequence[Address] | None:
        """NAME-owner, NAME-bounces and NAME-request are the owner."""
        owner = self._owners.get(address.key)
        return None if owner is None else [owner]

    @hookimpl
    def smtp_rcpt(self, peer: Peer, envelope: Envelope, forward_path: Address) -> Verdict | None:
        """Early, so that nobody gets a bounce; what comes over an alias is judged when it is posted."""
        found = self._lists.get(forward_path.key)
        if found is None:
            return None
        try:
            refusal = found.refuses(envelope.reverse_path)
        except (OSError, ValueError):
            return tempfail(LOCAL_ERROR.text, reason="the members cannot be read")
        return reject(refusal.text, enhanced=refusal.enhanced, reason="not a member") if refusal else None
