"""mailserv_sender: which domains may send, and that trouble with DNS is never a refusal for good."""

from __future__ import annotations

import smtplib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from policing import envelope, make_plugins, peer

from mailserv.errors import ConfigError
from mailserv.hooks.rooms import Rooms
from mailserv.mail.peer import Peer
from mailserv.resolver import Resolver
from mailserv.settings import Plugins
from mailserv.testing.clock import FakeClock
from mailserv.testing.dns import FakeZone, Trouble
from mailserv.testing.server import MailServer, mail_server

ALICE = "alice@example.org"
PUBLIC, PRIVATE = "A 8.8.8.8", "A 10.1.2.3"
ZONE: Mapping[str, Sequence[str]] = {
    "good.example": ["MX 10 mx.good.example."],
    "mx.good.example": [PUBLIC],
    "address.example": [PUBLIC],
    "v6.example": ["AAAA 2606:4700:4700::1111"],
    "null.example": ["MX 0 ."],
    "bare.example": ['TXT "nothing else"'],
    "dangling.example": ["MX 10 gone.example.", "MX 20 bare.example."],
    "loopback.example": ["MX 10 lo.example."],
    "lo.example": ["A 127.0.0.1", "AAAA ::1"],
    "private.example": ["MX 10 in.example.", "MX 20 lo.example."],
    "in.example": [PRIVATE, "AAAA fd00::1"],
    "mapped.example": ["AAAA ::ffff:a00:1"],
    "zero.example": ["A 0.0.0.0"],
    "half.example": ["MX 10 in.example.", "MX 20 mx.good.example."],
    "dead.example": [PUBLIC],
    "halfdead.example": ["MX 10 dead-mx.example.", "MX 20 mx.good.example."],
    "number.example": ["MX 10 8.8.8.8."],
    "inside.example": ["MX 10 10.1.2.3."],
    "many.example": [*(f"MX 1{number:02} gone{number}.example." for number in range(19)), "MX 200 mx.good.example."],
    "deadhost.example": ["MX 10 dead-mx.example.", "MX 20 in.example."],
    "dead-mx.example": [PUBLIC],
}
CASES = [
    ("good.example", ""),
    ("address.example", ""),
    ("v6.example", ""),
    ("half.example", ""),
    ("halfdead.example", ""),
    ("nowhere.example", "550 5.1.8 Sender domain nowhere.example does not exist"),
    ("null.example", "550 5.7.27 Sender domain null.example takes no mail (null MX, RFC 7505)"),
    ("bare.example", "550 5.1.8 Sender domain bare.example has no mail host with an address"),
    ("dangling.example", "550 5.1.8 Sender domain dangling.example has no mail host with an address"),
    ("loopback.example", "550 5.7.1 Sender domain loopback.example takes mail at unreachable addresses only"),
    ("private.example", "550 5.7.1 Sender domain private.example takes mail at unreachable addresses only"),
    ("mapped.example", "550 5.7.1 Sender domain mapped.example takes mail at unreachable addresses only"),
    ("zero.example", "550 5.7.1 Sender domain zero.example takes mail at unreachable addresses only"),
    ("number.example", ""),
    ("inside.example", "550 5.7.1 Sender domain inside.example takes mail at unreachable addresses only"),
    ("many.example", ""),
    ("[8.8.8.8]", ""),
    ("[127.0.0.1]", "550 5.7.1 Sender domain [127.0.0.1] takes mail at unreachable addresses only"),
    ("[IPv6:::1]", "550 5.7.1 Sender domain [IPv6:::1] takes mail at unreachable addresses only"),
    ("dead.example", "451 4.4.3 Sender domain dead.example cannot be looked up now"),
    ("deadhost.example", "451 4.4.3 Sender domain deadhost.example cannot be looked up now"),
]


def zone() -> FakeZone:
    made = FakeZone(ZONE)
    made.fail("dead.example")
    made.fail("dead-mx.example", Trouble.REFUSED)
    return made


def asked(made: FakeZone, reverse_path: str, client: Peer | None = None, **settings: Any) -> str:
    runner = make_plugins("sender", settings, rooms=Rooms(dns=Resolver([made.nameserver]))).runner
    verdict = runner.decide("smtp_mail", peer=client or peer("192.0.2.1"), envelope=envelope(reverse_path))
    return str(verdict.reply) if verdict else ""


@pytest.mark.parametrize(("domain", "expected"), CASES)
def test_a_domain_has_to_exist_and_to_take_mail(domain: str, expected: str) -> None:
    with zone() as made:
        assert asked(made, f"carol@{domain}") == expected


def test_the_null_reverse_path_passes_without_a_question() -> None:
    with zone() as made:
        assert asked(made, "") == ""
        assert made.queries == []


