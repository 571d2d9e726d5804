"""What a client can say to a POP3 server (RFC 1939, 2449, 2595, 5034), as events, and how a command line is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mailserv.mail.pop3_extension import Pop3Verb

MAX_NUMBER = 2**31 - 1  # no maildrop and no message has more; RFC 1939 sets no bound


@dataclass(frozen=True, slots=True)
class User:
    """RFC 1939 §7. `name` keeps its case."""

    name: str


@dataclass(frozen=True, slots=True)
class Pass:
    """RFC 1939 §7: the rest of the line, spaces included."""

    password: str = field(repr=False)  # invariant 10


@dataclass(frozen=True, slots=True)
class Auth:
    """RFC 5034 §4. `mechanism` in capitals; `initial`: base64, None without one, "=" for an empty one."""

    mechanism: str
    initial: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class AuthLine:
    """A client's line in an AUTH exchange, base64 undecoded. None: "*", the client gives up."""

    data: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Stls:
    """RFC 2595 §4."""


@dataclass(frozen=True, slots=True)
class Capa:
    """RFC 2449 §5."""


@dataclass(frozen=True, slots=True)
class Stat:
    """RFC 1939 §5."""


@dataclass(frozen=True, slots=True)
class List:
    """RFC 1939 §5. `number`: 1 or more; None for all."""

    number: int | None


@dataclass(frozen=True, slots=True)
class Uidl:
    """RFC 1939 §7. `number`: 1 or more; None for all."""

    number: int | None


@dataclass(frozen=True, slots=True)
class Retr:
    """RFC 1939 §5."""

    number: int


@dataclass(frozen=True, slots=True)
class Dele:
    """RFC 1939 §5."""

    number: int


@dataclass(frozen=True, slots=True)
class Top:
    """RFC 1939 §7. `lines` of the body: 0 or more."""

    number: int
    lines: int


@dataclass(frozen=True, slots=True)
class Noop:
    """RFC 1939 §5."""


@dataclass(frozen=True, slots=True)
class Rset:
    """RFC 1939 §5."""


@dataclass(frozen=True, slots=True)
class Quit:
    """RFC 1939 §4 and §6. `updates`: it came after the login, so messages marked as deleted go now."""

    updates: bool


@dataclass(frozen=True, slots=True)
class ExtensionCommand:
    """A verb that an extension brings (RFC 2449 §3)."""

    verb: Pop3Verb
    argument: str = field(repr=False)  # it may hold a secret


@dataclass(frozen=True, slots=True)
class ExtensionLogin:
    """A verb that an extension brings, and that logs in, as APOP does."""

    verb: Pop3Verb
    argument: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Rejected:
    """What the core refuses by itself: answer -ERR with `text`. `command`: the verb when it is one we know, else "".

    `close`: the session is over after that.
    """

    text: str
    command: str = ""
    close: bool = False


Event = (
    User
    | Pass
    | Auth
    | AuthLine
    | Stls
    | Capa
    | Stat
    | List
    | Uidl
    | Retr
    | Dele
    | Top
    | Noop
    | Rset
    | Quit
    | ExtensionCommand
    | ExtensionLogin
    | Rejected
)

COMMANDS: dict[bytes, type[Event]] = {
    b"USER": User,
    b"PASS": Pass,
    b"AUTH": Auth,
    b"STLS": Stls,
    b"CAPA": Capa,
    b"STAT": Stat,
    b"LIST": List,
    b"UIDL": Uidl,
    b"RETR": Retr,
    b"DELE": Dele,
    b"TOP": Top,
    b"NOOP": Noop,
    b"RSET": Rset,
    b"QUIT": Quit,
}

CAPABILITIES = (  # ours, which no extension may bring (RFC 2449 §6, RFC 3206 §6)
    "TOP",
    "USER",
    "SASL",
    "RESP-CODES",
    "AUTH-RESP-CODE",
    "LOGIN-DELAY",
    "PIPELINING",
    "EXPIRE",
    "UIDL",
    "IMPLEMENTATION",
    "STLS",
)

