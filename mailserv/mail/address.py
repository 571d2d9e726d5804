"""Mailboxes and paths (RFC 5321 §4.1.2, §4.1.3; internationalised: RFC 6531 §3.3)."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from functools import lru_cache

import idna

from mailserv.errors import AddressSyntaxError
from mailserv.mail.value import Value

MAX_LOCAL_PART = 64  # octets, RFC 5321 §4.5.3.1.1
MAX_DOMAIN = 255  # octets, RFC 5321 §4.5.3.1.2
MAX_PATH = 256  # octets including < and >, RFC 5321 §4.5.3.1.3

# UTF8-non-ascii (RFC 6531 §3.3) without C1 controls, line separators and lone surrogates, none of which is text.
_UTF8 = r"\u00a0-\u2027\u202a-\ud7ff\ue000-\U0010ffff"
_ATOM = rf"[A-Za-z0-9!#$%&'*+\-/=?^_`{{|}}~{_UTF8}]+"
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_QUOTED_STRING = re.compile(rf'"(?:[\x20-\x21\x23-\x5b\x5d-\x7e{_UTF8}]|\\[\x20-\x7e])*"')
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_SOURCE_ROUTE = re.compile(r"@[^@:,<> ]+(?:,@[^@:,<> ]+)*:")


class Address(Value, frozen=True):
    """A mailbox. `local_part` is unquoted and keeps its case; `domain` is lower case and ASCII (A-labels), or a literal.

    The domain is "" in two cases only: the null reverse-path, and <postmaster> (RFC 5321 §4.5.1).
    """

    local_part: str
    domain: str

    @property
    def is_null(self) -> bool:
        """True for the null reverse-path "<>" (RFC 5321 §4.5.5)."""
        return not self.local_part and not self.domain

    @property
    def is_ascii(self) -> bool:
        """False where only SMTPUTF8 can carry this address (RFC 6531)."""
        return self.local_part.isascii()

    @property
    @lru_cache(maxsize=1024)  # noqa: B019 - it keeps values: each address of a message is written and compared some ten times
    def key(self) -> str:
        """For comparisons of local addresses: case does not count (a local choice, RFC 5321 §2.4).

        Nor does the way in which a letter and its accent were typed: é is one character or two (RFC 6530 §10.1: NFC).
        """
        if self.local_part.isascii():
            return f"{self.local_part.lower()}@{self.domain}"
        return f"{unicodedata.normalize('NFC', unicodedata.normalize('NFC', self.local_part).casefold())}@{self.domain}"

    @property
    def without_subaddress(self) -> Address:
        """carol of carol+list, as most systems write subaddresses; itself where nothing stands before the +."""
        return Address(self.local_part.partition("+")[0] or self.local_part, self.domain)

    @lru_cache(maxsize=1024)  # noqa: B019 - as above
    def __str__(self) -> str:
        """The local-part is quoted where it must be (RFC 5321 §4.1.2)."""
        local = self.local_part
        if local and not _DOT_STRING.fullmatch(local):
            local = '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'
        return f"{local}@{self.domain}" if self.domain else local


NULL_REVERSE_PATH = Address("", "")


def parse_mailbox(text: str) -> Address:
    """Read `Local-part "@" ( Domain / address-literal )`. Raises AddressSyntaxError."""
    local, rest = _split_local_part(text)
    if not rest.startswith("@"):
        raise AddressSyntaxError("a mailbox is local-part@domain")
    return Address(local, parse_domain(rest[1:]))


def account_key(name: str) -> str:
    """The `Address.key` of a name as somebody typed it, by which accounts are known; "" for what is no address."""
    try:
        return parse_mailbox(name).key
    except AddressSyntaxError:
        return ""


def parse_path(text: str) -> tuple[Address, str]:
    """Read a Path at the start of `text`; return it and what follows it (parameters, with their leading space).

    Source routes are accepted and ignored (RFC 5321 §3.3, appendix C). "<>" is the null reverse-path and <postmaster>
    has no domain; whether either may stand here is the caller's to say. Raises AddressSyntaxError.
    """
    if not text.startswith("<"):
        raise AddressSyntaxError("a path stands in <>")
    if text.startswith("<>"):
        return NULL_REVERSE_PATH, _after_path(text[2:])
    route = _SOURCE_ROUTE.match(text, 1)
    start = route.end() if route else 1
    local, rest = _split_local_part(text[start:])
    domain_text, bracket, after = rest.partition(">")
    if not bracket:
        raise AddressSyntaxError("a path ends with >")
    if len(text[start - 1 : len(text) - len(after)].encode("utf-8", "replace")) > MAX_PATH:
        raise AddressSyntaxError("the path is too long")
    _after_path(after)
    if not domain_text and local.casefold() == "postmaster":
        return Address(local, ""), after
    if not domain_text.startswith("@"):
        raise AddressSyntaxError("a mailbox is local-part@domain")
    return Address(local, parse_domain(domain_text[1:])), after


def _after_path(text: str) -> str:
    if text and not text.startswith(" "):
        raise AddressSyntaxError("a space follows the path")
    return text


@lru_cache(maxsize=1024)  # a client says its own and ours again and again
def parse_domain(text: str) -> str:
    """A domain or address literal in its canonical form: lower case, A-labels (RFC 5890). Raises AddressSyntaxError."""
    if text.startswith("["):
        return _parse_literal(text)
    if len(text) > MAX_DOMAIN:
        raise AddressSyntaxError("the domain is too long")  # before IDNA has to look at it
    if not text.isascii():
        try:
            text = idna.encode(text, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise AddressSyntaxError("the domain is no valid internationalised name") from error
    if not text or len(text) > MAX_DOMAIN:
        raise AddressSyntaxError("the domain is empty or too long")
    if not all(_LABEL.fullmatch(label) for label in text.split(".")):
        raise AddressSyntaxError("the domain is not valid")
    return text.lower()


def _parse_literal(text: str) -> str:
    """RFC 5321 §4.1.3: [192.0.2.1] or [IPv6:2001:db8::1]."""
    if not text.endswith("]"):
        raise AddressSyntaxError("an address literal ends with ]")
    inner = text[1:-1]
    try:
        if "%" in inner:
            raise ValueError("a zone means something on one host only (RFC 6874 §1), and may hold any character")
        if inner[:5].lower() == "ipv6:":
            return f"[IPv6:{ipaddress.IPv6Address(inner[5:]).compressed}]"
        return f"[{ipaddress.IPv4Address(inner)}]"
    except ValueError as error:
        raise AddressSyntaxError("the address literal is not valid") from error


def literal_address(domain: str) -> str | None:
    """The IP address of a canonical literal domain, None when `domain` is a name."""
    if not domain.startswith("["):
        return None
    return domain[1:-1].removeprefix("IPv6:")


def _split_local_part(text: str) -> tuple[str, str]:
    """The unquoted local-part at the start of `text`, and the rest."""
    if text.startswith('"'):
        quoted = _QUOTED_STRING.match(text)
        if not quoted or len(quoted.group()) < 3:
            raise AddressSyntaxError("the quoted local-part is not valid")
        raw, local = quoted.group(), re.sub(r"\\(.)", r"\1", quoted.group()[1:-1])
    else:
        atom = _DOT_STRING.match(text)
        if not atom:
            raise AddressSyntaxError("the local-part is not valid")
        raw = local = atom.group()
    if len(local.encode("utf-8")) > MAX_LOCAL_PART:
        raise AddressSyntaxError("the local-part is too long")
    return local, text[len(raw) :]
