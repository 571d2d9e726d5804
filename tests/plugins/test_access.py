"""mailserv_access: the first rule that fits counts, a denial says why, and "allow" permits nothing that others refuse."""

from __future__ import annotations

import smtplib
from typing import Any

import pytest
from policing import make_plugins, peer

from mailserv.errors import ConfigError
from mailserv.settings import Plugins
from mailserv.testing.server import MailServer, mail_server

OFFICE = {"action": "allow", "networks": ["192.0.2.7"]}
NET = {"action": "deny", "networks": ["192.0.2.0/24", "2001:db8::/32"], "reason": "ticket 4711"}
NOT_SUBMISSION = {"action": "deny", "services": ["submission", "submissions"]}
EVERYBODY = {"action": "deny"}


@pytest.mark.parametrize(
    ("rules", "ip", "service", "is_denied"),
    [
        ([], "192.0.2.1", "smtp", False),
        ([NET], "192.0.2.1", "smtp", True),
        ([NET], "::ffff:192.0.2.1", "smtp", True),
        ([NET], "2001:db8:7::1", "smtp", True),
        ([NET], "198.51.100.1", "smtp", False),
        ([OFFICE, NET], "192.0.2.7", "smtp", False),
        ([NET, OFFICE], "192.0.2.7", "smtp", True),
        ([OFFICE, EVERYBODY], "198.51.100.1", "smtp", True),
        ([OFFICE, NOT_SUBMISSION], "192.0.2.7", "submission", False),
        ([NOT_SUBMISSION], "192.0.2.1", "submissions", True),
        ([NOT_SUBMISSION], "192.0.2.1", "smtp", False),
        ([{**NET, "services": ["submission"]}, OFFICE], "192.0.2.1", "smtp", False),
    ],
)
def test_the_first_rule_that_fits_counts(rules: list[dict[str, Any]], ip: str, service: str, is_denied: bool) -> None:
    runner = make_plugins("access", {"rules": rules}).runner
    verdict = runner.decide("smtp_connect", peer=peer(ip, service=service))
    assert (verdict is not None) == is_denied


def test_a_denial_tells_the_client_the_reply_and_the_operator_the_reason() -> None:
    rules = [OFFICE, {**NET, "reply": "No mail from your network"}]
    verdict = make_plugins("access", {"rules": rules}).runner.decide("smtp_connect", peer=peer("192.0.2.1"))
    assert verdict is not None
    assert str(verdict.reply) == "554 5.7.1 No mail from your network ([192.0.2.1])"
    assert verdict.reason == "access: ticket 4711"


def test_a_denial_without_a_reason_names_its_rule() -> None:
    verdict = make_plugins("access", {"rules": [OFFICE, EVERYBODY]}).runner.decide(
        "smtp_connect", peer=peer("10.0.0.1")
    )
    assert verdict is not None
    assert verdict.reason == "access: rule 2"


@pytest.mark.parametrize("reply", ["", "two\r\nlines", "bell \x07", "Kein Zutritt für Sie", "x" * 401])
def test_a_reply_that_would_break_the_protocol_is_refused_at_start(reply: str) -> None:
    with pytest.raises(ConfigError, match=r"^plugin\.access\.rules\.reply: rule 1: "):
        make_plugins("access", {"rules": [{**EVERYBODY, "reply": reply}]})


def test_a_mistake_in_a_rule_is_named() -> None:
    with pytest.raises(ConfigError, match=r"plugin\.access\.rules.*networks"):
        make_plugins("access", {"rules": [{"action": "deny", "networks": ["192.0.2.7/24"]}]})


def server(*rules: dict[str, Any]) -> Any:
    return mail_server(plugins=Plugins(enabled=("access",)), plugin={"access": {"rules": list(rules)}})


def greeting(running: MailServer) -> bytes:
    with running.connect() as client:
        return b"".join(iter(lambda: client.recv(1000), b""))


def test_a_denied_client_gets_no_session_and_the_log_says_why() -> None:
    with server({"action": "deny", "networks": ["127.0.0.0/8"], "services": ["smtp"], "reason": "a test"}) as running:
        assert greeting(running) == b"554 5.7.1 Access denied ([127.0.0.1])\r\n"
        (line,) = running.wait_for_log("access_denied")
        assert (line["ip"], line["service"], line["rule"], line["why"]) == ("127.0.0.1", "smtp", 1, "a test")
        (line,) = running.wait_for_log("refused", command="connect")
        assert line["why"] == "access: a test"
        running.send("alice@example.org", ["alice@example.org"], b"Hi.\r\n", login=("alice@example.org", "secret"))


def test_invariant_4_an_allowed_client_may_not_relay() -> None:
    with server({"action": "allow", "networks": ["127.0.0.0/8"]}) as running:
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            running.send("a@example.net", ["b@far.example"], b"Hi.\r\n")
        assert refused.value.recipients["b@far.example"][0] == 550
