"""BINARYMIME (RFC 3030 §3): content that is no lines, by BDAT only."""

from __future__ import annotations

from collections.abc import Iterable

from mailserv import hookimpl
from mailserv.mail.extension import Parameter, SessionView, SMTPExtension
from mailserv.mail.plugin import Services
from mailserv.mail.reply import Reply

GROWTH = 16  # octets: " BODY=BINARYMIME"
VALUES = frozenset({"BINARYMIME"})


def check(view: SessionView, value: str | None) -> Reply | None:
    """BODY comes here for this value only, where others bring more of them."""
    return None if (value or "").upper() in VALUES else Reply(501, "5.5.4", "BODY has no such value")


class Plugin:
    def __init__(self, settings: None, services: Services) -> None:
        pass

    @hookimpl
    def register_smtp_extensions(self) -> Iterable[SMTPExtension]:
        body = Parameter("BODY", check, growth=GROWTH, values=VALUES)
        return [SMTPExtension("BINARYMIME", lambda view: "" if "BDAT" in view.verbs else None, mail_params=(body,))]
