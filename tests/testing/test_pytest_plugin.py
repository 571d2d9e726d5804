"""The fixtures that pytest finds by entry point: for plugin authors, and for whoever tests an application's mail."""

from __future__ import annotations

import smtplib
import subprocess
import sys
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pytest

from mailserv import hookimpl
from mailserv.errors import ConfigError
from mailserv.mail.address import Address
from mailserv.mail.plugin import Services
from mailserv.mail.verdict import Verdict, reject
from mailserv.settings import Plugins
from mailserv.testing.choosing import choose_plugins, plugin_name
from mailserv.testing.clock import FakeClock
from mailserv.testing.dns import FakeZone
from mailserv.testing.server import MailServer, mail_server
from mailserv.testing.sink import ScriptedMX

MESSAGE = b"Subject: Hi\r\n\r\nHi.\r\n"
Start = Callable[..., MailServer]


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    text: Annotated[str, msgspec.Meta(description="what is said")] = "No"


class Refuser:
    """Refuses everybody; never installed anywhere."""

    Settings = Settings

    def __init__(self, settings: Settings, services: Services) -> None:
        self._text = settings.text

    @hookimpl
    def smtp_rcpt(self, forward_path: Address) -> Verdict | None:
        return reject(self._text)


def test_a_class_that_is_not_installed_runs_with_settings_as_toml_has_them(mail_server: Start) -> None:
    server = mail_server(plugins=[Refuser], config={"plugin": {"refuser": {"text": "Not today"}}})
    with pytest.raises(smtplib.SMTPRecipientsRefused, match="Not today"):
        server.send("carol@example.net", ["alice@example.org"], MESSAGE)


def test_an_installed_one_is_enabled_by_its_name_beside_a_class(mail_server: Start) -> None:
    server = mail_server(plugins=["maildir", Refuser], config={"plugins": {"disabled": ["vrfy"]}})
    assert server.server.settings.plugins == Plugins(enabled=("maildir", "refuser"), disabled=("vrfy",))


def test_two_servers_of_one_test_are_two(mail_server: Start) -> None:
    first, second = mail_server(), mail_server()
    assert first.address("smtp") != second.address("smtp")


def test_wrong_settings_are_told_before_a_server_starts(mail_server: Start) -> None:
    with pytest.raises(ConfigError, match=r"queue\.retri: unknown setting"):
        mail_server(config={"queue": {"retri": ["1m"]}})


def test_one_address_in_the_place_of_a_list_is_told(mail_server: Start) -> None:
    with pytest.raises(TypeError, match=r"\['alice@example.org'\]"):
        mail_server().send("carol@example.net", "alice@example.org", MESSAGE)


class Stumbler:
    def __init__(self, settings: None, services: Services) -> None:
        """Nothing is kept."""

    @hookimpl
    def smtp_rcpt(self, forward_path: Address) -> None:
        raise LookupError(f"no {forward_path.domain} in the book")


def test_what_went_wrong_inside_is_shown_to_whoever_reads_why_a_test_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with mail_server(plugins=[Stumbler]) as server, pytest.raises(smtplib.SMTPRecipientsRefused, match="451"):
        server.send("carol@example.net", ["alice@example.org"], MESSAGE)
    shown = capsys.readouterr().err
    assert shown.startswith("plugin_failed plugin=stumbler hook=smtp_rcpt \nTraceback")
    assert shown.endswith("LookupError: no example.org in the book\n")


def test_clock_zone_and_remote_mx_work_together(
    mail_server: Start, fake_clock: FakeClock, dns_zone: FakeZone, remote_mx: Callable[..., ScriptedMX]
) -> None:
    mx = remote_mx({"DOT": ["451 4.3.0 Later"]})
    dns_zone.add("far.example", "MX 10 mx.far.example.")
    dns_zone.add("mx.far.example", f"A {mx.host}")
    server = mail_server(
        clock=fake_clock,
        smtp_port=mx.port,
        config={"dns": {"nameservers": [dns_zone.nameserver]}, "queue": {"retry": ["1m"]}},
    )
    server.send("alice@example.org", ["bob@far.example"], MESSAGE, login=("alice@example.org", "secret"))
    server.wait_for_log("delivery", outcome="deferred")
    fake_clock.advance(120)
    server.wake_queue()
    (taken,) = mx.wait_for_messages(1)
    assert taken.rcpts == ("<bob@far.example>",)


def test_the_name_of_a_class_is_its_own_or_its_modules() -> None:
    assert plugin_name(Refuser) == "refuser"
    assert plugin_name(type("Plugin", (), {"__module__": "mailserv_hello"})) == "hello"
    with pytest.raises(ValueError, match="two plugins have one name"):
        choose_plugins([Refuser, "refuser"])


def test_a_mailbox_is_found_however_its_address_is_written(mail_server: Callable[..., MailServer]) -> None:
    server = mail_server(accounts={"Bob@Example.ORG": "secret"})
    server.send("carol@example.net", ["bob@example.org"], b"Subject: Hi\r\n\r\nHi.\r\n")
    assert len(server.mailbox("Bob@Example.org")) == 1


def test_a_service_that_was_not_asked_for_is_told_by_name(mail_server: Callable[..., MailServer]) -> None:
    with pytest.raises(LookupError, match="no pop3"):
        mail_server(services=["smtp"]).address("pop3")


def test_pytest_loads_the_plugin_without_loading_the_server() -> None:
    code = (
        "import sys; import mailserv.testing.pytest_plugin;"
        "print([n for n in sys.modules if n.startswith(('mailserv.', 'dns', 'sqlite'))])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["['mailserv.testing',", "'mailserv.testing.pytest_plugin']"]


def test_a_fixture_of_the_same_name_in_somebodys_suite_goes_before_ours(tmp_path: Any) -> None:
    (tmp_path / "test_theirs.py").write_text(
        "import pytest\n"
        "@pytest.fixture\n"
        "def mail_server():\n    return 'theirs'\n"
        "def test_it(mail_server):\n    assert mail_server == 'theirs'\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
