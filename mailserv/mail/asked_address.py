"""The address that VRFY and EXPN ask about (RFC 5321 §3.5.1), and how an address is told (RFC 6531 §3.7.4.2)."""

from __future__ import annotations

from mailserv.errors import AddressSyntaxError
from mailserv.mail.address import Address, parse_mailbox
from mailserv.mail.reply import NEEDS_UTF8_REPLY, Reply
from mailserv.mail.value import Value


class Asked(Value, frozen=True):
    """`utf8`: the client can read UTF-8 in the reply."""

    address: Address  # its domain is "" when none was named
    utf8: bool

    def tell(self, code: int, enhanced: str, lines: list[str]) -> Reply:
        """The reply, or 252 when it could not be read."""
        reply = Reply(code, enhanced, "\n".join(lines))
        return reply if self.utf8 or reply.text.isascii() else NEEDS_UTF8_REPLY


def read_asked(argument: str) -> Asked | None:
    """A mailbox, in angle brackets or not, with or without a domain, with or without " SMTPUTF8"; None for none."""
    text, utf8 = argument.strip(), False
    if text.upper().endswith(" SMTPUTF8"):
        text, utf8 = text[:-9].rstrip(), True
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    try:
        if "@" in text:
            return Asked(parse_mailbox(text), utf8)
        return Asked(Address(parse_mailbox(f"{text}@localhost").local_part, ""), utf8)
    except AddressSyntaxError:
        return None
