"""mailserv_bounce: the operator's words in notices, and who hears nothing."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from typing import Any

import pytest
from policing import make_plugins

from mailserv.errors import ConfigError
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import MailServer, mail_server
from mailserv.testing.sink import ScriptedMX

ALICE, BOB = "alice@example.org", "bob@example.org"
GONE = {"RCPT TO:<gone": "550 5.1.1 No such user", "RCPT TO:<later": "450 4.2.1 Later"}


@contextmanager
def bouncing(clock: FakeClock | None = None, **settings: Any) -> Iterator[MailServer]:
    """A server with the plugin; far.example knows neither gone1 nor gone2."""
    with (
        ScriptedMX(GONE) as mx,
        mail_server(
            plugins=["bounce"],
            clock=clock,
            config={"plugin": {"bounce": settings}},
            accounts={ALICE: "secret", BOB: "secret"},
            routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"},
        ) as server,
    ):
        yield server


def send(server: MailServer, *names: str, sender: str = ALICE) -> None:
    server.send(sender, [f"{name}@far.example" for name in names], b"Hi.\r\n", login=(sender, "secret"))


def test_a_bounce_has_the_operators_words_and_a_person_to_answer_to() -> None:
    with bouncing(contact="help@example.org", words={"failed": "Hilfe:  Über uns.\n" * 9, "delayed": "No."}) as server:
        send(server, "gone1")
        message = email.message_from_bytes(server.wait_for_mail(ALICE)[0], policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        assert message["Reply-To"] == "help@example.org"
        text = next(message.iter_parts()).get_content()  # type: ignore[attr-defined]
        assert " ".join(text.split()).count("Hilfe: Über uns.") == 9
        assert max(map(len, text.splitlines())) <= 78
        assert text.endswith("\r\n\r\nA person answers at <help@example.org>.\r\n")


def test_a_delay_notice_has_words_of_its_own() -> None:
    clock = FakeClock()
    with bouncing(clock, words={"delayed": "Geduld."}) as server:
        send(server, "later")
        server.wait_for_log("delivery", outcome="deferred")
        clock.advance(5 * 3600)
        server.wake_queue()
        assert b"\r\n\r\nGeduld.\r\n" in server.wait_for_mail(ALICE)[0]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"quiet_for": ["Alice@example.org"]}, "quiet for <alice@example.org>"),
        ({"quiet_for": ["EXAMPLE.org"]}, "quiet for <alice@example.org>"),
        ({"quiet_about": ["gone1@far.example"]}, "quiet about <gone1@far.example>"),
        ({"quiet_about": ["far.example"]}, "quiet about <gone1@far.example>"),
    ],
)
def test_who_is_quiet_hears_nothing(settings: dict[str, Any], why: str) -> None:
    with bouncing(**settings) as server:
        send(server, "gone1")
        server.wait_for_log("notice_stopped", why=f"bounce: {why}")
        server.wait_for_empty_queue()
        assert server.mailbox(ALICE) == []


@pytest.mark.parametrize("settings", [{"quiet_for": [BOB, "org"]}, {"quiet_about": ["gone2@far.example", "example"]}])
def test_others_hear_as_ever(settings: dict[str, Any]) -> None:
    with bouncing(**settings) as server:
        send(server, "gone1", "gone2")
        (bounce,) = server.wait_for_mail(ALICE)
        assert b"gone1@far.example" in bounce


def test_an_address_with_another_tag_has_no_notices_of_its_own() -> None:
    with bouncing(per_hour=1) as server:
        server.send("alice+1@example.org", ["gone1@far.example"], b"Hi.\r\n", login=(ALICE, "secret"))
        server.wait_for_mail(ALICE)
        server.send("alice+2@example.org", ["gone1@far.example"], b"Hi.\r\n", login=(ALICE, "secret"))
        server.wait_for_log("notice_stopped", why="bounce: <alice+2@example.org> had 1 this hour")


def test_no_more_notices_an_hour_than_may_be() -> None:
    clock = FakeClock()
    with bouncing(clock, per_hour=2) as server:
        for _ in range(3):
            send(server, "gone1", "gone2")
        server.wait_for_log("notice_stopped", 2, why="bounce: <alice@example.org> had 2 this hour")
        send(server, "gone1", sender=BOB)
        server.wait_for_mail(BOB)
        server.wait_for_empty_queue()
        assert len(server.mailbox(ALICE)) == 2
        clock.advance(3601)
        send(server, "gone1")
        assert len(server.wait_for_mail(ALICE, 3)) == 3


@pytest.mark.parametrize(
    "settings",
    [
        {"contact": "nobody"},
        {"quiet_for": ["a b"]},
        {"quiet_about": ["@x"]},
        {"words": {"failed": "a\0"}},
        {"words": {"lost": "x"}},
        {"contact": "zoë@example.org"},
    ],
)
def test_settings_that_can_not_be_are_refused_at_start(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^plugin\.bounce\.(contact|quiet_for|quiet_about|words)"):
        make_plugins("bounce", settings)
