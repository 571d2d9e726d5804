"""DSN (RFC 3461): the sender says which notices he wants, and how they name what he sent."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mailserv import hookimpl
from mailserv.mail import reply
from mailserv.mail.extension import Parameter, SessionView, SMTPExtension
from mailserv.mail.plugin import Services
from mailserv.mail.reply import Reply
from mailserv.mail.xtext import decode_xtext

MAX_ENVID = 100  # characters of the value, RFC 3461 §4.4
MAX_ORCPT = 500  # characters of the value, RFC 3461 §4.2
EVENTS = frozenset({"SUCCESS", "FAILURE", "DELAY"})
GROWTH = {
    "RET": len(" RET=FULL"),
    "ENVID": len(" ENVID=") + MAX_ENVID,
    "NOTIFY": len(" NOTIFY=SUCCESS,FAILURE,DELAY"),
    "ORCPT": len(" ORCPT=") + MAX_ORCPT,
}
_ADDR_TYPE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")


def check_ret(view: SessionView, value: str | None) -> Reply | None:
    """FULL or HDRS (RFC 3461 §4.3)."""
    return None if (value or "").upper() in {"FULL", "HDRS"} else reply.SYNTAX


def check_envid(view: SessionView, value: str | None) -> Reply | None:
    """xtext of printable ASCII (RFC 3461 §4.4): it will stand in a header field."""
    return None if value and len(value) <= MAX_ENVID and _is_printable_xtext(value, ascii_only=True) else reply.SYNTAX


def check_notify(view: SessionView, value: str | None) -> Reply | None:
    """NEVER alone, or each of SUCCESS, FAILURE, DELAY at most once (RFC 3461 §4.1)."""
    words = (value or "").upper().split(",")
    if words == ["NEVER"]:
        return None
    return None if set(words) <= EVENTS and len(set(words)) == len(words) else reply.SYNTAX


def check_orcpt(view: SessionView, value: str | None) -> Reply | None:
    """addr-type ";" xtext (RFC 3461 §4.2); the type "utf-8" may be plain UTF-8 in an SMTPUTF8 transaction (RFC 6533 §3)."""
    kind, semicolon, name = (value or "").partition(";")
    if not semicolon or not name or len(value or "") > MAX_ORCPT or not _ADDR_TYPE.fullmatch(kind):
        return reply.SYNTAX
    if not name.isascii():
        return None if kind.lower() == "utf-8" and view.is_smtputf8 and name.isprintable() else reply.SYNTAX
    return None if _is_printable_xtext(name, ascii_only=False) else reply.SYNTAX


def _is_printable_xtext(value: str, *, ascii_only: bool) -> bool:
    """Not only ASCII: postfix writes the UTF-8 of an address as xtext, and calls it rfc822."""
    try:
        text = decode_xtext(value)
    except ValueError:
        return False
    return text.isprintable() and (text.isascii() or not ascii_only)


class Plugin:
    def __init__(self, settings: None, services: Services) -> None:
        pass

    @hookimpl
    def register_smtp_extensions(self) -> Iterable[SMTPExtension]:
        mail = (Parameter("RET", check_ret, GROWTH["RET"]), Parameter("ENVID", check_envid, GROWTH["ENVID"]))
        rcpt = (
            Parameter("NOTIFY", check_notify, GROWTH["NOTIFY"]),
            Parameter("ORCPT", check_orcpt, GROWTH["ORCPT"]),
        )
        return [SMTPExtension("DSN", "", mail_params=mail, rcpt_params=rcpt)]
