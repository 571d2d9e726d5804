"""What a client can say to an SMTP server (RFC 5321 §4.1), as events, and how a command line is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import final

from mailserv.errors import AddressSyntaxError
from mailserv.mail import reply as replies
from mailserv.mail.address import Address, parse_path
from mailserv.mail.extension import Verb
from mailserv.mail.reply import Reply
from mailserv.mail.value import Private, Value

MAX_HELO = 255  # octets, RFC 5321 §4.5.3.1.2


class Helo(Value, frozen=True):
    """RFC 5321 §4.1.1.1. `domain` as the client wrote it: only its characters were checked."""

    domain: str


class Ehlo(Value, frozen=True):
    """RFC 5321 §4.1.1.1. `domain` as the client wrote it: only its characters were checked."""

    domain: str


class Mail(Value, frozen=True):
    """RFC 5321 §4.1.1.2. `parameters`: keyword in capitals → value, "" without one; each passed its extension's check."""

    reverse_path: Address
    parameters: Mapping[str, str]


class Rcpt(Value, frozen=True):
    """RFC 5321 §4.1.1.3. The domain is "" for <postmaster> only. `parameters` as in Mail."""

    forward_path: Address
    parameters: Mapping[str, str]


class Data(Value, frozen=True):
    """RFC 5321 §4.1.1.4. After a 354 come ContentBlocks, then one ContentEnd or ContentRefused."""


class Rset(Value, frozen=True):
    """RFC 5321 §4.1.1.5."""


class Noop(Value, frozen=True):
    """RFC 5321 §4.1.1.9."""


class Quit(Value, frozen=True):
    """RFC 5321 §4.1.1.10."""


class ExtensionCommand(Value, frozen=True):
    """A verb that an extension brought, in a phase where it may come. `argument`: the text after the verb, "" for none."""

    verb: Verb
    argument: str


class AuthLine(Private, frozen=True):
    """A client's line in an AUTH exchange (RFC 4954 §4), base64 undecoded. None: "*", the client gives up."""

    data: bytes | None  # a secret (invariant 10)


class ContentBlock(Private, frozen=True):
    """A piece of the content, dots unstuffed, about as large as it was received. It is not answered."""

    data: bytes


class ContentEnd(Value, frozen=True):
    """The end of data. Its answer is the one that counts (invariant 1).

    `has_bare`: a CR or LF stood alone in the chunks of a content that came by BDAT (in DATA that is a ContentRefused).
    """

    has_bare: bool = False


class ContentRefused(Value, frozen=True):
    """The end of data of a content with a bare CR or LF (invariant 5). After `reply` the session is over."""

    reply: Reply


class Chunk(Value, frozen=True):
    """BDAT, whose octets follow as ContentBlocks, then a ChunkEnd or, after the last one, a ContentEnd. It is not answered.

    `refusal` stays in the core: the octets are thrown away, and then a Rejected is what comes.
    """

    verb: str
    octets: int
    is_last: bool
    refusal: Reply | None = None


class ChunkEnd(Value, frozen=True):
    """All octets of a chunk that is not the last one are here. `has_bare`: a CR or LF stood alone so far."""

    octets: int
    has_bare: bool = False


class Rejected(Value, frozen=True):
    """What the core refuses by itself. `command`: the verb when it is one we know, else "" (it may be a lost password).

    `close`: the session is over after the reply.
    """

    reply: Reply
    command: str = ""
    close: bool = False


Event = (
    Helo
    | Ehlo
    | Mail
    | Rcpt
    | Data
    | Rset
    | Noop
    | Quit
    | ExtensionCommand
    | AuthLine
    | ContentBlock
    | ContentEnd
    | ContentRefused
    | Chunk
    | ChunkEnd
    | Rejected
)

COMMANDS: dict[bytes, type[Event]] = {
    b"HELO": Helo,
    b"EHLO": Ehlo,
    b"MAIL": Mail,
    b"RCPT": Rcpt,
    b"DATA": Data,
    b"RSET": Rset,
    b"NOOP": Noop,
    b"QUIT": Quit,
}

# RFC 2033 §4.1: LHLO in place of EHLO and HELO, which are not recognized.
LMTP_COMMANDS: dict[bytes, type[Event]] = {b"LHLO": Ehlo} | {
    verb: event for verb, event in COMMANDS.items() if event not in (Helo, Ehlo)
}

# Verbs of other RFCs: 502 where nobody brings them (RFC 5321 §4.2.4 keeps 500 for what is not recognized).
NOT_OURS = frozenset(b"VRFY EXPN HELP TURN SEND SOML SAML ETRN ATRN AUTH STARTTLS BDAT BURL".split())

# A browser, or an attack through one (lesson 11).
HTTP_VERBS = frozenset(b"GET POST HEAD PUT DELETE CONNECT OPTIONS PATCH TRACE".split())

# What real clients put after EHLO: domains, literals, bare IPv6, Windows names: atext and ".:[]". Nothing else, for the
# rest has a meaning in Received.
_HELO_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_:[]!#$%&'*+/=?^`{|}~"
_KEYWORD_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-"

RawParameters = Sequence[tuple[str, str | None]]


@final
class WithPath(Value, frozen=True):
    """What a line of MAIL or RCPT says by itself: its parameters, and letters that ASCII does not have, are still to be
    checked where the session stands."""

    verb: str
    command: type[Mail] | type[Rcpt]
    path: Address
    parameters: RawParameters
    is_ascii: bool


