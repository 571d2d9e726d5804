"""Maildirs: local delivery into them, and POP3 out of them, beside Dovecot, mutt or anything else that reads them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import Address, parse_domain, parse_mailbox
from mailserv.mail.delivery import Attempt, Delivery, QueuedRow, Transport
from mailserv.mail.fields import return_path_prefix
from mailserv.mail.line_ends import with_lf
from mailserv.mail.maildrop import OpenedMaildrop
from mailserv.mail.outcome import Deferred, Delivered, Failed, Outcome
from mailserv.mail.plugin import Services, reading
from mailserv.mail.reply import LOCAL_ERROR, STORAGE_FULL, UNKNOWN_USER, Reply
from mailserv.mail.resolution import Resolution
from mailserv.mail.route import Route
from mailserv_maildir.folder import Maildir, NoBase, NoMaildir, unique_name
from mailserv_maildir.maildrop import MaildirDrop
from mailserv_maildir.template import Template

DELIVERED = Delivered(Reply(250, "2.0.0", "Delivered to the Maildir"))
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
FRESH = 10.0  # seconds; a message of that age that was never tried cannot have been delivered before


class MaildirSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: Annotated[
        str,
        msgspec.Meta(description="where a recipient's Maildir is; {local_part}, {domain} and {address} stand for it"),
    ] = "/var/mail/{domain}/{local_part}"
    domains: Annotated[
        tuple[str, ...],
        msgspec.Meta(description="of `local_domains`: whoever has a Maildir there gets the mail in it, from anybody"),
    ] = ()
    create: Annotated[
        bool, msgspec.Meta(description="make a Maildir that is not there; without it such a recipient is unknown")
    ] = False
    mode: Annotated[
        str, msgspec.Meta(pattern="^0?[0-7]{3}$", description="permissions of new folders; files get the same but x")
    ] = "0700"
    line_ends: Annotated[
        Literal["lf", "crlf"], msgspec.Meta(description="how lines end in the files; mail readers on Unix want lf")
    ] = "lf"
    subaddress: Annotated[
        str, msgspec.Meta(description='alice+tag has the Maildir of alice; "" gives it one of its own')
    ] = "+"


class MaildirTransport:
    """Named "maildir": the next hop is "" (the setting `path`) or a path of the same kind. Any number of threads."""

    def __init__(self, settings: MaildirSettings, services: Services) -> None:
        self._settings = settings
        self._services = services
        self._mode = int(settings.mode, 8)
        self._started = services.now()
        with reading(services, "path"):
            self._default = Template.parse(settings.path)
            if settings.domains and not self._default.tells_apart:
                raise ValueError(
                    "all who are in `domains` would have one Maildir; {local_part} or {address} is wanted in it"
                )
        with reading(services, "domains"):
            self._domains = frozenset(map(parse_domain, settings.domains))
        self._parse = lru_cache(maxsize=256)(Template.parse)
        self._sizes = lru_cache(maxsize=256)(_no_sizes)  # by Maildir, which one session at a time has

    def deliver(self, deliveries: Iterable[Delivery]) -> Iterator[Attempt]:
        """See `Transport.deliver`."""
        for delivery in deliveries:
            yield Attempt(delivery, tuple(self._deliver(delivery, row) for row in delivery.rows))

    def close(self) -> None:
        """See `Transport.close`."""

    def resolve(self, address: Address) -> Resolution | None:
        """Here, for whoever has a Maildir in one of `domains` (with `create` everybody has). Any thread, fast."""
        if address.domain not in self._domains:
            return None
        maildir = self._maildir("", address)
        if not maildir.base.is_dir():
            return Resolution(refusal=LOCAL_ERROR)  # 550 would be said of mail that only has to wait for a disk
        if not self._settings.create and not maildir.path.is_dir():
            return None
        return Resolution(remotes=((address, Route("maildir", "")),), is_local=True)

    def _deliver(self, delivery: Delivery, row: QueuedRow) -> Outcome:
        try:
            maildir = self._maildir(delivery.route.next_hop, row.forward_path)
            maildir.prepare(create=self._settings.create)
            name = unique_name(delivery.received_at, delivery.queue_id, row.forward_path, self._services.hostname)
            if not (self._may_be_a_repeat(delivery, row) and maildir.has(name)):
                maildir.add(self._sized(name, delivery, row), self._blocks(delivery, row), delivery.received_at)
            return DELIVERED
        except NoMaildir:
            return Failed(UNKNOWN_USER)
        except NoBase:
            return self._trouble(delivery, row, "the folder above all Maildirs is not there")
        except ValueError as error:
            return self._trouble(delivery, row, str(error))
        except OSError as error:
            reply = STORAGE_FULL if error.errno in FULL else LOCAL_ERROR
            return self._trouble(delivery, row, os.strerror(error.errno) if error.errno else str(error), reply)

    def open(self, address: str) -> MaildirDrop | None:
        """The maildrop of an account in one of `domains` who has a Maildir. Raises OSError: not now."""
        owner = parse_mailbox(address)
        if owner.domain not in self._domains:
            return None
        maildir = self._maildir("", owner)
        if not maildir.base.is_dir():
            raise FileNotFoundError(f"{maildir.base} is not there")  # an empty maildrop would make clients forget
        if not self._settings.create and not maildir.path.is_dir():
            return None
        return MaildirDrop(maildir.path, self._sizes(maildir.path))

    def _sized(self, name: str, delivery: Delivery, row: QueuedRow) -> str:
        """W is the size with CRLF, as Dovecot writes it: POP3 need not read the file to tell it."""
        return f"{name},W={len(return_path_prefix(delivery.reverse_path, row.forward_path)) + delivery.content.size}"

    def _maildir(self, next_hop: str, address: Address) -> Maildir:
        template = self._parse(next_hop) if next_hop else self._default
        at = address.local_part.find(self._settings.subaddress) if self._settings.subaddress else -1
        owner = Address(address.local_part[:at], address.domain) if at > 0 else address
        return Maildir(template.folder(owner), template.base, self._mode)

    def _may_be_a_repeat(self, delivery: Delivery, row: QueuedRow) -> bool:
        """Only then is all of cur read: a crash, or a store that failed, may have hidden that it was delivered."""
        age = self._services.now() - delivery.received_at
        return bool(row.attempts) or delivery.received_at <= self._started or age > FRESH

    def _blocks(self, delivery: Delivery, row: QueuedRow) -> Iterator[bytes]:
        prefix = return_path_prefix(delivery.reverse_path, row.forward_path)
        blocks = chain((prefix,), delivery.content.blocks())
        return with_lf(blocks) if self._settings.line_ends == "lf" else iter(blocks)

    def _trouble(self, delivery: Delivery, row: QueuedRow, error: str, reply: Reply = LOCAL_ERROR) -> Deferred:
        """The operator learns what is wrong, the sender only that it takes longer."""
        self._services.log.warning(
            "maildir_failed", queue_id=delivery.queue_id, recipient=str(row.forward_path), error=error
        )
        return Deferred(reply)


def _no_sizes(_: Path) -> dict[str, int]:
    return {}


class Plugin:
    Settings = MaildirSettings

    def __init__(self, settings: MaildirSettings, services: Services) -> None:
        self._transport = MaildirTransport(settings, services)

    @hookimpl
    def resolve_recipient(self, address: Address) -> Resolution | None:
        return self._transport.resolve(address)

    @hookimpl
    def open_maildrop(self, address: str) -> OpenedMaildrop | None:
        return self._transport.open(address)

    @hookimpl
    def register_transports(self) -> Iterable[tuple[str, Transport]]:
        return [("maildir", self._transport)]
