"""The composition root: start, reload, stop."""

from __future__ import annotations

import socket
from contextlib import closing
from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest
from smtp_talk import SmtpTalk
from talking import auth_plain

from mailserv.clock import SystemClock
from mailserv.deliver.mx import Target
from mailserv.errors import ConfigError, StoreUnavailable
from mailserv.mail.reply import Reply
from mailserv.server import Server
from mailserv.settings import DNS, TLS, Limits, Listen, Plugins, Relay, Routed, Settings, Size
from mailserv.store.sqlite import open_store
from mailserv.testing.dns import FakeZone
from mailserv.testing.server import MailServer, mail_server
from mailserv.testing.sink import ScriptedMX

PLUGIN = """
from mailserv import hookimpl
from mailserv.mail.verdict import {verdict}

class Plugin:
    def __init__(self, settings, services):
        pass

    @hookimpl
    def {hook}(self, {arguments}):
        {body}
"""


def changed(settings: Settings, **fields: object) -> Settings:
    return msgspec.structs.replace(settings, **fields)


def test_a_reload_counts_for_the_next_session() -> None:
    with mail_server() as server:
        limits = Limits(message_size=Size(1_234), sessions_per_ip=0, connections_per_minute=0)
        old = server.server.settings
        assert (
            server.server.reload(changed(old, limits=limits, relay=Relay(networks=(ip_network("127.0.0.0/8"),)))) == []
        )
        with SmtpTalk(server.connect()) as talk:
            assert "SIZE 1234" in talk.ask("EHLO x.example.net")
            talk.say("MAIL FROM:<x@example.net>")
            assert talk.say("RCPT TO:<y@example.net>").startswith("250")


def test_a_reload_says_what_waits_for_a_restart_and_keeps_it() -> None:
    with mail_server() as server:
        old = server.server.settings
        assert server.server.reload(changed(old, hostname="new.example.org", data_dir=Path("/nowhere"))) == [
            "hostname",
            "data_dir",
        ]
        with SmtpTalk(server.connect()) as talk:
            assert "mail.example.org" in talk.greeting
        assert server.server.settings.data_dir == old.data_dir


def log_in(server: MailServer, password: str) -> str:
    with SmtpTalk(server.connect("submission")) as talk:
        talk.ask("EHLO x.example.net")
        return talk.say(auth_plain("alice@example.org", password))


def test_a_reload_forgets_no_guesser() -> None:
    with mail_server() as server:
        for _ in range(2):
            assert log_in(server, "guess").startswith("535")
            server.server.reload(server.server.settings)
        limits = msgspec.structs.replace(server.server.settings.limits, failed_logins_per_day=2)
        server.server.reload(changed(server.server.settings, limits=limits))
        assert log_in(server, "secret").startswith("421 4.7.0 Too many failed logins")


def test_a_reload_asks_other_name_servers() -> None:
    with FakeZone() as old, FakeZone() as new, ScriptedMX() as mx:
        new.add("far.example", "MX 10 mx.far.example.")
        new.add("mx.far.example", f"A {mx.host}")
        dns = {"nameservers": [old.nameserver]}
        relay = Relay(networks=(ip_network("127.0.0.0/8"),))
        with mail_server(config={"dns": dns}, relay=relay, smtp_port=mx.port) as server:
            server.server.reload(changed(server.server.settings, dns=DNS(nameservers=(new.nameserver,))))
            server.send("alice@example.org", ["bob@far.example"], b"Subject: hi\r\n\r\nHi.\r\n")
            mx.wait_for_messages(1)
            assert old.queries == []
            mx.hang_up()
            asked = new.queries
            server.server.reload(server.server.settings)
            server.send("alice@example.org", ["bob@far.example"], b"Subject: hi\r\n\r\nHi.\r\n")
            mx.wait_for_messages(2)
            assert new.queries == asked * 2, "a reload has everything asked anew"


def test_a_reload_tells_of_mail_that_waits_for_a_way_that_has_gone() -> None:
    with ScriptedMX({"GREETING": "421 4.3.2 Closed for good"}) as mx:
        old, idle = f"smtp:[{mx.host}]:{mx.port}", "smtp:[192.0.2.1]:25"
        relay = Relay(networks=(ip_network("127.0.0.0/8"),))
        with mail_server(relay=relay, routes={"*": old, "never.example": idle}) as server:
            server.send("alice@example.org", ["bob@far.example"], b"Subject: hi\r\n\r\nHi.\r\n")
            server.wait_for_log("delivery", outcome="deferred")
            server.queue()  # what was settled is committed
            settings = server.server.settings
            server.server.reload(changed(settings, routes={"far.example": Routed(to=old, tls="none")}))
            server.server.reload(changed(settings, routes={"*": "smtp:[192.0.2.2]:25"}))
            (line,) = server.wait_for_log("route_left")  # the first reload only gave it to another entry
            assert line["route"] == old


def test_queue_retry_tries_a_host_that_was_slow_a_moment_ago() -> None:
    with ScriptedMX({"GREETING": ["421 4.3.2 Not yet"]}) as mx:
        relay = Relay(networks=(ip_network("127.0.0.0/8"),))
        with mail_server(relay=relay, routes={"*": f"smtp:[{mx.host}]:{mx.port}"}) as server:
            server.send("alice@example.org", ["bob@far.example"], b"Subject: hi\r\n\r\nHi.\r\n")
            server.wait_for_log("delivery", outcome="deferred")
            server.queue()  # what was settled is committed
            server.server._transport._slow.note(Target(mx.host, mx.host, mx.port), Reply(451, "4.4.1", "timed out"))
            with closing(open_store(server.server.settings.data_dir, SystemClock(), exclusive=False)) as beside:
                assert beside.queue_retry([], SystemClock().now()) == 1
            mx.wait_for_messages(1)


