"""A real server with one plugin that is written into the test: its source is the body of a class."""

from __future__ import annotations

import smtplib
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mailserv.settings import Plugins
from mailserv.testing.server import MailServer, mail_server

ALICE, BOB, CAROL = "alice@example.org", "bob@example.org", "carol@far.example"
TEXT = b"Subject: hello\r\n\r\nHi.\r\n"
LOGIN = (ALICE, "secret")
HEAD = """
from mailserv import hookimpl
from mailserv.mail.address import Address, parse_mailbox
from mailserv.mail.auth_result import AuthResult
from mailserv.mail.finding import Finding
from mailserv.mail.listening import PluginListener
from mailserv.mail.message import BytesContent, PrefixedContent
from mailserv.mail.notice import NoticeWords
from mailserv.mail.reply import Reply
from mailserv.mail.resolution import Resolution
from mailserv.mail.route import Route
from mailserv.mail.verdict import disconnect, reject, tempfail

SEEN = []

class Plugin:
    def __init__(self, settings, services):
        self.services = services

"""


@contextmanager
def plugin_server(folder: Path, body: str, **settings: Any) -> Iterator[tuple[MailServer, list[Any]]]:
    """The server, and the list `SEEN` that the plugin may write to."""
    (folder / "probe.py").write_text(HEAD + textwrap.indent(textwrap.dedent(body), "    "))
    plugins = Plugins(enabled=("probe",), path=folder, policy=settings.pop("policy", {}))
    with mail_server(plugins=plugins, **settings) as server:
        yield server, seen()


def seen() -> list[Any]:
    """What the plugin of the server that was started last has seen, also after its end."""
    found: list[Any] = sys.modules["mailserv_plugin_file_probe"].SEEN
    return found


@contextmanager
def session(server: MailServer, service: str = "smtp") -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP(*server.address(service), "client.example.net", timeout=20) as client:  # type: ignore[arg-type]
        client.ehlo()
        yield client
