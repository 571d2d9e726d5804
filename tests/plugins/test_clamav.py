"""mailserv_clamav: what clamd says, and what becomes of the message. The interop tests have the real one."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_clamd import FakeClamd
from policing import make_plugins

from mailserv.errors import ConfigError
from mailserv.settings import PluginPolicy, Plugins
from mailserv.testing.server import MailServer, mail_server

ALICE, CAROL = "alice@example.org", "carol@far.example"
TEXT = b"Subject: hello\r\n\r\nHi.\r\n"
LARGE = b"Subject: large\r\n\r\n" + (b"y" * 70 + b"\r\n") * 40_000
EICAR = b"stream: Eicar-Test-Signature FOUND\0"


@contextmanager
def scanning(address: str, mode: str = "enforce", **settings: Any) -> Iterator[MailServer]:
    policy = {"clamav": PluginPolicy(mode=mode)}  # type: ignore[arg-type]
    section = {"clamav": {"address": address, **settings}}
    with mail_server(plugins=Plugins(enabled=("clamav",), policy=policy), plugin=section) as server:
        yield server


def sent(server: MailServer, text: bytes = TEXT) -> str:
    """ "" or the reply to the dot."""
    try:
        server.send(CAROL, [ALICE], text)
    except smtplib.SMTPDataError as error:
        return f"{error.smtp_code} {error.smtp_error.decode()}"  # type: ignore[union-attr]
    return ""


@pytest.mark.parametrize("text", [TEXT, LARGE])
def test_a_clean_message_is_shown_whole_and_passes_as_it_is(text: bytes) -> None:
    with FakeClamd() as clamd, scanning(clamd.address) as server:
        assert sent(server, text) == ""
        (mail,) = server.wait_for_mail(ALICE)
        (scanned,) = clamd.scanned
        assert mail.endswith(scanned)
        assert scanned.startswith(b"Received: ")
        assert scanned.endswith(text)
        (line,) = server.wait_for_log("accepted")
        (entry,) = [each for each in server.trace(line["queue_id"]) if each.event == "scanned"]
        assert entry.detail == {"plugin": "clamav", "found": ""}


def test_clamd_may_listen_at_a_unix_socket(tmp_path: Path) -> None:
    with FakeClamd(EICAR, path=tmp_path / "clamd") as clamd, scanning(clamd.address) as server:
        assert sent(server).startswith("554 ")


def test_a_virus_is_refused_by_its_name() -> None:
    with FakeClamd(EICAR) as clamd, scanning(clamd.address) as server:
        assert sent(server) == "554 5.7.1 The message has a virus: Eicar-Test-Signature"
        server.wait_for_log("scan_found", plugin="clamav", found="Eicar-Test-Signature")
        server.wait_for_log("refused", why="clamav: Eicar-Test-Signature")
        assert server.mailbox(ALICE) == []


@pytest.mark.parametrize("text", [TEXT, LARGE])
def test_a_virus_can_be_let_in_with_a_field_that_names_it(text: bytes) -> None:
    with FakeClamd(EICAR) as clamd, scanning(clamd.address, infected="tag", field="X-Virus") as server:
        assert sent(server, text) == ""
        (mail,) = server.wait_for_mail(ALICE)
        assert mail.endswith(b"\r\nX-Virus: Eicar-Test-Signature\r\n" + text)
        assert mail.split(b"\r\n")[2].startswith(b"Received: ")
        (line,) = server.wait_for_log("accepted")
        (entry,) = [each for each in server.trace(line["queue_id"]) if each.event == "scanned"]
        assert entry.detail == {"plugin": "clamav", "found": "Eicar-Test-Signature"}


TROUBLE = {
    "it hangs up": b"",
    "it has had enough": b"INSTREAM size limit exceeded. ERROR\0",
    "it says nonsense": b"\xff" * 5000,
    "it takes too long": None,
}


@pytest.mark.parametrize("at_once", [False, True], ids=["at the end", "at once"])
@pytest.mark.parametrize("reply", TROUBLE.values(), ids=TROUBLE)
def test_a_clamd_in_trouble_keeps_the_message_out_for_now(reply: bytes | None, at_once: bool) -> None:
    with FakeClamd(reply, at_once=at_once) as clamd, scanning(clamd.address, timeout="1s") as server:
        assert sent(server, LARGE) == "451 4.7.1 The message cannot be scanned for viruses now; try again later"
        server.wait_for_log("clamav_unavailable")
        assert server.mailbox(ALICE) == []


def test_a_reply_before_the_end_counts() -> None:
    with FakeClamd(EICAR, at_once=True) as clamd, scanning(clamd.address) as server:
        assert sent(server).startswith(
            ("554 ", "451 ")
        )  # the kernel may have thrown the reply away with the connection


@pytest.mark.parametrize(("unavailable", "code"), [("tempfail", "451"), ("accept", "")])
def test_the_operator_says_what_happens_without_clamd(tmp_path: Path, unavailable: str, code: str) -> None:
    with scanning(f"unix:{tmp_path}/none", unavailable=unavailable) as server:
        assert sent(server)[:3] == code
        server.wait_for_log("clamav_unavailable")


def test_a_message_that_is_too_large_is_not_scanned() -> None:
    with FakeClamd(EICAR) as clamd, scanning(clamd.address, max_size="1KB") as server:
        assert sent(server, LARGE) == ""
        assert clamd.scanned == []


def test_a_name_that_clamd_gives_can_not_break_a_line() -> None:
    name = b"stream: a\r\nX: b\xc3\xa9 " + b"c" * 500 + b" FOUND\0"
    with FakeClamd(name) as clamd, scanning(clamd.address, infected="tag") as server:
        assert sent(server) == ""
        (mail,) = server.wait_for_mail(ALICE)
        assert b"\r\nX-Virus-Found: a??X: b? ccc" in mail


def test_on_trial_it_only_says_what_it_would_do() -> None:
    with FakeClamd(EICAR) as clamd, scanning(clamd.address, "observe") as server:
        assert sent(server) == ""
        server.wait_for_log("plugin_observed", why="Eicar-Test-Signature")
        (line,) = server.wait_for_log("accepted")
        assert [each.event for each in server.trace(line["queue_id"])].count("observed") == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"address": "clamd"},
        {"address": "unix:clamd"},
        {"address": "unix:/" + "x" * 107},
        {"address": "[x]:3310"},
        {"address": "[::1]:0"},
        {"field": "X Y"},
        {"field": ""},
        {"timeout": "0s"},
        {"infected": "drop"},
    ],
)
def test_settings_that_can_not_be_are_refused_at_start(settings: dict[str, Any]) -> None:
    (key,) = settings
    with pytest.raises(ConfigError, match=rf"^plugin\.clamav\.{key}"):
        make_plugins("clamav", settings)
