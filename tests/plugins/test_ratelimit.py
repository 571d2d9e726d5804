"""mailserv_ratelimit: what counts for whom, which limit a refusal names, and that counts are exact and last."""

from __future__ import annotations

import smtplib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from policing import envelope, make_plugins, peer

from mailserv.mail.address import parse_mailbox
from mailserv.mail.message import BytesContent
from mailserv.mail.peer import Peer
from mailserv.settings import Plugins
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import MailServer, mail_server

ALICE, CAROL = "alice@example.org", "carol@far.example"
STRANGER = peer("192.0.2.1")
USER = peer("192.0.2.1", service="submission", login=ALICE)
HOUR, DAY = 3_600.0, 86_400.0


class Sending:
    """Messages through the plugin's three hooks, in their order: "" or the first refusal's reply."""

    def __init__(self, clock: FakeClock | None = None, **settings: Any) -> None:
        self._runner = make_plugins("ratelimit", settings, clock=clock).runner

    def message(
        self, who: Peer = STRANGER, reverse_path: str = CAROL, *, count: int = 1, size: int = 100, declared: str = ""
    ) -> str:
        """With `count` recipients."""
        paths = [f"r{number}@example.org" for number in range(count)]
        parameters = {"SIZE": declared} if declared else {}
        asked = [("smtp_mail", envelope(reverse_path, **parameters), {})]
        asked += [
            ("smtp_rcpt", envelope(reverse_path, *paths[:number]), {"forward_path": parse_mailbox(path)})
            for number, path in enumerate(paths)
        ]
        asked += [("message_check", envelope(reverse_path, *paths), {"content": BytesContent(b"x" * size)})]
        for hook, known, more in asked:
            verdict = self._runner.decide(hook, peer=who, envelope=known, **more)
            if verdict is not None:
                return f"{hook} {verdict.reply}"
        return ""


def limited(hook: str, words: str, seconds: int = 3600) -> str:
    code = 452 if hook == "smtp_rcpt" else 451
    return f"{hook} {code} 4.7.1 Limit reached: {words}; try again in {seconds} seconds"


@pytest.mark.parametrize(
    ("amounts", "messages", "expected"),
    [
        ({"messages_per_hour": 2}, [{}, {}, {}], limited("smtp_mail", "2 messages per hour of client 192.0.2.1")),
        ({"messages_per_day": 1}, [{}, {}], limited("smtp_mail", "1 messages per day of client 192.0.2.1", 86_400)),
        (
            {"recipients_per_hour": 5},
            [{"count": 3}, {"count": 3}],
            limited("smtp_rcpt", "5 recipients per hour of client 192.0.2.1"),
        ),
        (
            {"bytes_per_hour": 250},
            [{"size": 200}, {"size": 51}],
            limited("message_check", "250 bytes per hour of client 192.0.2.1"),
        ),
        (
            {"bytes_per_day": "250B"},
            [{"size": 200}, {"size": 51, "declared": "51"}],
            limited("smtp_mail", "250 bytes per day of client 192.0.2.1", 86_400),
        ),
        ({"bytes_per_hour": 250}, [{"size": 200}, {"size": 50, "declared": "50"}], ""),
        ({"bytes_per_hour": 250}, [{"size": 250}, {}], limited("smtp_mail", "250 bytes per hour of client 192.0.2.1")),
        ({"recipients_per_hour": 6, "messages_per_hour": 2}, [{"count": 3}, {"count": 3}], ""),
        ({}, [{}] * 50, ""),
    ],
)
def test_the_first_message_over_a_limit_is_refused_as_early_as_can_be(
    amounts: Mapping[str, Any], messages: list[dict[str, Any]], expected: str
) -> None:
    sending = Sending(client=amounts)
    *before, last = messages
    assert [sending.message(**each) for each in before] == [""] * len(before)
    assert sending.message(**last) == expected


@pytest.mark.parametrize(
    ("subject", "first", "second", "is_same"),
    [
        ("client", (STRANGER, CAROL), (STRANGER, "bob@elsewhere.example"), True),
        ("client", (STRANGER, CAROL), (peer("192.0.2.2"), CAROL), False),
        ("client", (peer("2001:db8::1"), CAROL), (peer("2001:db8::ffff:1"), CAROL), True),
        ("client", (peer("2001:db8::1"), CAROL), (peer("2001:db8:0:1::1"), CAROL), False),
        ("client", (peer("192.0.2.9", relay=True), CAROL), (peer("192.0.2.9", relay=True), CAROL), True),
        ("client", (USER, ALICE), (USER, ALICE), False),
        ("login", (USER, ALICE), (peer("198.51.100.7", service="submissions", login=ALICE), ALICE), True),
        ("login", (USER, ALICE), (peer("192.0.2.1", service="submission", login="bob@example.org"), ALICE), False),
        ("login", (STRANGER, CAROL), (STRANGER, CAROL), False),
        ("sender_domain", (STRANGER, CAROL), (peer("198.51.100.7"), "dave@far.example"), True),
        ("sender_domain", (STRANGER, CAROL), (STRANGER, "carol@near.example"), False),
        ("sender_domain", (STRANGER, ""), (STRANGER, ""), False),
    ],
)
def test_who_shares_a_count(subject: str, first: tuple[Peer, str], second: tuple[Peer, str], is_same: bool) -> None:
    sending = Sending(**{subject: {"messages_per_hour": 1}})
    assert sending.message(*first) == ""
    assert (sending.message(*second) != "") == is_same


