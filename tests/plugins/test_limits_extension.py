"""LIMITS (RFC 9422): what EHLO tells is what RCPT holds to."""

from __future__ import annotations

from smtp_talk import SmtpTalk

from mailserv.settings import Limits, Plugins
from mailserv.testing.server import mail_server

LIMITS = Limits(recipients=100, recipients_authenticated=250, sessions_per_ip=0, connections_per_minute=0)


def test_the_limit_that_is_told_is_the_one_that_holds() -> None:
    with mail_server(limits=LIMITS) as server, SmtpTalk(server.connect()) as talk:
        assert "LIMITS RCPTMAX=100\r\n" in talk.ask("EHLO client.example.net")
        talk.say("MAIL FROM:<smith@example.net>")
        assert all(talk.say("RCPT TO:<alice@example.org>").startswith("250") for _ in range(100))
        assert talk.say("RCPT TO:<alice@example.org>").startswith("452 4.5.3")


def test_after_a_login_another_limit_is_told() -> None:
    with mail_server(limits=LIMITS) as server, SmtpTalk(server.connect("submission")) as talk:
        assert "LIMITS RCPTMAX=100\r\n" in talk.ask("EHLO client.example.net")
        talk.log_in("alice@example.org", "secret")
        assert "LIMITS RCPTMAX=250\r\n" in talk.ask("EHLO client.example.net")


def test_limits_can_be_switched_off() -> None:
    with mail_server(plugins=Plugins(disabled=("limits",))) as server, SmtpTalk(server.connect()) as talk:
        assert "LIMITS" not in talk.ask("EHLO client.example.net")
