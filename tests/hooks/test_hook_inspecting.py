"""The hooks that look at whole messages: who sent it, what is in it."""

from __future__ import annotations

import smtplib
from pathlib import Path

import pytest
from live_kit import plugin_server

from mailserv.settings import PluginPolicy, Plugins
from mailserv.testing.server import MailServer, mail_server

IMPORTS = """
from mailserv import hookimpl
from mailserv.mail.finding import Finding
from mailserv.mail.verdict import reject, tempfail

"""
ALICE, CAROL = "alice@example.org", "carol@far.example"
TEXT = b"Subject: hello\r\n\r\nHi.\r\n"
LARGE = b"Subject: large\r\n\r\n" + (b"y" * 70 + b"\r\n") * 10_000
FORGED = b"Authentication-Results: mail.example.org; dkim=pass header.d=bank.example\r\n"
AUTHENTICATE = """
    @hookimpl
    def message_authenticate(self, peer, envelope, content):
        SEEN.append(b"".join(content.blocks()))
        return [AuthResult("iprev", "pass", (("policy.iprev", peer.ip),)), AuthResult("x-test", "none")]
"""


@pytest.mark.parametrize("text", [TEXT, LARGE])
def test_hook_message_authenticate_writes_one_field_below_received(tmp_path: Path, text: bytes) -> None:
    with plugin_server(tmp_path, AUTHENTICATE, data_dir=tmp_path / "data") as (server, seen):
        server.send(CAROL, [ALICE, ALICE], FORGED + text)
        (mail,) = server.wait_for_mail(ALICE)
        lines = mail.split(b"\r\n")
        assert lines[2].startswith(b"Received: from client.example.net")
        at = lines.index(b"Authentication-Results: mail.example.org;")
        assert lines[at + 1 : at + 4] == [b"\tiprev=pass", b"\t policy.iprev=127.0.0.1;", b"\tx-test=none"]
        assert mail.endswith(b"x-test=none\r\n" + text)
        assert mail.count(b"Authentication-Results") == 1
        assert seen == [b"\r\n".join(lines[2:at]) + b"\r\n" + text]
        (line,) = server.wait_for_log("accepted")
        (entry,) = [each for each in server.trace(line["queue_id"]) if each.event == "authenticated"]
        assert entry.detail == {"results": "iprev=pass, x-test=none"}
        assert len(list((tmp_path / "data").rglob("spool/*"))) == (text is LARGE), "one file, the one with the field"


def test_a_forged_field_is_taken_out_also_where_nobody_authenticates(tmp_path: Path) -> None:
    with plugin_server(tmp_path, "pass") as (server, _):
        server.send(CAROL, [ALICE], FORGED + TEXT)
        server.send(ALICE, [ALICE], FORGED + TEXT, login=(ALICE, "secret"))
        assert not [mail for mail in server.wait_for_mail(ALICE, 2) if b"Authentication-Results" in mail]


def test_hook_message_authenticate_is_seen_by_the_hooks_after_it(tmp_path: Path) -> None:
    body = (
        AUTHENTICATE
        + """
    @hookimpl
    def message_check(self, results, content):
        SEEN.append(("check", results[0].result, b"iprev=pass" in b"".join(content.blocks())))
    @hookimpl
    def message_rewrite(self, results, content):
        SEEN.append(("rewrite", results[0].result))
        return BytesContent(b"".join(content.blocks()) + b"Bye.\\r\\n")
    @hookimpl
    def message_accepted(self, results):
        SEEN.append(("accepted", results[0].result))
    """
    )
    with plugin_server(tmp_path, body) as (server, seen):
        server.send(CAROL, [ALICE], LARGE)
        server.wait_for_log("accepted")
        (mail,) = server.wait_for_mail(ALICE)
        assert b"iprev=pass" in mail
        assert mail.endswith(b"Bye.\r\n")
    assert seen[1:] == [("check", "pass", True), ("rewrite", "pass"), ("accepted", "pass")]


@pytest.mark.parametrize(
    "answer",
    [
        "None",
        "[]",
        '"x"',
        '[AuthResult("a b", "pass")]',
        '[AuthResult("dkim", "pass;")]',
        '[AuthResult("dkim", "pass", (("d", "x"),))]',
        '[AuthResult("dkim", None)]',
        "1 / 0",
    ],
)
def test_hook_message_authenticate_without_an_answer_says_none(tmp_path: Path, answer: str) -> None:
    body = f"""
    @hookimpl
    def message_authenticate(self):
        return {answer}
    """
    with plugin_server(tmp_path, body) as (server, _):
        server.send(CAROL, [ALICE], TEXT)
        assert b"\r\nAuthentication-Results: mail.example.org;\r\n\tnone\r\nSubject:" in server.wait_for_mail(ALICE)[0]


