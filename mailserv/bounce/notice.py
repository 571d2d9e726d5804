"""What a notice says to a person: plain, kind, and all that is needed to do something about it."""

from __future__ import annotations

import textwrap

from mailserv.mail.delivery import QueuedRow
from mailserv.mail.fields import date_time, printable
from mailserv.mail.notice import Notice, NoticeKind, NoticeWords
from mailserv.mail.outcome import Deferred, Delivered, Outcome, Success

# RFC 3463 §3: what the person who wrote the message can make of it. Subject and detail, without the class.
_HINTS = {
    "1.1": "There seems to be no such mailbox. Please look at the address for a slip.",
    "1.2": "There seems to be no such domain. Please look at what follows the @ for a slip.",
    "1.10": "This domain says that it takes no mail at all.",
    "2.1": "The mailbox is there, but takes no mail at present.",
    "2.2": "The mailbox is full.",
    "2.3": "The message is too large for this mailbox.",
    "3.4": "The message is too large for that server.",
    "4.1": "That server could not be reached.",
    "4.4": "It is not known where mail for this domain goes.",
    "4.6": "The message went in a circle.",
    "7.1": "That server refused the message; only the people who run it can say why.",
}

_SUCCESS = {
    Success.DELIVERED: "It is in the mailbox.",
    Success.RELAYED: "It was passed on to a server that does not tell what becomes of it; you will hear no more.",
    Success.EXPANDED: "It was passed on to the several addresses that this one stands for.",
    Success.HANDED_ON: "It was passed on to a server that will tell what becomes of it.",
}


def words(about: Notice) -> NoticeWords:
    """As the server says it: ASCII but for addresses and replies, lines of at most 78 characters but for long words."""
    return NoticeWords(_subject(about), _text(about))


def _subject(about: Notice) -> str:
    if about.kind is NoticeKind.DELAYED:
        return "Your message is late, and still on its way"
    if about.kind is NoticeKind.UNTOLD:
        return "A message could not be delivered, nor its sender told"
    if about.kind is NoticeKind.SUCCEEDED:
        return "Your message has arrived" if _all_arrived(about) else "Your message is on its way"
    return "Your message could not be delivered"


def _all_arrived(about: Notice) -> bool:
    return all(isinstance(outcome, Delivered) and outcome.success is Success.DELIVERED for _, outcome in about.rows)


def _text(about: Notice) -> str:
    paragraphs = [_wrapped(f"This is the mail system at {about.hostname}."), *map(_wrapped, _opening(about))]
    paragraphs += [_recipient(about.kind, row, outcome) for row, outcome in about.rows]
    paragraphs.append(_wrapped(_closing(about)))
    return "\n\n".join(paragraphs) + "\n"


def reporting_host(outcome: Outcome) -> str:
    """The name of the remote server in `outcome.remote` ("mx.example.net [192.0.2.1]:25"), or its literal; "" where it is
    we who report."""
    if _is_ours(outcome):
        return ""
    name = printable(outcome.remote, 255).partition(" ")[0]
    literal, bracket, _ = name.partition("]")
    return literal + bracket if name.startswith("[") else name


def _is_ours(outcome: Outcome) -> bool:
    return not isinstance(outcome, Delivered) and outcome.is_ours


def _opening(about: Notice) -> list[str]:
    many = len(about.rows) > 1
    arrived = date_time(about.delivery.received_at)
    to_whom = "these addresses" if many else "this address"
    if about.kind is NoticeKind.DELAYED:
        return [
            f"Your message of {arrived} has not yet been delivered to {to_whom}. You need not do anything: do not send it "
            "again, it is tried again by itself."
        ]
    if about.kind is NoticeKind.SUCCEEDED:
        return [f"Your message of {arrived} went well. You asked to be told what became of it for {to_whom}."]
    if about.kind is NoticeKind.UNTOLD:
        return [
            f"The message {about.delivery.queue_id} of {arrived} from <{about.delivery.reverse_path}> could not be delivered "
            f"to {to_whom}, and is no longer tried. You get this notice as postmaster, because {about.reason}."
        ]
    return [
        f"I am sorry to say that your message of {arrived} could not be delivered to {to_whom}. It is no longer tried. "
        "Recipients that are not named here are not concerned."
    ]


def _recipient(kind: NoticeKind, row: QueuedRow, outcome: Outcome) -> str:
    """One address: what happened, in the remote server's own words, and what it may mean."""
    name = f"  <{row.forward_path}>"
    if row.original != row.forward_path and row.original.domain:
        name += (
            f"\n  (you wrote to <{row.original}>)" if kind is not NoticeKind.UNTOLD else f"\n  (for <{row.original}>)"
        )
    remote = printable(outcome.remote, 300)
    said = printable(str(outcome.reply), keep_utf8=True)
    if isinstance(outcome, Delivered):
        return f"{name}\n{_indented(_SUCCESS[outcome.success])}"
    if remote:
        said = f"{remote}: {said}" if _is_ours(outcome) else f"{remote} said: {said}"
    lines = [name, _indented(said)]
    if isinstance(outcome, Deferred) and kind is not NoticeKind.DELAYED:
        tries = row.attempts + 1
        lines.append(_indented(f"Tried {tries} times, then given up." if tries > 1 else "Given up."))
    hint = _HINTS.get(outcome.reply.enhanced.partition(".")[2])
    if hint:
        lines.append(_indented(hint))
    return "\n".join(lines)


def _closing(about: Notice) -> str:
    if about.kind is NoticeKind.DELAYED:
        until = f" until {date_time(about.give_up_at)}" if about.give_up_at else ""
        return (
            f"It will be tried again{until}. If it can't be delivered, you will be told; if it can, you will hear no more "
            f"of it. Should you ask about it, its name here is {about.delivery.queue_id}."
        )
    if about.kind is NoticeKind.SUCCEEDED:
        return (
            f"Below is a report for mail programs. Should you ask about it, its name here is {about.delivery.queue_id}."
        )
    return (
        "Below are a report for mail programs and the beginning of the message. Should you ask about it, its name here is "
        f"{about.delivery.queue_id}; postmaster@{about.hostname} is where a person reads."
    )


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 76, break_long_words=False, break_on_hyphens=False)


def _indented(text: str) -> str:
    return textwrap.fill(
        text, 76, initial_indent="    ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
