"""A delivery status notification before it is written: what it reports, to whom, and its words (RFC 3464)."""

from __future__ import annotations

from enum import Enum

from mailserv.mail.address import Address
from mailserv.mail.delivery import Delivery, QueuedRow
from mailserv.mail.outcome import Outcome
from mailserv.mail.value import Value


class NoticeKind(Enum):
    """What is reported, and to whom."""

    FAILED = "failed"  # to the reverse-path
    DELAYED = "delayed"  # to the reverse-path
    UNTOLD = "untold"  # a failure that the reverse-path can't be told: to postmaster
    SUCCEEDED = "succeeded"  # to the reverse-path, which asked for it


class Notice(Value, frozen=True):
    """All that one DSN is made of. `queue_id` is its own; `now` and `give_up_at` are seconds since the epoch (0: unknown).

    `reason`, for UNTOLD: why it goes to postmaster.
    """

    kind: NoticeKind
    queue_id: str
    hostname: str
    to: Address
    delivery: Delivery
    rows: tuple[tuple[QueuedRow, Outcome], ...]
    now: float
    give_up_at: float = 0.0
    reason: str = ""


class NoticeWords(Value, frozen=True):
    """What a notice says to a person. `subject` is one line; `text` has "\\n" line ends; both may be in any script.

    `fields`: (name, value) of further header fields, each one line: Reply-To, Organization, …
    """

    subject: str
    text: str
    fields: tuple[tuple[str, str], ...] = ()
