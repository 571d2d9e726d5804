"""PIPELINING (RFC 2920): commands may come in groups; the server answers each group in one go."""

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
        return [SMTPExtension("PIPELINING", "")]