SYNTAX = "Syntax error in arguments"
NO_SUCH_MESSAGE = "No such message"
NOT_UTF8 = "Command is not valid UTF-8"
NEWLINE = "Bare CR or LF in a command; only CRLF ends a line"


def parse(command: type[Event], rest: bytes, *, updates: bool) -> Event | str:
    """The event for what follows a verb, or the text of its -ERR. `updates`: see Quit."""
    if rest.isdigit() and len(rest) < 10 and (make := _NUMBERED.get(command)) is not None and (number := int(rest)):
        return make(number)  # what nearly all commands of a session are; the rest of this function would say the same
    if _is_broken(rest):
        return NEWLINE
    try:
        text = rest.decode("utf-8")
    except UnicodeDecodeError:
        return NOT_UTF8
    if command is Pass:
        return Pass(text) if text and "\0" not in text else SYNTAX
    if not text.isprintable():
        return SYNTAX
    words = [word for word in text.split(" ") if word]
    if command is Quit:
        return Quit(updates) if not words else SYNTAX
    return _PARSERS[command](words)


def parse_extension(verb: Pop3Verb, rest: bytes) -> Event | str:
    """The same for a verb of an extension, which reads its argument itself."""
    if _is_broken(rest):
        return NEWLINE
    try:
        argument = rest.decode("utf-8").strip(" ")
    except UnicodeDecodeError:
        return NOT_UTF8
    if not argument.isprintable():
        return SYNTAX
    return ExtensionLogin(verb, argument) if verb.logs_in else ExtensionCommand(verb, argument)


def _is_broken(rest: bytes) -> bool:
    return b"\r" in rest or b"\n" in rest


def _user(words: list[str]) -> Event | str:
    return User(words[0]) if len(words) == 1 else SYNTAX


def _auth(words: list[str]) -> Event | str:
    match words:
        case [mechanism]:
            return Auth(mechanism.upper(), None)
        case [mechanism, initial]:
            return Auth(mechanism.upper(), initial)
        case _:
            return SYNTAX


def _top(words: list[str]) -> Event | str:
    if len(words) != 2:
        return SYNTAX
    number, lines = _number(words[0]), _number(words[1])
    if number is None or lines is None:
        return SYNTAX
    return Top(number, lines) if _may_exist(number) else NO_SUCH_MESSAGE


def _without_argument(make: Callable[[], Event]) -> Callable[[list[str]], Event | str]:
    return lambda words: SYNTAX if words else make()


def _with_message(make: Callable[[int], Event]) -> Callable[[list[str]], Event | str]:
    def parse_one(words: list[str]) -> Event | str:
        number = _number(words[0]) if len(words) == 1 else None
        if number is None:
            return SYNTAX
        return make(number) if _may_exist(number) else NO_SUCH_MESSAGE

    return parse_one


def _with_message_or_none(make: Callable[[int | None], Event]) -> Callable[[list[str]], Event | str]:
    one = _with_message(make)
    return lambda words: one(words) if words else make(None)


def _number(word: str) -> int | None:
    """ASCII digits and nothing else: no sign, no underscore, no other script's digits (all of which `int` takes).

    More than any maildrop holds becomes one more than that: 4294967297 is not 1 (lesson 10).
    """
    if not (word.isascii() and word.isdigit()):
        return None
    digits = word.lstrip("0") or "0"
    return MAX_NUMBER + 1 if len(digits) > 10 else min(int(digits), MAX_NUMBER + 1)


def _may_exist(number: int) -> bool:
    return 1 <= number <= MAX_NUMBER


_NUMBERED: dict[type[Event], Callable[[int], Event]] = {Retr: Retr, Dele: Dele, List: List, Uidl: Uidl}

_PARSERS: dict[type[Event], Callable[[list[str]], Event | str]] = {
    User: _user,
    Auth: _auth,
    Top: _top,
    Stls: _without_argument(Stls),
    Capa: _without_argument(Capa),
    Stat: _without_argument(Stat),
    Noop: _without_argument(Noop),
    Rset: _without_argument(Rset),
    List: _with_message_or_none(List),
    Uidl: _with_message_or_none(Uidl),
    Retr: _with_message(Retr),
    Dele: _with_message(Dele),
}
