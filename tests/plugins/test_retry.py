"""mailserv_retry: when the next attempt comes, by domain, attempt and the host's words."""

from __future__ import annotations

from typing import Any

import pytest
from delivering import make_delivery
from policing import make_plugins

from mailserv.errors import ConfigError
from mailserv.mail.outcome import Deferred
from mailserv.mail.reply import Reply
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import mail_server
from mailserv.testing.sink import ScriptedMX

DOMAINS = {"far.example": ["1m", "10m"], ".big.example": ["30m"], "mail.big.example": ["2h"]}
LATER = "Mailbox busy"
GREY = "Greylisted, see http://postgrey.example/"


@pytest.mark.parametrize(
    ("recipient", "attempts", "words", "delay"),
    [
        ("x@far.example", 0, LATER, 60),
        ("x@far.example", 1, LATER, 600),
        ("x@far.example", 9, LATER, 600),
        ("x@a.big.example", 0, LATER, 1800),
        ("x@mail.big.example", 0, LATER, 7200),
        ("x@big.example", 0, LATER, None),
        ("x@[192.0.2.1]", 0, LATER, None),
        ("x@other.example", 0, LATER, None),
        ("x@other.example", 0, GREY, 360),
        ("x@far.example", 2, "try again: gray-listing", 360),
        ("x@far.example", 3, GREY, 600),
        ("x@other.example", 3, GREY, None),
    ],
)
def test_the_domain_the_attempt_and_the_words_say_when(
    recipient: str, attempts: int, words: str, delay: float | None
) -> None:
    runner = make_plugins("retry", {"domains": DOMAINS}).runner
    delivery = make_delivery("smtp:far.example", recipient, attempts=attempts)
    outcome = Deferred(Reply(450, "4.2.0", words))
    said = runner.provide("retry_delay", delivery=delivery, row=delivery.rows[0], outcome=outcome, delay=300.0)
    assert said == delay


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"domains": {"exa mple": ["1m"]}}, 'plugin.retry.domains: "exa mple" is no domain: the domain is not valid'),
        ({"domains": {"far.example": []}}, 'plugin.retry.domains."far.example": has to have at least one wait'),
        ({"domains": {"far.example": ["1s"]}}, 'plugin.retry.domains."far.example": a wait has to be at least 10s'),
        ({"domains": {"far.example": ["31d"]}}, 'plugin.retry.domains."far.example": a wait has to be at most 30d'),
        ({"greylisted": "31d"}, "plugin.retry.greylisted: has to be at most 30d"),
        ({"greylisted": "2s"}, "plugin.retry.greylisted: has to be at least 10s, or 0s"),
    ],
)
def test_a_mistake_stops_the_start(section: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make_plugins("retry", section)
    assert raised.value.problems == [problem]


def test_hook_retry_delay_a_domain_of_the_settings_is_tried_when_they_say() -> None:
    clock = FakeClock()
    with (
        ScriptedMX({"RCPT": ["450 4.2.1 Later", "450 4.2.0 You are greylisted"]}) as mx,
        mail_server(
            clock=clock,
            plugins=["retry"],
            plugin={"retry": {"domains": {"far.example": ["1h"]}}},
            routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"},
        ) as server,
    ):
        server.send("alice@example.org", ["x@far.example"], b"Hi.\r\n", login=("alice@example.org", "secret"))
        for number, wait in enumerate((3600, 360), 1):
            line = server.wait_for_log("delivery", number, outcome="deferred")[-1]
            assert line["next_attempt"] == pytest.approx(clock.now() + wait)
            clock.advance(wait)
            server.wake_queue()
        mx.wait_for_messages(1)