def read_core_command(line: bytes, out_of_order: Callable[[type[Event]], Reply | None]) -> Event | WithPath | None:
    """A line without its CRLF; None when its verb is not the core's.

    `out_of_order(command)`: the reply where it may not come now. A line that not even can be read is refused for that.
    """
    word, _, rest = line.rstrip(b" \t").partition(b" ")  # RFC 5321 §4.1.1: tolerate trailing white space
    word = word.upper()
    command = COMMANDS.get(word) or LMTP_COMMANDS.get(word)
    if command is None:
        return None
    verb, text = word.decode(), readable(rest)
    if isinstance(text, Reply):
        return Rejected(text, verb)
    refusal = out_of_order(command)
    if refusal is not None:
        return Rejected(refusal, verb)
    if command is Mail or command is Rcpt:
        parsed = parse_mail(text) if command is Mail else parse_rcpt(text)
        if isinstance(parsed, Reply):
            return Rejected(parsed, verb)
        return WithPath(verb, command, *parsed, is_ascii=text.isascii())
    meaning = parse_simple(word, text)
    return Rejected(meaning, verb) if isinstance(meaning, Reply) else meaning


def readable(rest: bytes) -> str | Reply:
    """The text after a verb, or why it cannot be read: bare newlines, other control characters, no UTF-8."""
    try:
        text = rest.decode("utf-8")  # strict: neither overlong forms nor surrogates
    except UnicodeDecodeError:
        return replies.INVALID_UTF8
    if text.isprintable() or not any(map(_is_control, text)):
        return text
    return replies.BARE_NEWLINE_IN_COMMAND if "\n" in text or "\r" in text else replies.SYNTAX


def _is_control(character: str) -> bool:
    """C0, DEL, C1, and Unicode's line ends: none may reach a header field, a log line or a file name."""
    return character < " " or "\x7f" <= character <= "\x9f" or character in "\u2028\u2029"


def parse_simple(verb: bytes, text: str) -> Event | Reply:
    """A command without a path: its verb in capitals, and the text after it."""
    bare = _BARE.get(verb)
    if bare is not None:
        return (
            replies.SYNTAX if text and verb != b"NOOP" else bare
        )  # RFC 5321 §4.3.2: an argument where none may be is 501
    raw = text.encode("utf-8")
    if not raw or len(raw) > MAX_HELO or raw.translate(None, _HELO_CHARACTERS):
        return replies.SYNTAX
    return Helo(text) if verb == b"HELO" else Ehlo(text)


_BARE: dict[bytes, Event] = {b"DATA": Data(), b"RSET": Rset(), b"NOOP": Noop(), b"QUIT": Quit()}


def parse_mail(text: str) -> tuple[Address, RawParameters] | Reply:
    """`FROM:` Reverse-path [SP Mail-parameters] (RFC 5321 §4.1.1.2)."""
    parsed = _parse_path(text, "FROM:", replies.BAD_REVERSE_PATH)
    if isinstance(parsed, tuple):
        address = parsed[0]
        if not address.domain and not address.is_null:
            return replies.BAD_REVERSE_PATH  # <postmaster> has no domain in RCPT only (RFC 5321 §4.1.1.3)
    return parsed


def parse_rcpt(text: str) -> tuple[Address, RawParameters] | Reply:
    """`TO:` Forward-path [SP Rcpt-parameters] (RFC 5321 §4.1.1.3)."""
    parsed = _parse_path(text, "TO:", replies.BAD_FORWARD_PATH)
    if isinstance(parsed, tuple) and parsed[0].is_null:
        return replies.BAD_FORWARD_PATH
    return parsed


def _parse_path(text: str, prefix: str, bad_path: Reply) -> tuple[Address, RawParameters] | Reply:
    """Spaces after the colon are not in the grammar, but common enough that every server takes them."""
    if text[: len(prefix)].upper() != prefix:
        return replies.SYNTAX
    path = text[len(prefix) :].lstrip(" ")
    if not path.startswith("<"):
        return replies.SYNTAX
    try:
        address, after = parse_path(path)
    except AddressSyntaxError:
        return bad_path
    if not after:
        return address, ()
    parameters = parse_parameters(after)
    return parameters if isinstance(parameters, Reply) else (address, parameters)


def parse_parameters(text: str) -> RawParameters | Reply:
    """esmtp-param (RFC 5321 §4.1.2; values may hold UTF-8, RFC 6531 §3.3). Keywords in capitals, each at most once."""
    parameters: list[tuple[str, str | None]] = []
    seen: set[str] = set()
    for word in text.split(" "):
        if not word:
            continue
        keyword, equals, value = word.partition("=")
        keyword = keyword.upper()
        if not _is_keyword(keyword) or keyword in seen or (equals and not value) or "=" in value:
            return replies.SYNTAX
        seen.add(keyword)
        parameters.append((keyword, value if equals else None))
    return tuple(parameters)


def _is_keyword(keyword: str) -> bool:
    """(ALPHA / DIGIT) *(ALPHA / DIGIT / "-")"""
    raw = keyword.encode("utf-8")
    return bool(raw) and not raw.startswith(b"-") and not raw.translate(None, _KEYWORD_CHARACTERS)
