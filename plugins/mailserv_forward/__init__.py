"""A user's mail sent on to addresses elsewhere: the reverse-path rewritten by SRS, a copy kept where that is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import Address, parse_domain, parse_mailbox
from mailserv.mail.delivery import Attempt, Delivery, QueuedRow, Transport
from mailserv.mail.fields import printable
from mailserv.mail.message import PrefixedContent, header_section
from mailserv.mail.outcome import Deferred, Delivered, Failed, Outcome
from mailserv.mail.plugin import Services, SubmitError, reading
from mailserv.mail.reply import Reply
from mailserv.mail.resolution import Resolution
from mailserv.mail.route import Route
from mailserv.mail.values import Secret
from mailserv_forward.rewriting import Rewriting

LOOP = Failed(Reply(554, "5.4.6", "Routing loop: this message has been forwarded from here before"))
# Characters at least: whoever has seen one rewritten address can try secrets on it, and relay with the right one.
SECRET = 8
NOBODY = Deferred(Reply(451, "4.3.5", "This address is not forwarded any more; it will be tried again"))


class Forward(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    to: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, description="the addresses that get it")]
    keep: Annotated[bool, msgspec.Meta(description="leave a copy in the mailbox of this address's account")] = False


class ForwardSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    secret: Annotated[
        Secret, msgspec.Meta(description="signs rewritten reverse-paths; any long random text, at least 8 characters")
    ]
    srs_domain: Annotated[
        str, msgspec.Meta(description='of `local_domains`: where bounces come back to; "": the domain of the user')
    ] = ""
    users: Annotated[
        dict[str, Forward], msgspec.Meta(description="the address whose mail is forwarded, and where to")
    ] = msgspec.field(default_factory=dict)


class ForwardTransport:
    """Named "forward": the next hop is a user's address. A message is accepted anew for the user's targets, and then done
    with: its way from there is the queue's. Any number of threads.
    """

    def __init__(self, users: dict[str, tuple[Address, ...]], rewriting: Rewriting, services: Services) -> None:
        self._users = users
        self._rewriting = rewriting
        self._submit = services.submit

    def deliver(self, deliveries: Iterable[Delivery]) -> Iterator[Attempt]:
        """See `Transport.deliver`."""
        for delivery in deliveries:
            yield Attempt(delivery, tuple(self._deliver(delivery, row) for row in delivery.rows))

    def close(self) -> None:
        """See `Transport.close`."""

    def _deliver(self, delivery: Delivery, row: QueuedRow) -> Outcome:
        user = delivery.route.next_hop
        targets = self._users.get(user)
        if targets is None:
            return NOBODY
        mark = f"Delivered-To: {user}\r\n".encode()  # as Postfix's forwarding leaves it: what has it twice goes round
        if b"\r\n" + mark.lower() in b"\r\n" + header_section(delivery.content).lower():
            return LOOP
        reverse_path = self._rewriting.forward(delivery.reverse_path, parse_mailbox(user).domain)
        try:
            content, key = PrefixedContent(mark, delivery.content), f"{delivery.queue_id} {row.forward_path.key}"
            queue_id = self._submit(reverse_path, targets, content, key=key, smtputf8=delivery.is_smtputf8)
        except SubmitError as error:
            said = printable(str(error), 200)
            if error.retry_later:
                return Deferred(Reply(451, "4.3.0", f"It cannot be forwarded now: {said}"))
            return Failed(Reply(550, "5.3.0", f"It cannot be forwarded: {said}"))
        return Delivered(Reply(250, "2.0.0", f"Forwarded as {queue_id}"))


class Plugin:
    Settings = ForwardSettings

    def __init__(self, settings: ForwardSettings, services: Services) -> None:
        with reading(services, "secret"):
            if len(settings.secret) < SECRET:
                raise ValueError("anybody could guess it, and relay through this server; a long random text is wanted")
        self._keep: dict[str, bool] = {}
        users: dict[str, tuple[Address, ...]] = {}
        for name, forward in settings.users.items():
            with reading(services, f'users."{name}"'):
                user, targets = parse_mailbox(name).key, tuple(map(parse_mailbox, forward.to))
                if user in {target.key for target in targets}:
                    raise ValueError('it is forwarded to itself; "keep = true" keeps a copy')
                users[user], self._keep[user] = targets, forward.keep
        with reading(services, "srs_domain"):
            domain = parse_domain(settings.srs_domain) if settings.srs_domain else ""
        domains = {domain} if domain else {parse_mailbox(user).domain for user in users}
        self._rewriting = Rewriting(settings.secret, domain, frozenset(domains))
        self._transport = ForwardTransport(users, self._rewriting, services)

    @hookimpl
    def register_transports(self) -> Iterable[tuple[str, Transport]]:
        return [("forward", self._transport)]

    @hookimpl
    def resolve_recipient(self, address: Address) -> Resolution | None:
        user = next((key for key in (address.key, address.without_subaddress.key) if key in self._keep), None)
        if user is None:
            return None
        mailboxes = ((user, address),) if self._keep[user] else ()
        return Resolution(mailboxes=mailboxes, remotes=((address, Route("forward", user)),), is_local=True)

    @hookimpl
    def expand_recipient(self, address: Address) -> Sequence[Address] | None:
        """A bounce on its way back to who sent the message first."""
        original = self._rewriting.reverse(address)
        return None if original is None else [original]
