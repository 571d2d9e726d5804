"""What makes a list's message of one that was sent to it (RFC 5321 §3.9.2, RFC 2369, RFC 2919)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mailserv.mail.address import Address
from mailserv.mail.delivery import Attempt, Delivery
from mailserv.mail.fields import printable
from mailserv.mail.message import Content, PrefixedContent, header_section
from mailserv.mail.outcome import Deferred, Delivered, Failed, Outcome
from mailserv.mail.plugin import Services, StoreError, SubmitError
from mailserv.mail.reply import LOCAL_ERROR, Reply
from mailserv_list.members import Members

ROLES = ("owner", "bounces", "request")  # RFC 2142 §6 has NAME-request; the others are custom
REMEMBERED = 7 * 86400.0  # seconds; longer than anything waits in the queue
NO_BOUNCES = Reply(550, "5.7.1", "A mailing list takes no message without a sender")
NOT_A_MEMBER = Reply(550, "5.7.2", "Only members may send to this list")
LOOP = Reply(554, "5.4.6", "Routing loop: this message has been on this list before")
NO_LIST = Reply(451, "4.3.5", "This list is not set up any more; it will be tried again")
_LIST_ID = re.compile(rb"^list-id:[^\r\n]*(?:\r\n[ \t][^\r\n]*)*", re.IGNORECASE | re.MULTILINE)
_ANOTHERS = re.compile(  # RFC 2369 §4; List-Unsubscribe-Post says how to use the field before it
    rb"^list-(?:id|help|owner|post|(?:un)?subscribe(?:-post)?)[ \t]*:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class MailingList:
    """One list. Any thread."""

    address: Address
    owner: Address
    members: Members
    is_open: bool

    @property
    def list_id(self) -> str:
        """RFC 2919 §2."""
        return f"{self.address.local_part.lower()}.{self.address.domain}"

    def role(self, name: str) -> Address:
        """One of ROLES: mail to it goes to the owner."""
        return Address(f"{self.address.local_part}-{name}", self.address.domain)

    def refuses(self, reverse_path: Address) -> Reply | None:
        """Whether this reverse-path may post. A bounce never may: the members have not sent it (RFC 5321 §4.5.5)."""
        if reverse_path.is_null:
            return NO_BOUNCES
        if self.is_open or reverse_path.key == self.owner.key or reverse_path.key in self.members.now():
            return None
        return NOT_A_MEMBER

    def has_had(self, header: bytes) -> bool:
        """Whether this message has been on this list before. A list in between may have put its own List-Id there."""
        mark = f"<{self.list_id}>".encode()
        if b"\r\n" + self._mark.lower() in b"\r\n" + header.lower():
            return True
        return any(mark in found.lower() for found in _LIST_ID.findall(header))

    @property
    def _mark(self) -> bytes:
        return f"Delivered-To: {self.address}\r\n".encode()

    def marked(self, content: Content) -> Content:
        """The message with the list's fields above it, each of them there once (RFC 2369 §3, RFC 2919 §3).

        Those of another list, or of a member who wants to be one, are taken out. Nothing else is changed, so that its
        signatures stay good.
        """
        header = header_section(content)
        cleaned = _ANOTHERS.sub(b"", header)
        if cleaned == header:
            return PrefixedContent(self._fields(), content)
        return PrefixedContent(self._fields() + cleaned, _Below(content, len(header)))

    def _fields(self) -> bytes:
        lines = (
            f"List-Id: <{self.list_id}>",
            f"List-Post: <mailto:{self.address}>",
            f"List-Owner: <mailto:{self.role('owner')}>",
            f"List-Unsubscribe: <mailto:{self.role('request')}?subject=unsubscribe>",
            "Precedence: list",
        )
        return self._mark + "".join(f"{line}\r\n" for line in lines).encode()


@dataclass(frozen=True, slots=True)
class _Below:
    """Content from an octet on."""

    content: Content
    start: int

    @property
    def size(self) -> int:
        return self.content.size - self.start

    def blocks(self) -> Iterator[bytes]:
        left = self.start
        for block in self.content.blocks():
            if left < len(block):
                yield block[left:]
            left = max(left - len(block), 0)


class ListTransport:
    """Named "list": the next hop is a list's address. A message is accepted anew for the members. Any number of threads."""

    def __init__(self, lists: Mapping[str, MailingList], services: Services) -> None:
        self._lists = lists
        self._services = services

    def deliver(self, deliveries: Iterable[Delivery]) -> Iterator[Attempt]:
        """See `Transport.deliver`."""
        for delivery in deliveries:
            outcome = self._deliver(delivery)
            yield Attempt(delivery, (outcome,) * len(delivery.rows))

    def close(self) -> None:
        """See `Transport.close`."""

    def _deliver(self, delivery: Delivery) -> Outcome:
        found = self._lists.get(delivery.route.next_hop)
        if found is None:
            return Deferred(NO_LIST)
        try:
            refusal = found.refuses(delivery.reverse_path)
            members = [each for key, each in found.members.now().items() if key != found.address.key]
        except (OSError, ValueError) as error:
            self._services.log.warning(
                "list_unreadable", queue_id=delivery.queue_id, list=str(found.address), error=str(error)
            )
            return Deferred(LOCAL_ERROR)
        if found.has_had(header_section(delivery.content)):
            refusal = LOOP
        return Failed(refusal) if refusal else self._post(found, members, delivery)

    def _post(self, found: MailingList, members: list[Address], delivery: Delivery) -> Outcome:
        """To all at once; where one of them is refused, for good or for now (his mailbox is full), to each by itself, so
        that it costs the others nothing."""
        if not members:
            return Delivered(Reply(250, "2.0.0", "The list has no members"))
        content = found.marked(delivery.content)
        singly = f"{delivery.queue_id} singly"
        if not self._services.table.get(singly):
            key = f"{delivery.queue_id} {found.address.key}"
            try:
                queue_id = self._services.submit(
                    found.role("bounces"), members, content, key=key, smtputf8=delivery.is_smtputf8
                )
                return Delivered(Reply(250, "2.0.0", f"Posted to {len(members)} members as {queue_id}"))
            except SubmitError as error:
                try:
                    self._services.table.put(singly, "yes", self._services.now() + REMEMBERED)  # all at once no more
                except StoreError:  # it is the store that refused it, and no member
                    return _later(error)
        late = None
        for member in members:
            late = self._post_to_one(found, member, delivery, content) or late
        return _later(late) if late else Delivered(Reply(250, "2.0.0", "Posted to each member who could be reached"))

    def _post_to_one(
        self, found: MailingList, member: Address, delivery: Delivery, content: Content
    ) -> SubmitError | None:
        """Once, even when the message is tried again for the sake of somebody else. The error if it may do later."""
        table, digest = self._services.table, hashlib.sha256(member.key.encode()).hexdigest()[:24]
        mark = f"{delivery.queue_id} {digest}"
        if table.get(mark):
            return None
        try:
            self._services.submit(found.role("bounces"), [member], content, key=mark, smtputf8=delivery.is_smtputf8)
        except SubmitError as error:
            if error.retry_later:
                return error
            self._services.log.warning(
                "list_member_refused",
                queue_id=delivery.queue_id,
                list=str(found.address),
                member=str(member),
                error=str(error),
            )
        table.put(mark, "done", self._services.now() + REMEMBERED)
        return None


def _later(error: SubmitError) -> Deferred:
    return Deferred(Reply(451, "4.3.0", f"It cannot be posted now: {printable(str(error), 200)}"))
