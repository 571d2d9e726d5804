"""What bounces and other notices say besides our own words, and who is not told at all (RFC 3464; RFC 5321 §6.2)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import Address, parse_domain, parse_mailbox
from mailserv.mail.delivery import QueuedRow
from mailserv.mail.notice import Notice, NoticeKind, NoticeWords
from mailserv.mail.plugin import Services, reading
from mailserv.mail.value import replace
from mailserv.mail.verdict import Verdict, reject

HOUR = 3600.0  # seconds
WIDTH = 76  # characters: as our own words


class BounceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    contact: Annotated[str, msgspec.Meta(description="address of a person, which notices name and answers go to")] = ""
    words: Annotated[
        dict[str, str],
        msgspec.Meta(description="kind of notice → a paragraph more, in any language"),
    ] = {}
    quiet_for: Annotated[
        tuple[str, ...], msgspec.Meta(description="addresses and domains of senders that get no notice")
    ] = ()
    quiet_about: Annotated[
        tuple[str, ...], msgspec.Meta(description="addresses and domains of recipients that no notice tells of")
    ] = ()
    per_hour: Annotated[
        int, msgspec.Meta(ge=0, description="notices to one address in an hour; more are not sent; 0: no limit")
    ] = 0


class Plugin:
    Settings = BounceSettings

    def __init__(self, settings: BounceSettings, services: Services) -> None:
        self._settings = settings
        self._table = services.table
        self._now = services.now
        with reading(services, "contact"):
            self._contact = str(parse_mailbox(settings.contact)) if settings.contact else ""
        with reading(services, "quiet_for"):
            self._quiet_for = frozenset(map(_key, settings.quiet_for))
        with reading(services, "quiet_about"):
            self._quiet_about = frozenset(map(_key, settings.quiet_about))

    @hookimpl
    def check_config(self) -> Iterable[str]:
        if not self._contact.isascii():
            yield "contact: is not ASCII, which a Reply-To field of a plain message cannot hold"
        kinds = [kind.value for kind in NoticeKind]
        for kind, text in self._settings.words.items():
            if kind not in kinds:
                yield f"words.{kind}: is no kind of notice; there are {', '.join(kinds)}"
            if not text.replace("\n", " ").isprintable():
                yield f"words.{kind}: has a control character"

    @hookimpl
    def dsn_policy(self, notice: Notice, row: QueuedRow) -> Verdict | None:
        if _is_among(self._quiet_for, notice.to) or _is_among(self._quiet_for, notice.delivery.reverse_path):
            return reject("No notice", reason=f"quiet for <{notice.delivery.reverse_path}>")
        if self._settings.per_hour and self._count(notice, row) > self._settings.per_hour:
            return reject("No notice", reason=f"<{notice.to}> had {self._settings.per_hour} this hour")
        if _is_among(self._quiet_about, row.forward_path) or _is_among(self._quiet_about, row.original):
            return reject("No notice", reason=f"quiet about <{row.forward_path}>")
        return None

    @hookimpl
    def dsn_compose(self, notice: Notice, words: NoticeWords) -> NoticeWords | None:
        more = self._settings.words.get(notice.kind.value, "").strip()
        paragraphs = [textwrap.fill(" ".join(more.split()), WIDTH)] if more else []
        if self._contact:
            paragraphs.append(f"A person answers at <{self._contact}>.")
        if not paragraphs:
            return None
        fields = (*words.fields, ("Reply-To", self._contact)) if self._contact else words.fields
        return replace(words, text="\n\n".join([words.text.rstrip("\n"), *paragraphs]) + "\n", fields=fields)

    def _count(self, notice: Notice, row: QueuedRow) -> int:
        """How many notices this one makes: counted at its first recipient, read at the others."""
        key = f"told {notice.to.without_subaddress.key}"
        if row is notice.rows[0][0]:
            return self._table.increment(key, 1, self._now() + HOUR)
        return int(self._table.get(key) or 0)


def _key(text: str) -> str:
    """An address as `Address.key` writes it, or a domain. Raises ValueError."""
    return parse_mailbox(text).key if "@" in text else parse_domain(text)


def _is_among(keys: frozenset[str], address: Address) -> bool:
    return not address.is_null and (address.key in keys or address.domain.lower() in keys)
