"""The deliveries of one batch on their way: taken, cut into transactions, settled recipient by recipient."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mailserv.errors import StoreError
from mailserv.mail.delivery import Attempt, Delivery
from mailserv.mail.message import header_section
from mailserv.mail.outcome import Deferred, Delivered, Failed, Outcome, Success
from mailserv.mail.reply import LOCAL_ERROR, MESSAGE_TOO_BIG, Reply, Severity
from mailserv.mail.route import Route
from mailserv.protocol.outgoing import ContentFacts, examine
from mailserv.protocol.smtp_client import Capabilities
from mailserv.protocol.smtp_transaction import Transaction, mail_command, rcpt_command

UNSENDABLE = Reply(554, "5.6.0", "The content has a NUL or a bare CR or LF; it can't be sent (RFC 5321 §2.3.8)")
BAD_ADDRESS = Reply(553, "5.1.3", "The address has a character that can't be sent")
NEEDS_BDAT = Reply(554, "5.6.3", "The content is binary (BODY=BINARYMIME), and can't be passed on so (RFC 3030 §3)")
NEEDS_SMTPUTF8 = Reply(553, "5.6.7", "The next hop does not take internationalised mail (RFC 6531)")


def outcome_of(reply: Reply, remote: str, success: Success = Success.RELAYED) -> Outcome:
    """RFC 5321 §4.2.1: the first digit decides. `success`: what a positive reply is to who asked for DSN."""
    match reply.severity:
        case Severity.TRANSIENT:
            return Deferred(reply, remote)
        case Severity.PERMANENT:
            return Failed(reply, remote)
        case _:
            return Delivered(reply, remote, success)


@dataclass(slots=True)
class Job:
    """One delivery that was taken, until its Attempt is given back. `outcomes` fills up in the order of the rows."""

    delivery: Delivery
    outcomes: list[Outcome | None]
    facts: ContentFacts = field(
        default_factory=lambda: ContentFacts(is_sendable=True, has_long_line=False, is_8bit=False)
    )
    needs_bdat: bool = False  # the content is binary (RFC 3030 §3)
    needs_utf8: bool = False  # the message as a whole, whoever the recipient

    @classmethod
    def take(cls, delivery: Delivery) -> Job:
        """Look at what may go out at all; what may not is settled at once."""
        job = cls(delivery, [None] * len(delivery.rows))
        try:
            job.facts = examine(delivery.content.blocks())
            job.needs_utf8 = _needs_utf8(delivery)
        except (OSError, StoreError):
            job.settle(Deferred(LOCAL_ERROR))
            return job
        is_lines = job.facts.is_sendable and not job.facts.has_long_line  # what DATA carries without a change
        if not is_lines and delivery.parameters.get("BODY", "").upper() == "BINARYMIME":
            job.needs_bdat = True
        elif not job.facts.is_sendable:
            job.settle(Failed(UNSENDABLE))
        if not str(delivery.reverse_path).isprintable():
            job.settle(Failed(BAD_ADDRESS))
        for index, row in enumerate(delivery.rows):
            if job.outcomes[index] is None and not str(row.forward_path).isprintable():
                job.outcomes[index] = Failed(BAD_ADDRESS)
        return job

    @property
    def open_rows(self) -> list[int]:
        """Indices of the rows without an outcome."""
        return [index for index, outcome in enumerate(self.outcomes) if outcome is None]

    def settle(self, outcome: Outcome) -> None:
        """The same for every row that has none yet."""
        self.outcomes = [known or outcome for known in self.outcomes]


def _needs_utf8(delivery: Delivery) -> bool:
    """RFC 6531 §3.2: an address or a header field outside ASCII; the parameter alone proves no need (§3.6)."""
    if not delivery.reverse_path.is_ascii:
        return True
    return "SMTPUTF8" in delivery.parameters and not header_section(delivery.content).isascii()


@dataclass(frozen=True, slots=True)
class Part:
    """Those rows of one job that go in one transaction."""

    job: Job
    rows: tuple[int, ...]
    success: Success = Success.RELAYED

    def split(self, limit: int | None) -> tuple[Part, Part | None]:
        """As many rows as the server takes in one transaction (RFC 9422), and the rest; None when there is none."""
        if limit is None or len(self.rows) <= limit:
            return self, None
        return Part(self.job, self.rows[:limit]), Part(self.job, self.rows[limit:])

    def begin(self, known: Capabilities, remote: str, *, reset_first: bool) -> tuple[Part, Transaction] | None:
        """The transaction with a server that can do this much, and the part that is in it; None when nobody is left."""
        job, delivery = self.job, self.job.delivery
        limit = known.size_limit
        if limit is not None and delivery.content.size > limit:
            self.settle(Failed(MESSAGE_TOO_BIG, remote, is_ours=True))
            return None
        if job.needs_bdat and not ("CHUNKING" in known and "BINARYMIME" in known):
            self.settle(Failed(NEEDS_BDAT, remote, is_ours=True))
            return None
        rows = self._without_unsupported(known, remote)
        if not rows:
            return None
        utf8 = "SMTPUTF8" in known and (
            job.needs_utf8
            or "SMTPUTF8" in delivery.parameters
            or any(not delivery.rows[index].forward_path.is_ascii for index in rows)
        )
        mail = mail_command(
            delivery.reverse_path,
            delivery.parameters,
            known,
            size=delivery.content.size,
            is_8bit=job.facts.is_8bit,
            utf8=utf8,
            is_binary=job.needs_bdat,
        )
        rcpts = [rcpt_command(row.forward_path, row.parameters, known) for row in map(delivery.rows.__getitem__, rows)]
        transaction = Transaction(
            mail, rcpts, pipelining="PIPELINING" in known, reset_first=reset_first, in_chunks=job.needs_bdat
        )
        success = Success.HANDED_ON if "DSN" in known else Success.RELAYED  # RFC 3461 §5.2.1, §5.2.2
        return Part(job, rows, success), transaction

    def settle(self, outcome: Outcome) -> None:
        """The same for every row of this part that has none yet."""
        for index in self.rows:
            self.job.outcomes[index] = self.job.outcomes[index] or outcome

    def record(self, transaction: Transaction, remote: str, *, missing: Outcome | None = None) -> None:
        """Each row's reply becomes its outcome; `missing` stands for one that never came."""
        for index, reply in zip(self.rows, transaction.replies, strict=True):
            said = outcome_of(reply, remote, self.success) if reply else missing
            self.job.outcomes[index] = said or self.job.outcomes[index]

    def record_answered(self, transaction: Transaction, remote: str) -> Part | None:
        """Only what the server said of a recipient before its end; the part that is left, None when nobody is."""
        left = []
        for index, reply in zip(self.rows, transaction.replies, strict=True):
            if reply is None or reply is transaction.closing:
                left.append(index)
            else:
                self.job.outcomes[index] = outcome_of(reply, remote, self.success)
        return Part(self.job, tuple(left)) if left else None

    def _without_unsupported(self, known: Capabilities, remote: str) -> tuple[int, ...]:
        if "SMTPUTF8" in known:
            return self.rows
        rows = []
        for index in self.rows:
            if self.job.needs_utf8 or not self.job.delivery.rows[index].forward_path.is_ascii:
                self.job.outcomes[index] = Failed(NEEDS_SMTPUTF8, remote, is_ours=True)
            else:
                rows.append(index)
        return tuple(rows)


