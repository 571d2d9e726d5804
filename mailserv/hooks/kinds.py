"""What a hook is to the runner: its kind, what counts as an answer, and its defaults."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypeVar

import pluggy

from mailserv.errors import AddressSyntaxError
from mailserv.mail.address import Address, parse_path
from mailserv.mail.auth_result import AuthResult
from mailserv.mail.finding import Finding
from mailserv.mail.message import BytesContent, PrefixedContent
from mailserv.mail.notice import NoticeWords
from mailserv.mail.reply import Reply
from mailserv.mail.resolution import Resolution
from mailserv.mail.route import MAILBOX, Route
from mailserv.mail.tls_mode import TLS_MODES
from mailserv.mail.verdict import Action, Verdict

F = TypeVar("F", bound=Callable[..., Any])


class Kind(Enum):
    """What the runner does with the answers and with a plugin that fails."""

    COLLECT = "collect"
    DECIDE = "decide"
    PROVIDE = "provide"
    TRANSFORM = "transform"
    GATHER = "gather"
    NOTIFY = "notify"


OnError = Literal["tempfail", "skip"]
BUDGET = 10.0  # seconds for one call: a client waits for 5 minutes (RFC 5321 §4.5.3.2), a dozen plugins still fit
LONG_BUDGET = (
    60.0  # seconds for a call that works on a whole message: a client waits 10 minutes for the final dot's reply
)


@dataclass(frozen=True, slots=True)
class Spec:
    """What the runner knows of a hook. `changes`: the argument that a transform hands on."""

    kind: Kind
    is_answer: Callable[[Any], bool]
    on_error: OnError
    budget: float
    changes: str


KINDS: dict[str, Kind] = {}
SPECS: dict[str, Spec] = {}
_spec = pluggy.HookspecMarker("mailserv")


class Lie(ValueError):
    """Why something is no answer, where its type does not tell. The plugin's author reads it in the log."""


def fault(is_answer: Callable[[Any], bool], answer: object) -> str | None:
    """Why it is no answer, "" where its type tells; None: it is one. It may be a plugin's own object, whose parts raise
    when they are looked at."""
    try:
        return None if is_answer(answer) else ""
    except Lie as lie:
        return str(lie)
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything, here too
        return f"to look at it raises {type(error).__name__}"


def must(holds: object, otherwise: str) -> bool:
    """True; raises Lie where it does not hold."""
    if not holds:
        raise Lie(otherwise)
    return True


NO_REPLY = "its reply is none from %d to 599 with an enhanced status and printable text"


def is_refusal(answer: object) -> bool:
    """A Verdict that refuses: 4xx or 5xx, in lines that cannot break the reply. Anything else would be a lie."""
    if not isinstance(answer, Verdict) or not isinstance(answer.action, Action):
        return False
    return must(is_reply(answer.reply, 400), NO_REPLY % 400)


_ENHANCED = re.compile(r"(?:[245]\.\d{1,3}\.\d{1,3})?")  # RFC 3463 §2; "" where RFC 2034 §4 allows none


def is_reply(answer: object, least: int = 200) -> bool:
    """A Reply from this code on, whose parts stay what they are on the wire."""
    if not isinstance(answer, Reply) or not isinstance(answer.code, int) or not least <= answer.code <= 599:
        return False
    return _ENHANCED.fullmatch(answer.enhanced) is not None and is_lines(answer.text)


def is_lines(text: str) -> bool:
    """Lines of a reply: nothing in them that ends one on the wire, or would act on a terminal (invariant 10)."""
    return all(map(str.isprintable, text.split("\n")))


def is_resolution(answer: object) -> bool:
    """A Resolution whose parts are what they say."""
    if not isinstance(answer, Resolution):
        return False
    must(answer.refusal is None or is_reply(answer.refusal, 400), NO_REPLY % 400)
    mailboxes = all(isinstance(account, str) and is_address(reached) for account, reached in answer.mailboxes)
    must(mailboxes, "its mailboxes are no (account, Address) pairs")
    remotes = all(is_address(reached) and is_route(route) for reached, route in answer.remotes)
    must(remotes, "its remotes are no (Address, Route) pairs")
    return must(
        all(isinstance(step, str) and step.isprintable() for step in answer.steps), "a step is no printable line"
    )


def is_addresses(answer: object) -> bool:
    """A list or tuple of addresses that mail can go to."""
    if not isinstance(answer, list | tuple):
        return False
    return must(all(is_address(a) and not a.is_null for a in answer), "it holds what is no Address")


def is_route(answer: object) -> bool:
    """A Route for the queue: a mailbox is none."""
    if not isinstance(answer, Route) or not isinstance(answer.next_hop, str) or not isinstance(answer.transport, str):
        return False
    return bool(answer.transport) and answer.transport != MAILBOX and str(answer).isprintable()


def is_delay(answer: object) -> bool:
    """Seconds that can be waited."""
    return isinstance(answer, int | float) and not isinstance(answer, bool) and 0 <= answer < float("inf")


def is_content(answer: object) -> bool:
    """Content in memory, whose lines all end in CRLF (invariant 5)."""
    return isinstance(answer, BytesContent) and _is_lines(answer.data)


def is_sent_content(answer: object) -> bool:
    """The same; or fields above content that is no plugin's, which is not looked at again: it may be large."""
    if not isinstance(answer, PrefixedContent):
        return is_content(answer)
    below: object = answer.content
    if isinstance(below, BytesContent | PrefixedContent):
        return _is_lines(answer.prefix) and is_sent_content(below)
    return _is_lines(answer.prefix) and hasattr(below, "blocks") and hasattr(below, "size")


