"""The hooks about bounces and other notices: what is told at all, and in which words."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from live_kit import ALICE, CAROL, LOGIN, TEXT, plugin_server, session

from mailserv.settings import PluginPolicy
from mailserv.testing.server import MailServer
from mailserv.testing.sink import ScriptedMX

GONE = {"RCPT TO:<gone": "550 5.1.1 No such user"}


def test_hook_dsn_policy_stops_what_is_told_of_one_recipient(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def dsn_policy(self, notice, row, outcome):
        SEEN.append((notice.kind.value, str(notice.to), str(row.forward_path), outcome.reply.code))
        return reject("no", reason="nobody asks") if row.forward_path.local_part == "gone2" else None
    """
    with (
        ScriptedMX(GONE) as mx,
        plugin_server(tmp_path, body, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as (server, asked),
    ):
        server.send(ALICE, ["gone1@far.example", "gone2@far.example"], TEXT, login=LOGIN)
        (bounce,) = server.wait_for_mail(ALICE)
        assert b"gone1@far.example" in bounce
        assert b"gone2@far.example" not in bounce
        assert asked == [("failed", ALICE, f"gone{number}@far.example", 550) for number in (1, 2)]
        server.send(ALICE, ["gone2@far.example"], TEXT, login=LOGIN)
        lines = server.wait_for_log("notice_stopped", 2, recipient="gone2@far.example", why="probe: nobody asks")
        server.wait_for_empty_queue()
        assert len(server.mailbox(ALICE)) == 1
        trace = server.trace(lines[-1]["queue_id"])
        assert [entry.event for entry in trace][-2:] == ["failed", "notice_stopped"]


@pytest.mark.parametrize(("answer", "code"), [("reject", 250), ("tempfail", 451)])
def test_hook_dsn_policy_is_asked_of_a_success_that_is_known_at_once(tmp_path: Path, answer: str, code: int) -> None:
    body = f"""
    @hookimpl
    def dsn_policy(self, notice):
        return {answer}("no", reason=notice.kind.value)
    """
    with plugin_server(tmp_path, body) as (server, _):
        with session(server) as client:
            client.mail(ALICE)
            client.docmd("RCPT", f"TO:<{ALICE}> NOTIFY=SUCCESS")
            assert client.data(TEXT)[0] == code
        assert len(server.mailbox(ALICE)) == (code == 250), "the message, and no notice"
        if code == 250:
            (line,) = server.wait_for_log("accepted")
            assert server.trace(line["queue_id"])[-1].detail["why"] == "probe: succeeded"


def test_invariant_3_no_plugin_makes_a_notice_to_the_null_reverse_path(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def dsn_policy(self, notice):
        SEEN.append(str(notice.to))
    @hookimpl
    def dsn_compose(self, words):
        return NoticeWords("<>", words.text, (("To", "<>"),))
    """
    with (
        ScriptedMX(GONE) as mx,
        plugin_server(tmp_path, body, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as (server, told),
    ):
        server.send("", ["gone@far.example"], TEXT, login=LOGIN)
        (notice,) = server.wait_for_mail(ALICE)
        server.wait_for_empty_queue()
        assert b"To: <postmaster@mail.example.org>\r\n" in notice
        assert set(told) == {"postmaster@mail.example.org"}


def test_hook_dsn_policy_may_say_later_and_the_row_waits(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def dsn_policy(self):
        return tempfail("not now")
    """
    with (
        ScriptedMX(GONE) as mx,
        plugin_server(tmp_path, body, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as (server, _),
    ):
        server.send(ALICE, ["gone@far.example"], TEXT, login=LOGIN)
        server.wait_for_log("delivery", outcome="deferred")
        server.wait_for_log("notice_waits")
        server.send(ALICE, [CAROL], TEXT, login=LOGIN)
        mx.wait_for_messages(1)
        server.wait_for_log("delivery", outcome="delivered")
        assert [(str(row.forward_path), row.state) for row in server.queue()] == [("gone@far.example", "ready")]
        assert server.mailbox(ALICE) == []
        assert not server.log.matching("delivery_broke")


def test_hook_dsn_policy_on_trial_is_in_the_trace(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def dsn_policy(self):
        return reject("no")
    """
    policy = {"probe": PluginPolicy(mode="observe")}
    with (
        ScriptedMX(GONE) as mx,
        plugin_server(tmp_path, body, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}, policy=policy) as (
            server,
            _,
        ),
    ):
        server.send(ALICE, ["gone@far.example"], TEXT, login=LOGIN)
        server.wait_for_mail(ALICE)
        (line,) = server.wait_for_log("accepted")
        assert [entry.event for entry in server.trace(line["queue_id"])][-3:] == ["failed", "observed", "bounced"]


def bounced(server: MailServer) -> EmailMessage:
    """The one bounce of a message to nobody, without a defect, with its three parts."""
    server.send(ALICE, ["gone@far.example"], TEXT, login=LOGIN)
    (whole,) = server.wait_for_mail(ALICE)
    message = email.message_from_bytes(whole, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    kinds = [part.get_content_type() for part in message.iter_parts()]
    assert kinds == ["text/plain", "message/delivery-status", "text/rfc822-headers"]
    assert message.get_content_type() == "multipart/report"
    return message


def test_hook_dsn_compose_changes_the_words_each_after_the_other(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def dsn_compose(self, notice, words):
        text = words.text + "Всё пропало. " * 100 + "\\n"
        return NoticeWords("Тема " * 40, text, (("Organization", "Über " * 30), ("Reply-To", "a@example.org")))
    """
    with (
        ScriptedMX(GONE) as mx,
        plugin_server(tmp_path, body, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as (server, _),
    ):
        message = bounced(server)
        assert message["Subject"].split() == ["Тема"] * 40
        assert message["Organization"].split() == ["Über"] * 30
        assert message["Reply-To"] == "a@example.org"
        text = next(message.iter_parts()).get_content()  # type: ignore[attr-defined]
        assert text.startswith("This is the mail system at mail.example.org.\r\n")
        assert text.count("Всё пропало.") == 100


@pytest.mark.parametrize(
    "lie",
    [
        '"words"',
        "NoticeWords('a\\r\\nTo: x', '')",
        "NoticeWords('', 'a\\r\\n')",
        "NoticeWords('', '', (('Content-Type', 'text/plain'),))",
        "NoticeWords('', '', (('auto-submitted', 'no'),))",
        "NoticeWords('', '', (('X: y', 'z'),))",
        "NoticeWords('', '', (('X', 'y\\nz'),))",
        "NoticeWords('', '', ('X',))",
    ],
)
def test_hook_dsn_compose_never_breaks_the_report(tmp_path: Path, lie: str) -> None:
    body = f"""
    @hookimpl
    def dsn_compose(self):
        return {lie}
    """
    with (
        ScriptedMX(GONE) as mx,
        plugin_server(tmp_path, body, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as (server, _),
    ):
        message = bounced(server)
        assert message["Subject"] == "Your message could not be delivered"
        assert message["Auto-Submitted"] == "auto-replied"
        server.wait_for_log("plugin_lied", plugin="probe")
