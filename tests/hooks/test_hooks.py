"""The hooks of a session and of the server itself: called where their specification says, their answers honoured."""

from __future__ import annotations

import poplib
import smtplib
from pathlib import Path

import pytest
from live_kit import ALICE, BOB, CAROL, LOGIN, TEXT, plugin_server, seen, session

from mailserv.errors import ConfigError
from mailserv.settings import PluginPolicy


def refuses_with_its_own_words(folder: Path, hook: str) -> None:
    body = f"""
    @hookimpl
    def {hook}(self):
        return reject("not today", code=554)
    """
    with plugin_server(folder, body) as (server, _), pytest.raises(smtplib.SMTPException) as raised:
        server.send(CAROL, [ALICE], TEXT)
    assert "not today" in str(raised.value)


def test_hook_smtp_connect_refuses_with_its_own_words(tmp_path: Path) -> None:
    refuses_with_its_own_words(tmp_path, "smtp_connect")


def test_hook_smtp_helo_refuses_with_its_own_words(tmp_path: Path) -> None:
    refuses_with_its_own_words(tmp_path, "smtp_helo")


def test_hook_smtp_mail_refuses_with_its_own_words(tmp_path: Path) -> None:
    refuses_with_its_own_words(tmp_path, "smtp_mail")


def test_hook_smtp_rcpt_refuses_with_its_own_words(tmp_path: Path) -> None:
    refuses_with_its_own_words(tmp_path, "smtp_rcpt")


def test_hook_smtp_data_refuses_with_its_own_words(tmp_path: Path) -> None:
    refuses_with_its_own_words(tmp_path, "smtp_data")


def test_hook_message_check_refuses_with_its_own_words(tmp_path: Path) -> None:
    refuses_with_its_own_words(tmp_path, "message_check")


