"""LIMITS (RFC 9422): the client learns how many recipients a transaction may have, before it is told 452."""

from __future__ import annotations

from collections.abc import Iterable

from mailserv import hookimpl
from mailserv.mail.extension import SessionView, SMTPExtension
from mailserv.mail.plugin import Services


def advertise(view: SessionView) -> str | None:
    """RCPTMAX (§4.2): it is another one after a login, so a client asks again. There is no MAILMAX and no RCPTDOMAINMAX."""
    return f"RCPTMAX={view.recipients}"


class Plugin:
    def __init__(self, settings: None, services: Services) -> None:
        pass

    @hookimpl
    def register_smtp_extensions(self) -> Iterable[SMTPExtension]:
        return [SMTPExtension("LIMITS", advertise)]
