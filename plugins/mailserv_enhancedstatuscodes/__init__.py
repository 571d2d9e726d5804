"""ENHANCEDSTATUSCODES (RFC 2034): replies carry the codes of RFC 3463."""

from __future__ import annotations

from collections.abc import Iterable

from mailserv import hookimpl
from mailserv.mail.extension import SMTPExtension
from mailserv.mail.plugin import Services


class Plugin:
    def __init__(self, settings: None, services: Services) -> None:
        pass

    @hookimpl
    def register_smtp_extensions(self) -> Iterable[SMTPExtension]:
        return [SMTPExtension("ENHANCEDSTATUSCODES", "")]