def test_the_reply_names_the_limit_of_a_login_and_of_a_domain() -> None:
    sending = Sending(login={"messages_per_hour": 1}, sender_domain={"messages_per_day": 1})
    sending.message(USER, ALICE)
    assert sending.message(USER, ALICE) == limited("smtp_mail", f"1 messages per hour of login {ALICE}")
    words = "1 messages per day of sender domain example.org"
    assert sending.message(STRANGER, ALICE) == limited("smtp_mail", words, 86_400)


def test_a_reply_is_ascii_whoever_is_named_in_it() -> None:
    sending = Sending(login={"messages_per_hour": 1})
    jürgen = peer("192.0.2.1", login="jürgen@example.org")
    sending.message(jürgen)
    assert sending.message(jürgen) == limited("smtp_mail", "1 messages per hour of login j?rgen@example.org")


def test_an_hour_and_a_day_end_when_the_clock_says_so() -> None:
    clock = FakeClock()  # midnight
    sending = Sending(clock, client={"messages_per_hour": 1, "messages_per_day": 2})
    assert sending.message() == ""
    clock.advance(HOUR - 60)
    assert sending.message() == limited("smtp_mail", "1 messages per hour of client 192.0.2.1", 60)
    clock.advance(60)
    assert sending.message() == ""
    clock.advance(HOUR)
    assert sending.message() == limited("smtp_mail", "2 messages per day of client 192.0.2.1", 22 * 3_600)
    clock.advance(22 * HOUR)
    assert sending.message() == ""


def test_a_refused_message_is_counted_nowhere() -> None:
    sending = Sending(client={"messages_per_hour": 2, "recipients_per_hour": 2, "bytes_per_day": 150})
    assert sending.message(size=200) == limited("message_check", "150 bytes per day of client 192.0.2.1", 86_400)
    assert sending.message(size=100) == ""
    assert sending.message(size=50) == ""
    assert sending.message(size=1) != ""


def test_some_networks_are_not_counted() -> None:
    sending = Sending(client={"messages_per_hour": 1}, networks=["192.0.2.0/24"])
    assert [sending.message() for _ in range(3)] == [""] * 3


def test_a_size_that_is_no_number_is_not_believed() -> None:
    assert Sending(client={"bytes_per_hour": 100}).message(size=10, declared="many") == ""


def server(data_dir: Path, clock: FakeClock, **settings: Any) -> Any:
    plugins = Plugins(enabled=("ratelimit",))
    return mail_server(data_dir=data_dir, clock=clock, plugins=plugins, plugin={"ratelimit": settings})


def sent(running: MailServer, *, login: bool = False) -> str:
    try:
        running.send(ALICE, [ALICE], b"Hi.\r\n", login=(ALICE, "secret") if login else None)
    except smtplib.SMTPSenderRefused as refused:
        return f"{refused.smtp_code} {bytes(refused.smtp_error).decode()}"
    except smtplib.SMTPDataError as refused:
        return f"{refused.smtp_code} {bytes(refused.smtp_error).decode()}"
    return ""


def test_counts_last_over_a_restart_and_the_log_names_the_limit(tmp_path: Path) -> None:
    clock = FakeClock()
    words = f"2 messages per hour of login {ALICE}"
    with server(tmp_path, clock, login={"messages_per_hour": 2}) as running:
        assert sent(running, login=True) == ""
    with server(tmp_path, clock, login={"messages_per_hour": 2}) as running:
        assert sent(running, login=True) == ""
        assert sent(running, login=True) == f"451 4.7.1 Limit reached: {words}; try again in 3600 seconds"
        (line,) = running.wait_for_log("rate_limited")
        assert (line["limit"], line["seconds"]) == (words, 3600)
        (line,) = running.wait_for_log("refused")
        assert line["why"] == f"ratelimit: {words}"
        assert sent(running) == ""
    clock.advance(HOUR)
    with server(tmp_path, clock, login={"messages_per_hour": 2}) as running:
        assert sent(running, login=True) == ""


def test_recipients_before_the_limit_get_the_message(tmp_path: Path) -> None:
    others = [f"alice+{number}@example.org" for number in range(3)]
    with server(tmp_path, FakeClock(), client={"recipients_per_hour": 2}) as running:
        host, port = running.address("smtp")
        with smtplib.SMTP(host, port, "client.example.net") as client:
            refused = client.sendmail(CAROL, others, b"Hi.\r\n")
        assert {path: code for path, (code, _) in refused.items()} == {others[2]: 452}
        running.wait_for_mail(ALICE, 2)


def test_sessions_beside_each_other_do_not_exceed_a_limit_together(tmp_path: Path) -> None:
    with server(tmp_path, FakeClock(), client={"messages_per_hour": 5}) as running:
        said: list[str] = []
        threads = [threading.Thread(target=lambda: said.append(sent(running))) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert said.count("") == 5
        assert {each[:9] for each in said if each} == {"451 4.7.1"}
        assert len(running.wait_for_mail(ALICE, 5)) == 5