@pytest.mark.parametrize(
    "client",
    [
        peer("192.0.2.1", service="submission", login=ALICE),
        peer("192.0.2.1", relay=True),
        peer("203.0.113.9"),
    ],
)
def test_who_logged_in_who_may_relay_and_partners_are_not_looked_at(client: Peer) -> None:
    with zone() as made:
        assert asked(made, "carol@nowhere.example", client, networks=["203.0.113.0/24"]) == ""
        assert made.queries == []


def test_a_domain_that_only_exists_inside_can_be_named() -> None:
    with zone() as made:
        assert asked(made, "lp@nowhere.example", domains=["Nowhere.Example"]) == ""
        assert asked(made, "lp@xn--mnchen-3ya.example", domains=["münchen.example"]) == ""


def test_private_addresses_can_be_allowed() -> None:
    with zone() as made:
        assert asked(made, "carol@private.example", refuse_private=False) == ""
        assert asked(made, "carol@dangling.example", refuse_private=False).startswith("550 5.1.8")


def test_a_name_server_that_hangs_is_not_waited_for() -> None:
    with FakeZone(ZONE) as made:
        made.fail("good.example", Trouble.SILENCE)
        resolver = Resolver([made.nameserver], timeout=2)
        runner = make_plugins("sender", {"time_limit": "0.1s"}, rooms=Rooms(dns=resolver)).runner
        verdict = runner.decide("smtp_mail", peer=peer("192.0.2.1"), envelope=envelope("carol@good.example"))
        assert verdict is not None
        assert str(verdict.reply) == "451 4.4.3 Sender domain good.example cannot be looked up now"
        assert verdict.reason == "sender: good.example: no answer within 0.1 s"


class SlowNames(Resolver):
    """Each answer takes five seconds of the plugin's clock."""

    def __init__(self, made: FakeZone, clock: FakeClock) -> None:
        super().__init__([made.nameserver])
        self._moving = clock

    def addresses(self, host: str) -> tuple[str, ...]:
        self._moving.advance(5)
        return super().addresses(host)


def test_when_the_time_is_over_no_further_question_is_asked() -> None:
    clock = FakeClock()
    with zone() as made:
        made.add("slow.example", *(f"MX {number} h{number}.slow.example." for number in range(9)))
        runner = make_plugins("sender", {}, clock=clock, rooms=Rooms(dns=SlowNames(made, clock))).runner
        verdict = runner.decide("smtp_mail", peer=peer("192.0.2.1"), envelope=envelope("carol@slow.example"))
        assert str(verdict and verdict.reply).startswith("451 4.4.3")
        assert {name for name, _ in made.queries} == {"slow.example", "h0.slow.example", "h1.slow.example"}


def test_without_any_name_server_mail_waits() -> None:
    runner = make_plugins("sender", {}).runner
    verdict = runner.decide("smtp_mail", peer=peer("192.0.2.1"), envelope=envelope("carol@good.example"))
    assert str(verdict and verdict.reply).startswith("451 4.4.3")
    assert "no server is running" in verdict.reason


def server(made: FakeZone) -> Any:
    return mail_server(plugins=Plugins(enabled=("sender",)), resolver=Resolver([made.nameserver]))


def sent(running: MailServer, reverse_path: str, login: tuple[str, str] | None = None) -> str:
    try:
        running.send(reverse_path, [ALICE], b"Hi.\r\n", login=login)
    except smtplib.SMTPSenderRefused as refused:
        return f"{refused.smtp_code} {bytes(refused.smtp_error).decode()}"
    return ""


@pytest.mark.parametrize(("domain", "expected"), [CASES[0], CASES[5], CASES[6], CASES[9], CASES[16]])
def test_the_client_and_the_log_hear_why(domain: str, expected: str) -> None:
    with zone() as made, server(made) as running:
        assert sent(running, f"carol@{domain}") == expected
        if expected:
            (line,) = running.wait_for_log("sender_refused", domain=domain)
            assert line["reply"] == expected
            (refused,) = running.wait_for_log("refused", command="mail")
            assert refused["why"] == f"sender: {line['why']}"
        assert sent(running, "") == ""
        assert sent(running, ALICE, login=(ALICE, "secret")) == ""


def test_mail_that_waited_for_a_dead_name_server_passes_when_it_is_back() -> None:
    with zone() as made, server(made) as running:
        assert sent(running, "carol@dead.example").startswith("451 4.4.3")
        (line,) = running.wait_for_log("sender_refused")
        assert "MX of dead.example" in line["why"]
        made.mend("dead.example")
        assert sent(running, "carol@dead.example") == ""
        running.wait_for_mail(ALICE)


def test_no_time_to_answer_in_stops_the_start() -> None:
    with pytest.raises(ConfigError, match=r"^plugin\.sender\.time_limit: must be longer than nothing"):
        make_plugins("sender", {"time_limit": "0s"})