def test_hook_message_accepted_is_told_after_the_commit(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def message_accepted(self, queue_id, envelope):
        SEEN.append((queue_id, str(envelope.reverse_path)))
    """
    with plugin_server(tmp_path, body) as (server, told):
        server.send(CAROL, [ALICE], TEXT)
        (line,) = server.wait_for_log("accepted")
        assert told == [(line["queue_id"], CAROL)]


def test_hook_check_config_stops_the_start_with_every_problem(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def check_config(self):
        return ["delay: is longer than its end", "end: is in the past"]
    """
    with pytest.raises(ConfigError) as raised, plugin_server(tmp_path, body):
        pass
    assert raised.value.problems == [
        "plugin.probe.delay: is longer than its end",
        "plugin.probe.end: is in the past",
    ]


def test_hook_authenticate_goes_before_our_own_accounts(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def authenticate(self, name, password, ip, service):
        SEEN.append((name, ip, service))
        if name == "uid=alice":
            return "Alice@example.org" if password == "ticket" else ""
        if name == "bob@example.org":
            return ""
    """
    with plugin_server(tmp_path, body, accounts={ALICE: "secret", BOB: "secret"}) as (server, asked):
        server.send(ALICE, [ALICE], TEXT, login=("uid=alice", "ticket"))
        server.send(ALICE, [ALICE], TEXT, login=LOGIN)
        for name, password in (("uid=alice", "wrong"), (BOB, "secret")):
            with pytest.raises(smtplib.SMTPAuthenticationError):
                server.send(ALICE, [ALICE], TEXT, login=(name, password))
        pop = poplib.POP3(*server.address("pop3"))
        pop.user("uid=alice")
        assert pop.pass_("ticket").startswith(b"+OK 2 messages")
        pop.quit()
        assert asked[0] == ("uid=alice", "127.0.0.1", "submission")
        assert asked[-1] == ("uid=alice", "127.0.0.1", "pop3")


def test_hook_may_send_as_goes_before_our_own_rule(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def may_send_as(self, login, reverse_path):
        return {"team": True, "alice": False}.get(reverse_path.local_part)
    """
    with plugin_server(tmp_path, body) as (server, _), session(server, "submission") as client:
        client.login(*LOGIN)
        assert client.mail("team@elsewhere.example")[0] == 250
        client.rset()
        assert client.mail(ALICE)[0] == 553
        assert client.mail("alice+tag@example.org")[0] == 250
        client.rset()
        assert client.mail("eve@example.org")[0] == 553
        assert client.docmd("MAIL", "FROM:<>")[0] == 250


def test_hook_auth_result_hears_of_every_login(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def auth_result(self, name, service, is_good):
        SEEN.append((name, service, is_good))
    """
    with plugin_server(tmp_path, body) as (server, told):
        server.send(ALICE, [ALICE], TEXT, login=LOGIN)
        with pytest.raises(smtplib.SMTPAuthenticationError):
            server.send(ALICE, [ALICE], TEXT, login=("eve", "x"))
        assert told[:2] == [(ALICE, "submission", True), ("eve", "submission", False)]


def test_hook_session_closed_hears_of_smtp_and_pop3(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def session_closed(self, peer, messages, errors, seconds, reason):
        SEEN.append((peer.service, messages, errors, reason))
        self.services.log.info("told", seconds=seconds)
    """
    with plugin_server(tmp_path, body) as (server, told):
        server.send(CAROL, [ALICE], TEXT)
        server.wait_for_log("told")
        pop = poplib.POP3(*server.address("pop3"))
        pop.user(ALICE)
        pop.pass_("secret")
        pop.retr(1)
        pop.quit()
        server.wait_for_log("told", 2)
        assert told == [("smtp", 1, 0, "quit"), ("pop3", 1, 0, "quit")]


LIFE = """
    @hookimpl
    def startup(self):
        self.services.table.put("started", "yes", self.services.now() + 100)
        SEEN.append("startup")
    @hookimpl
    def smtp_connect(self):
        SEEN.append("connect")
    @hookimpl
    def shutdown(self):
        SEEN.append(self.services.table.get("started"))
"""


def test_hook_startup_comes_once_and_before_the_first_session(tmp_path: Path) -> None:
    with plugin_server(tmp_path, LIFE) as (server, told):
        assert told == ["startup"]
        server.send(CAROL, [ALICE], TEXT)
        assert told == ["startup", "connect"]


def test_hook_shutdown_comes_last_and_the_store_is_still_open(tmp_path: Path) -> None:
    with plugin_server(tmp_path, LIFE) as (server, _):
        server.send(CAROL, [ALICE], TEXT)
    assert seen() == ["startup", "connect", "yes"]


@pytest.mark.parametrize("hook", ["smtp_helo", "smtp_mail", "smtp_rcpt", "smtp_data", "message_check"])
def test_a_plugin_that_disconnects_ends_the_session_after_its_reply(tmp_path: Path, hook: str) -> None:
    body = f"""
    @hookimpl
    def {hook}(self):
        return disconnect("enough", reason="said {hook}")
    """
    with plugin_server(tmp_path, body) as (server, _), server.connect("smtp") as raw:
        dialogue = f"EHLO c.example\r\nMAIL FROM:<{CAROL}>\r\nRCPT TO:<{ALICE}>\r\nDATA\r\n"
        reader = raw.makefile("rb")
        raw.sendall(dialogue.encode())
        if hook == "message_check":
            while not reader.readline().startswith(b"354"):
                pass
            raw.sendall(b"\r\nHi.\r\n.\r\n")
        assert reader.read().endswith(b"421 4.7.0 enough\r\n")
        server.wait_for_log("refused", why=f"probe: said {hook}")
        server.wait_for_log("session", reason="refused")


def test_what_a_plugin_on_trial_would_have_done_is_in_the_trace_and_the_mail_is_there(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def smtp_connect(self):
        return reject("no connection", reason="shady")
    @hookimpl
    def smtp_rcpt(self):
        return reject("no recipient")
    """
    policy = {"probe": PluginPolicy(mode="observe")}
    with plugin_server(tmp_path, body, policy=policy) as (server, _):
        server.send(CAROL, [ALICE], TEXT)
        (line,) = server.wait_for_log("accepted")
        observed = [entry.detail for entry in server.trace(line["queue_id"]) if entry.event == "observed"]
        assert [(each["hook"], each["reply"], each["why"]) for each in observed] == [
            ("smtp_connect", "550 5.7.1 no connection", "probe: shady"),
            ("smtp_rcpt", "550 5.7.1 no recipient", "probe: no recipient"),
        ]