def _is_lines(data: object) -> bool:
    if not isinstance(data, bytes):
        return False
    must(data.endswith(b"\r\n"), "it does not end with CRLF")
    without = data.replace(b"\r\n", b"")
    return must(b"\r" not in without and b"\n" not in without, "a CR or LF stands alone in it")


def is_traced_content(answer: Any) -> bool:
    """The same, with a Received field at its top, which nobody may take away (RFC 5321 §4.4): hops are counted by it."""
    return is_content(answer) and must(answer.data[:9].lower() == b"received:", "our Received is not at its top")


_KEYWORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")  # RFC 5321 §4.1.2: Ldh-str
_PROPERTY = re.compile(r"[A-Za-z0-9-]{1,50}\.[A-Za-z0-9_-]{1,50}")  # RFC 8601 §2.2: ptype "." property


def is_auth_results(answer: object) -> bool:
    """A list or tuple of results whose words can stand in the field."""
    return isinstance(answer, list | tuple) and all(
        isinstance(each, AuthResult) and _is_result(each) for each in answer
    )


def _is_result(each: AuthResult) -> bool:
    texts = (each.method, each.result, each.reason, each.comment, *(text for pair in each.properties for text in pair))
    if not all(isinstance(text, str) for text in texts):
        return False
    words = _KEYWORD.fullmatch(each.method) and _KEYWORD.fullmatch(each.result)
    return bool(words) and all(_PROPERTY.fullmatch(name) for name, _ in each.properties)


_FIELD_NAME = re.compile(r"[!-9;-~]{1,70}")  # RFC 5322 §2.2
_OURS = re.compile(  # what makes a message what it is, says whom it is for, or ends loops (RFC 5322, RFC 3464, RFC 3834)
    r"(?:authentication-results|date|from|sender|to|cc|bcc|subject|message-id|in-reply-to|references|auto-submitted|received|return-path"
    r"|delivered-to|mime-version|resent-.*|content-.*)",
    re.IGNORECASE,
)


def is_notice_words(answer: object) -> bool:
    """Words whose subject and fields are one line each, and fields that a notice may have besides its own."""
    if not isinstance(answer, NoticeWords) or not isinstance(answer.subject, str) or not isinstance(answer.text, str):
        return False
    text_is_lines = all(line.replace("\t", " ").isprintable() for line in answer.text.split("\n"))
    return answer.subject.isprintable() and text_is_lines and all(map(_is_field, answer.fields))


def _is_field(field: object) -> bool:
    if not isinstance(field, tuple) or len(field) != 2 or not all(isinstance(part, str) for part in field):
        return False
    name, value = field
    return bool(_FIELD_NAME.fullmatch(name)) and not _OURS.fullmatch(name) and value.isprintable()


def is_finding(answer: object) -> bool:
    """A Finding whose verdict refuses, and whose fields may stand in a message besides its own."""
    if not isinstance(answer, Finding) or not isinstance(answer.found, str):
        return False
    is_score = answer.score is None or (isinstance(answer.score, int | float) and not isinstance(answer.score, bool))
    is_verdict = answer.verdict is None or is_refusal(answer.verdict)
    return is_score and is_verdict and all(map(_is_field, answer.fields))


_UNIQUE_ID = re.compile("[!-~]{1,70}")  # RFC 1939 §7


def is_maildrop(answer: object) -> bool:
    """Something that can be read from and deleted from, whose messages can be told apart."""
    methods = (getattr(answer, name, None) for name in ("read", "delete", "close"))
    messages = getattr(answer, "messages", None)
    if not all(map(callable, methods)) or not isinstance(messages, list | tuple):
        return False
    return all(map(_is_message, messages)) and len({each.unique_id for each in messages}) == len(messages)


def _is_message(answer: object) -> bool:
    unique_id, size = getattr(answer, "unique_id", None), getattr(answer, "size", None)
    if not isinstance(unique_id, str) or not _UNIQUE_ID.fullmatch(unique_id):
        return False
    return isinstance(size, int) and size >= 0 and isinstance(getattr(answer, "is_utf8", None), bool)


def is_address(answer: object) -> bool:
    """An address that stays one on the wire and in a header field, the null one too."""
    if not isinstance(answer, Address):
        return False
    try:
        _, after = parse_path(f"<{answer}>")
    except AddressSyntaxError:
        return False
    return not after


def is_text(answer: object) -> bool:
    """A string."""
    return isinstance(answer, str)


def is_bool(answer: object) -> bool:
    """True or False, not a number that looks like it."""
    return isinstance(answer, bool)


def is_tls_mode(answer: object) -> bool:
    """One of the words of `[routes]` tls."""
    return isinstance(answer, str) and answer in TLS_MODES


def _anything(_: object) -> bool:
    return True


def hook(
    kind: Kind,
    *,
    is_answer: Callable[[Any], bool] | None = None,
    on_error: OnError = "tempfail",
    budget: float = BUDGET,
    changes: str = "",
) -> Callable[[F], F]:
    """Declare a hook and what the runner must know of it in one place. `on_error` is the default of the operator's."""

    def declare(function: F) -> F:
        KINDS[function.__name__] = kind
        judge = is_answer or (is_refusal if kind is Kind.DECIDE else _anything)
        SPECS[function.__name__] = Spec(kind, judge, on_error, budget, changes)
        return _spec(function)

    return declare