def test_a_reload_with_a_bad_certificate_changes_nothing(tmp_path: Path) -> None:
    with mail_server() as server:
        old = server.server.settings
        bad = TLS(certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem")
        with pytest.raises(ConfigError, match="certificate"):
            server.server.reload(changed(old, tls=bad, limits=Limits(message_size=Size(77))))
        with SmtpTalk(server.connect()) as talk:
            assert "SIZE 50000000" in talk.ask("EHLO x.example.net")


def test_a_start_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        listen = (
            Listen(service="smtp", address="127.0.0.1:0"),
            Listen(service="pop3", address=f"127.0.0.1:{port}"),
        )
        settings = Settings(hostname="mail.example.org", data_dir=tmp_path, listen=listen)
        with pytest.raises(ConfigError, match="Address already in use"):
            Server(settings).start()
    second = Server(changed(settings, listen=listen[:1]))
    second.start()
    second.stop()
    second.stop()


def test_a_second_server_on_one_folder_is_refused(tmp_path: Path) -> None:
    with mail_server(data_dir=tmp_path), pytest.raises(StoreUnavailable, match="process"):
        Server(Settings(hostname="mail.example.org", data_dir=tmp_path)).start()


def test_metrics_are_served() -> None:
    with mail_server(services=("smtp", "metrics")) as server:
        server.send("x@example.net", ["alice@example.org"], b"\r\nx\r\n")
        with server.connect("metrics") as client:
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            text = b"".join(iter(lambda: client.recv(65536), b""))
        assert b'mailserv_messages_accepted_total{service="smtp"}' in text


@pytest.mark.parametrize(
    ("hook", "arguments", "first"),
    [
        ("smtp_connect", "peer", "554"),
        ("smtp_helo", "peer", "220"),
        ("smtp_mail", "peer, envelope", "220"),
        ("smtp_rcpt", "forward_path", "220"),
        ("smtp_data", "envelope", "220"),
        ("message_check", "content", "220"),
    ],
)
def test_each_deciding_hook_refuses_its_command(tmp_path: Path, hook: str, arguments: str, first: str) -> None:
    body = "return reject('the rule says no', code=554)"
    text = PLUGIN.format(verdict="reject", hook=hook, arguments=arguments, body=body)
    (tmp_path / "rule.py").write_text(text)
    with mail_server(plugins=Plugins(enabled=("rule",), path=tmp_path)) as server, SmtpTalk(server.connect()) as talk:
        assert talk.greeting.startswith(first)
        if first == "220":
            answers = [talk.say("EHLO x.example.net"), talk.message("x@example.net", "alice@example.org")]
            assert "554 5.7.1 the rule says no" in answers
        assert server.mailbox("alice@example.org") == []


@pytest.mark.parametrize("hook", ["smtp_connect", "smtp_helo", "smtp_mail", "smtp_rcpt", "smtp_data", "message_check"])
def test_a_plugin_that_raises_costs_a_451_and_no_message(tmp_path: Path, hook: str) -> None:
    text = PLUGIN.format(verdict="reject", hook=hook, arguments="", body="raise RuntimeError('boom')")
    (tmp_path / "rule.py").write_text(text.replace("self, )", "self)"))
    with mail_server(plugins=Plugins(enabled=("rule",), path=tmp_path)) as server, SmtpTalk(server.connect()) as talk:
        if talk.greeting.startswith("220"):
            answers = [talk.say("EHLO x.example.net"), talk.message("x@example.net", "alice@example.org")]
            assert any(answer.startswith("451 4.3.0") for answer in answers)
        else:
            assert talk.greeting.startswith("421 4.3.0")
        server.wait_for_log("plugin_failed", plugin="rule", hook=hook)
        assert server.mailbox("alice@example.org") == []


def test_a_verdict_can_end_the_session(tmp_path: Path) -> None:
    text = PLUGIN.format(verdict="disconnect", hook="smtp_helo", arguments="peer", body="return disconnect('go away')")
    (tmp_path / "rule.py").write_text(text)
    with mail_server(plugins=Plugins(enabled=("rule",), path=tmp_path)) as server, SmtpTalk(server.connect()) as talk:
        assert talk.say("EHLO x.example.net").startswith("421 4.7.0 go away")
        assert talk.is_closed()


def test_message_accepted_is_told_after_the_commit(tmp_path: Path) -> None:
    body = "import pathlib; pathlib.Path(__file__).with_name('told').write_text(queue_id)"
    (tmp_path / "rule.py").write_text(
        PLUGIN.format(verdict="reject", hook="message_accepted", arguments="queue_id", body=body)
    )
    with mail_server(plugins=Plugins(enabled=("rule",), path=tmp_path)) as server, SmtpTalk(server.connect()) as talk:
        talk.say("EHLO x.example.net")
        queue_id = talk.message("x@example.net", "alice@example.org").rpartition(" ")[2]
        assert (tmp_path / "told").read_text() == queue_id


def test_who_says_quit_may_come_back_at_once() -> None:
    with mail_server(limits=Limits(sessions=1, sessions_per_ip=1, connections_per_minute=0)) as server:
        for _ in range(50):
            with SmtpTalk(server.connect()) as talk:
                assert talk.greeting.startswith("220")
                assert talk.say("QUIT").startswith("221")