def test_hook_message_authenticate_can_be_made_a_must(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def message_authenticate(self):
        raise RuntimeError("boom")
    """
    policy = {"probe": PluginPolicy(on_error="tempfail")}
    with (
        plugin_server(tmp_path, body, policy=policy) as (server, _),
        pytest.raises(smtplib.SMTPDataError) as raised,
    ):
        server.send(CAROL, [ALICE], TEXT)
    assert raised.value.smtp_code == 451


def test_a_message_without_a_header_section_keeps_its_body_below_the_field(tmp_path: Path) -> None:
    with plugin_server(tmp_path, AUTHENTICATE) as (server, _):
        server.send(CAROL, [ALICE], b"just words\r\n" + FORGED)
        assert server.wait_for_mail(ALICE)[0].endswith(b"x-test=none\r\n\r\njust words\r\n" + FORGED)


SCANS = """
    @hookimpl
    def message_scan(self, content, results):
        return {answer}
"""


def test_hook_message_scan_puts_its_fields_below_ours_and_its_findings_into_the_trace(tmp_path: Path) -> None:
    fields = '(("X-Spam-Score", "4.5"), ("X-Spam", "a\\u00e9b"))'
    body = AUTHENTICATE + SCANS.format(answer=f'Finding("spam", 4.5, None, {fields})')
    with plugin_server(tmp_path, body) as (server, _):
        server.send(CAROL, [ALICE], LARGE)
        assert server.wait_for_mail(ALICE)[0].endswith(b"x-test=none\r\nX-Spam-Score: 4.5\r\nX-Spam: a?b\r\n" + LARGE)
        (line,) = server.wait_for_log("scan_found", found="spam", score=4.5)
        trace = [entry for entry in server.trace(line["queue_id"]) if entry.event == "scanned"]
        assert [entry.detail for entry in trace] == [{"plugin": "probe", "found": "spam", "score": 4.5}]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("None", 250),
        ("Finding()", 250),
        ('Finding("x", verdict=reject("no", code=554))', 554),
        ('Finding("x", verdict=tempfail("later"))', 451),
        ("1 / 0", 451),
        ('"x"', 451),
        ('Finding("x", True)', 451),
        ('Finding("x", verdict=Reply(250, "2.0.0", "fine"))', 451),
        ('Finding("x", fields=(("Received", "x"),))', 451),
        ('Finding("x", fields=(("Authentication-Results", "x"),))', 451),
        ('Finding("x", fields=(("X", "a\\r\\nb"),))', 451),
    ],
)
def test_hook_message_scan_is_answered_for(tmp_path: Path, answer: str, code: int) -> None:
    with plugin_server(tmp_path, SCANS.format(answer=answer)) as (server, _):
        assert code_of(server) == code
        assert [mail.endswith(b"\r\n" + TEXT) for mail in server.mailbox(ALICE)] == ([True] if code == 250 else [])


def code_of(server: MailServer) -> int:
    """The reply to the dot."""
    try:
        server.send(CAROL, [ALICE], TEXT)
    except smtplib.SMTPDataError as error:
        return error.smtp_code
    return 250


def test_hook_message_scan_takes_the_strictest_of_all(tmp_path: Path) -> None:
    answers = ['Finding("a", verdict=tempfail("a"))', "Finding()", 'Finding("c", verdict=reject("c"))']
    names = []
    for number, answer in enumerate(answers):
        names.append(f"scan{number}")
        body = "class Plugin:\n    def __init__(self, *_): pass\n" + SCANS.format(answer=answer)
        (tmp_path / f"scan{number}.py").write_text(IMPORTS + body)
    with (
        mail_server(plugins=Plugins(enabled=tuple(names), path=tmp_path)) as server,
        pytest.raises(smtplib.SMTPDataError) as raised,
    ):
        server.send(CAROL, [ALICE], TEXT)
    assert raised.value.smtp_error == b"5.7.1 c"


def test_hook_message_scan_is_not_asked_of_what_is_refused_before(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def message_check(self):
        return reject("no")
    @hookimpl
    def message_scan(self):
        SEEN.append("asked")
    """
    with plugin_server(tmp_path, body) as (server, seen), pytest.raises(smtplib.SMTPDataError):
        server.send(CAROL, [ALICE], TEXT)
    assert seen == []