class Work:
    """Takes deliveries as late as it can and knows which of them still owe an Attempt. One thread."""

    def __init__(self, deliveries: Iterable[Delivery], *, recipients: int) -> None:
        self._source = iter(deliveries)
        self._recipients = recipients
        self._parts: deque[Part] = deque()
        self._taken: list[Job] = []

    def destination(self) -> Route | None:
        """Where the batch goes; None when it is empty. Takes the first delivery."""
        self.has_part()
        return self._taken[0].delivery.route if self._taken else None

    def has_part(self) -> bool:
        """Whether there is something to send; takes the next delivery only when all that was taken is under way."""
        while not self._parts:
            delivery = next(self._source, None)
            if delivery is None:
                return False
            job = Job.take(delivery)
            self._taken.append(job)
            rows = job.open_rows
            starts = range(0, len(rows), self._recipients)
            self._parts.extend(Part(job, tuple(rows[start : start + self._recipients])) for start in starts)
        return True

    def next_part(self) -> Part | None:
        """The next transaction's worth."""
        return self._parts.popleft() if self.has_part() else None

    def put_back(self, part: Part) -> None:
        """It could not be sent there; it is the next one again."""
        self._parts.appendleft(part)

    def settle_rest(self, outcome: Outcome) -> None:
        """The same for every row that was taken and has none yet."""
        self._parts.clear()
        for job in self._taken:
            job.settle(outcome)

    def finished(self) -> Iterator[Attempt]:
        """The attempts that are complete, each once."""
        for job in [job for job in self._taken if None not in job.outcomes]:
            self._taken.remove(job)
            yield Attempt(job.delivery, tuple(outcome for outcome in job.outcomes if outcome is not None))
