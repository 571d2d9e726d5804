"""Automatic answers for users who are away (RFC 3834): once in a while to each sender, never to a program."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import NULL_REVERSE_PATH, Address, parse_mailbox
from mailserv.mail.delivery import Attempt, Delivery, Transport
from mailserv.mail.message import BytesContent, header_section
from mailserv.mail.outcome import Delivered, Outcome
from mailserv.mail.plugin import Services, StoreError, SubmitError, reading
from mailserv.mail.reply import Reply
from mailserv.mail.resolution import Resolution
from mailserv.mail.route import Route
from mailserv.mail.values import Duration
from mailserv_vacation.answering import answer, why_not


class Away(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: Annotated[str, msgspec.Meta(min_length=1, description="what the answer says")]
    subject: Annotated[str, msgspec.Meta(description='of the answer; "": "Auto:" and that of the message')] = ""
    begins: Annotated[str, msgspec.Meta(description="the first day, as 2026-12-24 (UTC)")] = ""
    ends: Annotated[str, msgspec.Meta(description="the last day")] = ""
    addresses: Annotated[
        tuple[str, ...], msgspec.Meta(description="the user's other addresses: a message has to name one in To or Cc")
    ] = ()


class VacationSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    interval: Annotated[Duration, msgspec.Meta(description="so long a sender gets no second answer")] = Duration(
        7 * 86400
    )
    users: Annotated[
        dict[str, Away], msgspec.Meta(description="the address of an account, and what is answered for it")
    ] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class User:
    """One user's absence. `begins` and `ends` are epoch seconds."""

    address: Address
    names: frozenset[str]
    away: Away
    begins: float
    ends: float

    @classmethod
    def read(cls, name: str, away: Away) -> User:
        """Raises ValueError, which says what is wrong."""
        address = parse_mailbox(name)
        names = frozenset(parse_mailbox(text).key for text in (name, *away.addresses))
        begins = _day(away.begins) if away.begins else 0.0
        ends = _day(away.ends) + 86400.0 if away.ends else float("inf")
        if ends <= begins:
            raise ValueError("it ends before it begins")
        if not away.subject.isprintable():
            raise ValueError("the subject is one line")
        return cls(address, names, away, begins, ends)


class VacationTransport:
    """Named "vacation": the next hop is a user's address. The message itself is in the mailbox already, so its outcome here
    is always Delivered: an answer that can't be sent is not missed. Any number of threads.
    """

    def __init__(self, users: Mapping[str, User], interval: float, services: Services) -> None:
        self._users = users
        self._interval = interval
        self._services = services

    def deliver(self, deliveries: Iterable[Delivery]) -> Iterator[Attempt]:
        """See `Transport.deliver`."""
        for delivery in deliveries:
            outcome: Outcome = Delivered(Reply(250, "2.0.0", self._answer(delivery)))
            yield Attempt(delivery, (outcome,) * len(delivery.rows))

    def close(self) -> None:
        """See `Transport.close`."""

    def _answer(self, delivery: Delivery) -> str:
        """What was done about it."""
        user = self._users.get(delivery.route.next_hop)
        if user is None:
            return "No answer: the user is back"
        header = header_section(delivery.content)
        reason = why_not(delivery.reverse_path, header, self._names(user, delivery))
        if reason:
            return f"No answer: {reason}"
        now, sender = self._services.now(), delivery.reverse_path
        asked = f"{user.address.key} {sender.without_subaddress.key}"
        digest = hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        try:
            # First the mark: a crash in between costs an answer, and never makes two. By a count, because two workers may
            # have a message of this sender each.
            if self._services.table.increment(digest, 1, now + self._interval) > 1:
                return "No answer: this sender has had one"
            text = answer(user.address, sender, header, user.away.text, user.away.subject, now, delivery.queue_id)
            return f"Answered as {self._services.submit(NULL_REVERSE_PATH, [sender], BytesContent(text))}"
        except (StoreError, SubmitError) as error:
            self._services.log.warning(
                "vacation_failed", queue_id=delivery.queue_id, recipient=str(user.address), error=str(error)
            )
            return "No answer: it could not be sent"

    def _names(self, user: User, delivery: Delivery) -> frozenset[str]:
        """Also with the tag that it came for."""
        return user.names | {row.forward_path.key for row in delivery.rows}


class Plugin:
    Settings = VacationSettings

    def __init__(self, settings: VacationSettings, services: Services) -> None:
        self._now = services.now
        users: list[User] = []
        for name, away in settings.users.items():
            with reading(services, f'users."{name}"'):
                users.append(User.read(name, away))
        self._users = {user.address.key: user for user in users}
        self._transport = VacationTransport(self._users, settings.interval, services)

    @hookimpl
    def register_transports(self) -> Iterable[tuple[str, Transport]]:
        return [("vacation", self._transport)]

    @hookimpl
    def resolve_recipient(self, address: Address) -> Resolution | None:
        """Into the mailbox as always, and once more to here. Away only: at other times nobody notices this plugin."""
        user = self._users.get(address.key) or self._users.get(address.without_subaddress.key)
        if user is None or not user.begins <= self._now() < user.ends:
            return None
        key = user.address.key
        return Resolution(mailboxes=((key, address),), remotes=((address, Route("vacation", key)),), is_local=True)


def _day(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
