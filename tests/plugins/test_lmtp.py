"""mailserv_lmtp: one reply for each recipient, one connection for a batch, and what becomes of a server that misbehaves."""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from delivering import CONTENT, Blocks, make_delivery, make_transport, outcomes
from lmtp_sink import DROP, OFFERS, SILENCE, Answer, lmtp_sink

from mailserv.errors import ConfigError, StoreUnavailable
from mailserv.mail.delivery import Attempt, Delivery
from mailserv.mail.message import BLOCK
from mailserv.mail.outcome import Deferred, Delivered, Outcome
from mailserv.resolver import Resolver
from mailserv.settings import Plugins
from mailserv.testing.dns import FakeZone
from mailserv.testing.server import mail_server
from mailserv_lmtp.place import Place

BOB, CAROL, DAVE = "bob@example.net", "carol@example.net", "dave@example.net"
NO_PIPELINING = tuple(offer for offer in OFFERS if offer != "PIPELINING")


def deliver(place: str, *deliveries: Delivery, **settings: Any) -> list[Outcome]:
    return outcomes(make_transport("lmtp", {"to": place, **settings}), *(deliveries or (make_delivery("lmtp:"),)))


def said(found: Sequence[Outcome]) -> list[str]:
    return [f"{type(outcome).__name__} {outcome.reply.code} {outcome.reply.enhanced}" for outcome in found]


def test_a_message_goes_over_a_unix_socket_as_it_is(tmp_path: Path) -> None:
    with lmtp_sink(path=tmp_path / "lmtp") as sink:
        (outcome,) = deliver(sink.place)
        assert isinstance(outcome, Delivered)
        assert outcome.remote == "localhost (LMTP)"
        (taken,) = sink.messages
        assert taken.content == CONTENT.replace(b"\r\n.", b"\r\n..")
        assert taken.mail == f"MAIL FROM:<alice@example.org> SIZE={len(CONTENT)}"
    assert sink.commands[0] == "LHLO mail.example.org"
    assert sink.commands[-1] == "QUIT"


@pytest.mark.parametrize("offers", [OFFERS, NO_PIPELINING])
def test_each_recipient_has_a_reply_of_its_own_after_the_dot(offers: tuple[str, ...]) -> None:
    script: dict[str, list[Answer]] = {
        f"RCPT TO:<{CAROL}>": ["550 5.1.1 Unknown"],
        "DOT": ["452 4.2.2 Full", "250 2.0.0 Saved", "552 5.2.2 Over quota"],
    }
    with lmtp_sink(script, offers=offers) as sink:
        found = deliver(sink.place, make_delivery("lmtp:", BOB, CAROL, DAVE, "eve@example.net"))
    assert said(found) == ["Deferred 452 4.2.2", "Failed 550 5.1.1", "Delivered 250 2.0.0", "Failed 552 5.2.2"]


def test_a_batch_goes_over_one_connection_and_the_next_hop_names_the_server() -> None:
    with lmtp_sink() as sink:
        batch = [make_delivery(f"lmtp:{sink.place}", queue_id=f"Q{number}") for number in range(5)]
        assert said(deliver("unix:/not/used", *batch)) == ["Delivered 250 2.0.0"] * 5
        assert len(sink.messages) == 5
        assert len(sink.connections) == 1
        assert "RSET" not in sink.commands


@pytest.mark.parametrize("offers", [OFFERS, NO_PIPELINING])
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ({"MAIL": ["451 4.7.1 Later"]}, "Deferred 451 4.7.1"),
        ({"MAIL": ["552 5.3.4 Too big"]}, "Failed 552 5.3.4"),
        ({"RCPT": ["550 5.1.1 Unknown"]}, "Failed 550 5.1.1"),
        ({"DATA": ["451 4.3.0 Not now"]}, "Deferred 451 4.3.0"),
        ({"DOT": ["554 5.6.0 Virus"]}, "Failed 554 5.6.0"),
    ],
)
def test_a_refusal_at_any_step_is_that_messages_own(
    offers: tuple[str, ...], script: dict[str, list[Answer]], expected: str
) -> None:
    with lmtp_sink(script, offers=offers) as sink:
        found = deliver(sink.place, make_delivery("lmtp:"), make_delivery("lmtp:", queue_id="Q2"))
        assert said(found) == [expected, "Delivered 250 2.0.0"]
        assert len(sink.connections) == 1


def test_a_354_without_a_recipient_ends_the_session_and_no_content_goes_out() -> None:
    with lmtp_sink({"RCPT": ["550 5.1.1 Unknown"], "DATA": ["354 Go on"]}) as sink:
        found = deliver(sink.place, make_delivery("lmtp:"))
        assert said(found) == ["Failed 550 5.1.1"]
    assert sink.messages == []


def test_a_reply_that_came_before_the_content_is_no_answer_to_its_dot() -> None:
    with lmtp_sink({"DATA": ["354 Go on\r\n250 2.0.0 Saved already"], "DOT": ["554 5.6.0 Virus"]}) as sink:
        found = deliver(sink.place, make_delivery("lmtp:"))
        assert said(found) == ["Deferred 451 4.5.0"]


# More than the buffers of both sides hold.
LARGE = Blocks(tuple((b"x" * 70 + b"\r\n") * 1000 for _ in range(250)))


def test_a_yes_in_the_middle_of_the_content_is_no_recipients_answer() -> None:
    with lmtp_sink({"DOT": ["250 2.0.0 Saved", "452 4.2.2 Full"]}) as sink:
        sink.before_the_dot = b"250 2.0.0 Saved already\r\n"
        found = deliver(sink.place, make_delivery("lmtp:", BOB, CAROL, content=LARGE))
    assert said(found) == ["Deferred 451 4.5.0"] * 2
    assert sink.messages == []


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("over", ["TCP", "Unix"])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("552 5.3.4 Too big", ["Failed 552 5.3.4"] * 2),
        ("552-5.3.4 Too\r\n552 5.3.4 big", ["Failed 552 5.3.4"] * 2),
        ("452 4.3.1 No room", ["Deferred 452 4.3.1"] * 2),
        ("421 4.3.2 Going down", ["Deferred 421 4.3.2"] * 2),
        ("452 4.2.2 Full\r\n552 5.2.3 Too big for her", ["Deferred 452 4.2.2", "Failed 552 5.2.3"]),
        ("552 5.2.2 Over quota", ["Failed 552 5.2.2", "Deferred 451 4.5.0"]),  # his, and nobody else's
    ],
)
def test_a_refusal_in_the_middle_of_the_content_is_heard(
    tmp_path: Path, answer: str, expected: list[str], over: str, ends: bool
) -> None:
    with lmtp_sink(path=tmp_path / "lmtp" if over == "Unix" else None) as sink:
        sink.before_the_dot = answer.encode() + b"\r\n"
        sink.ends_before_the_dot = ends
        found = deliver(sink.place, make_delivery("lmtp:", BOB, CAROL, content=LARGE))
    assert said(found) == expected
    assert sink.messages == []


def test_a_connection_that_ends_in_the_middle_of_the_content_without_a_word_is_only_lost() -> None:
    with lmtp_sink() as sink:
        sink.ends_before_the_dot = True
        assert said(deliver(sink.place, make_delivery("lmtp:", content=LARGE))) == ["Deferred 451 4.4.2"]


def test_after_a_refusal_in_the_middle_of_the_content_the_next_message_has_a_connection_of_its_own() -> None:
    def batch() -> Iterator[Delivery]:
        yield make_delivery("lmtp:", content=LARGE)
        sink.before_the_dot = b""
        yield make_delivery("lmtp:", queue_id="Q2")

    with lmtp_sink() as sink:
        sink.before_the_dot = b"552 5.3.4 Too big\r\n"
        transport = make_transport("lmtp", {"to": sink.place})
        found = [attempt.outcomes[0] for attempt in transport.deliver(batch())]
        assert said(found) == ["Failed 552 5.3.4", "Delivered 250 2.0.0"]
        assert len(sink.connections) == 2


# A server that goes away.


def taken_of(place: str, count: int = 3, **settings: Any) -> list[Attempt]:
    """What a batch of `count` came to: one attempt for each that was taken."""
    transport = make_transport("lmtp", {"to": place, **settings})
    return list(transport.deliver(make_delivery("lmtp:", BOB, CAROL, queue_id=f"Q{n}") for n in range(count)))


def test_no_server_speaks_for_the_whole_destination(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    for place in (f"[127.0.0.1]:{port}", f"unix:{tmp_path}/missing"):
        (attempt,) = taken_of(place)
        assert said(attempt.outcomes) == ["Deferred 451 4.4.1"] * 2
        assert str(tmp_path) not in str(attempt.outcomes)


@pytest.mark.parametrize(
    "script",
    [
        {"GREETING": ["554 5.3.2 No service"]},
        {"GREETING": [DROP]},
        {"GREETING": ["what is this?"]},
        {"LHLO": ["500 5.5.1 I speak SMTP"]},
        {"LHLO": [DROP]},
    ],
)
def test_a_server_that_gives_no_session_lets_all_mail_wait(script: dict[str, list[Answer]]) -> None:
    with lmtp_sink(script) as sink:
        (attempt,) = taken_of(sink.place)
    assert {type(outcome) for outcome in attempt.outcomes} == {Deferred}


@pytest.mark.parametrize("moment", ["MAIL", "RCPT", "DATA", "DOT"])
def test_a_connection_that_breaks_in_a_first_message_defers_it_and_leaves_the_rest_alone(moment: str) -> None:
    with lmtp_sink({moment: [DROP]}) as sink:
        (attempt,) = taken_of(sink.place)
    assert said(attempt.outcomes) == ["Deferred 451 4.4.2"] * 2


def test_what_was_said_before_a_connection_broke_after_the_dot_counts() -> None:
    with lmtp_sink({"DOT": ["250 2.0.0 Saved", DROP]}) as sink:
        (attempt,) = taken_of(sink.place)
    assert said(attempt.outcomes) == ["Delivered 250 2.0.0", "Deferred 451 4.4.2"]


@pytest.mark.parametrize("farewell", [DROP, "421 4.3.2 Enough"])
def test_a_connection_that_has_carried_enough_is_replaced(farewell: Answer) -> None:
    with lmtp_sink({"MAIL": ["250 2.1.0 Ok", farewell]}) as sink:
        attempts = taken_of(sink.place)
        assert [said(attempt.outcomes) for attempt in attempts] == [["Delivered 250 2.0.0"] * 2] * 3
        assert len(sink.connections) == 2
        assert len(sink.messages) == 3


def test_nothing_that_may_have_been_taken_is_sent_twice() -> None:
    with lmtp_sink({"DOT": ["250 2.0.0 Saved", "250 2.0.0 Saved", DROP]}) as sink:
        first, second = taken_of(sink.place)
        assert said(first.outcomes) == ["Delivered 250 2.0.0"] * 2
        assert said(second.outcomes) == ["Deferred 451 4.4.2"] * 2
        assert len(sink.messages) == 2


@pytest.mark.parametrize("moment", ["GREETING", "MAIL", "DOT"])
def test_a_silent_server_costs_no_longer_than_its_time(moment: str) -> None:
    with lmtp_sink({moment: [SILENCE]}) as sink:
        (attempt,) = taken_of(sink.place, command_timeout="1s", dot_timeout="1s")
    assert {type(outcome) for outcome in attempt.outcomes} == {Deferred}
    assert "time" in attempt.outcomes[0].reply.text


@pytest.mark.parametrize(
    ("script", "is_ours"),
    [
        ({"GREETING": ["554 5.3.2 No service"]}, True),  # told as 451: our words about its own
        ({"GREETING": [DROP]}, True),
        ({"MAIL": ["550 5.7.1 No"]}, False),
        ({"MAIL": ["421 4.3.2 Going down"]}, False),
        ({"RCPT": ["550 5.1.1 Unknown"]}, False),
        ({"DATA": [DROP]}, True),
        ({"DOT": ["452 4.2.2 Full"]}, False),
        ({"DOT": [DROP]}, True),
    ],
)
def test_what_was_found_out_about_a_server_is_not_told_as_its_words(
    script: dict[str, list[Answer]], is_ours: bool
) -> None:
    with lmtp_sink(script) as sink:
        (outcome,) = deliver(sink.place)
    assert not isinstance(outcome, Delivered)
    assert outcome.is_ours is is_ours


def test_what_was_said_of_one_recipient_is_not_what_was_found_out_for_another() -> None:
    with lmtp_sink({f"RCPT TO:<{CAROL}>": ["550 5.1.1 Unknown"]}) as sink:
        found = deliver(sink.place, make_delivery("lmtp:", CAROL, "grüße@example.net"))
    assert [outcome.is_ours for outcome in found if not isinstance(outcome, Delivered)] == [False, True]


@pytest.mark.parametrize("answer", ["150 hm", "250-no end", "\r\n", "354 Go on"])
def test_an_answer_that_is_none_defers_the_message(answer: str) -> None:
    with lmtp_sink({"MAIL": [answer]}) as sink:
        (attempt,) = taken_of(sink.place, command_timeout="1s")
    assert {type(outcome) for outcome in attempt.outcomes} == {Deferred}


def test_content_that_cannot_be_read_ends_the_session_without_a_dot() -> None:
    class Broken(Blocks):
        def blocks(self) -> Any:
            yield b"x" * BLOCK
            yield b"x" * BLOCK
            raise StoreUnavailable("gone")

    with lmtp_sink() as sink, pytest.raises(StoreUnavailable):
        deliver(sink.place, make_delivery("lmtp:", content=Broken(())))
    assert sink.messages == []


# What a server can't take.


def test_parameters_are_passed_on_where_they_are_offered() -> None:
    utf8 = make_delivery("lmtp:", "grüße@example.net", parameters={"SMTPUTF8": "", "BODY": "8BITMIME"})
    with lmtp_sink(offers=(*OFFERS, "SMTPUTF8")) as sink:
        assert said(deliver(sink.place, utf8)) == ["Delivered 250 2.0.0"]
        assert sink.messages[0].mail.endswith(" BODY=8BITMIME SMTPUTF8")
        assert sink.messages[0].rcpts == ("RCPT TO:<grüße@example.net>",)
    with lmtp_sink(offers=("PIPELINING",)) as sink:
        both = make_delivery("lmtp:", "grüße@example.net", BOB, parameters={"SMTPUTF8": "", "BODY": "8BITMIME"})
        assert said(deliver(sink.place, both)) == ["Failed 553 5.6.7", "Delivered 250 2.0.0"]
        assert sink.messages[0].mail == "MAIL FROM:<alice@example.org>"


@pytest.mark.parametrize("body", ["BINARYMIME", "BinaryMIME"])  # RFC 5321 §2.4: case does not count
def test_binary_content_is_refused_here(body: str) -> None:
    with lmtp_sink() as sink:
        binary = make_delivery("lmtp:", parameters={"BODY": body}, content=b"\0\n")
        assert said(deliver(sink.place, binary)) == ["Failed 554 5.6.1"]
        assert sink.messages == []


def test_a_large_message_goes_in_pieces(tmp_path: Path) -> None:
    parts = tuple(b"x" * (BLOCK - 2) + b"\r\n" for _ in range(5))
    with lmtp_sink(path=tmp_path / "lmtp") as sink:
        deliver(sink.place, make_delivery("lmtp:", content=Blocks(parts)))
        assert sink.messages[0].content == b"".join(parts)


# Where it is.


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("unix:/run/dovecot/lmtp", Place(path="/run/dovecot/lmtp")),
        ("[192.0.2.1]:2424", Place(ip="192.0.2.1", port=2424)),
        ("192.0.2.1:24", Place(ip="192.0.2.1")),
        ("[2001:db8::1]", Place(ip="2001:db8::1")),
        ("localhost", Place(ip="127.0.0.1")),
        ("Dovecot.example.net:2424", Place(host="dovecot.example.net", port=2424)),
    ],
)
def test_a_place_is_a_socket_or_an_address(text: str, place: Place) -> None:
    assert Place.parse(text) == place


@pytest.mark.parametrize(
    "text", ["", "unix:", "unix:relative", "[192.0.2.1]:25", "[192.0.2.1]:99999", "2001:db8::1", "[x]", "a b"]
)
def test_a_place_that_cannot_be_meant_stops_the_start(text: str) -> None:
    with pytest.raises(ConfigError, match=r"plugin\.lmtp\."):
        make_transport("lmtp", {"to": text})


def test_a_name_is_looked_up_and_the_first_address_that_answers_is_taken() -> None:
    with FakeZone({"dovecot.example": ["A 127.0.0.9", "A 127.0.0.1"]}) as zone, lmtp_sink() as sink:
        port = sink.place.rpartition(":")[2]
        with mail_server(
            plugins=Plugins(enabled=("lmtp",)),
            resolver=Resolver([zone.nameserver]),
            routes={"example.net": f"lmtp:dovecot.example:{port}", "example.com": "lmtp:missing.example:2424"},
        ) as server:
            server.send("alice@example.org", [BOB], b"Hi.\r\n", login=("alice@example.org", "secret"))
            server.wait_for_log("delivery", outcome="delivered", remote=f"dovecot.example:{port} (LMTP)")
            server.send("alice@example.org", ["bob@example.com"], b"Hi.\r\n", login=("alice@example.org", "secret"))
            (line,) = server.wait_for_log("delivery", outcome="deferred")
            assert line["reply"].startswith("451 4.4.1")


def test_a_next_hop_that_is_no_place_makes_mail_wait() -> None:
    (outcome,) = deliver("unix:/run/lmtp", make_delivery("lmtp:nowhere at all"))
    assert said([outcome]) == ["Deferred 451 4.3.5"]


# In the server.


def test_mail_that_is_routed_there_arrives_and_a_refusal_bounces(tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    with (
        lmtp_sink({f"RCPT TO:<{CAROL}>": ["550 5.1.1 Unknown"]}, path=path) as sink,
        mail_server(plugins=Plugins(enabled=("lmtp",)), routes={"example.net": f"lmtp:unix:{path}"}) as server,
    ):
        server.send("alice@example.org", [BOB, CAROL], b"Subject: hi\r\n\r\n", login=("alice@example.org", "secret"))
        (bounce,) = server.wait_for_mail("alice@example.org")
        server.wait_for_empty_queue()
        assert b"carol@example.net" in bounce
        assert b"5.1.1" in bounce
        (taken,) = sink.messages
        assert taken.rcpts == (f"RCPT TO:<{BOB}>",)


def test_a_next_hop_that_is_no_place_is_named_in_the_log() -> None:
    with mail_server(plugins=Plugins(enabled=("lmtp",)), routes={"example.net": "lmtp:no where"}) as server:
        server.send("alice@example.org", [BOB], b"Hi.\r\n", login=("alice@example.org", "secret"))
        (line,) = server.wait_for_log("lmtp_no_place")
        assert "no where" in line["error"]


def test_hook_resolve_recipient_asks_the_server_whom_it_knows() -> None:
    script: dict[str, list[Answer]] = {
        "RCPT TO:<nobody@": ["550 5.1.1 Unknown"],
        "RCPT TO:<info@": ["550 5.1.1 Unknown"],
        "RCPT TO:<full@": ["552 5.2.2 Over quota"],
        "RCPT TO:<busy@": ["450 4.2.1 Busy"],
    }
    with (
        lmtp_sink(script) as sink,
        mail_server(
            plugins=Plugins(enabled=("lmtp",)),
            plugin={"lmtp": {"to": sink.place, "domains": ["example.org"]}},
            aliases={"info@example.org": ("bob@example.org",)},
        ) as server,
    ):
        for name in ("bob", "info", "busy"):
            server.send("carol@example.net", [f"{name}@example.org"], b"Hi.\r\n")
        for name, said in (("nobody", r"5\.1\.1"), ("full", r"5\.2\.2")):
            with pytest.raises(smtplib.SMTPRecipientsRefused, match=said):
                server.send("carol@example.net", [f"{name}@example.org"], b"Hi.\r\n")
        server.wait_for_empty_queue()
        assert sorted(rcpt for taken in sink.messages for rcpt in taken.rcpts) == [
            "RCPT TO:<bob@example.org>",
            "RCPT TO:<bob@example.org>",
            "RCPT TO:<busy@example.org>",
        ]
        assert sink.messages[0].mail.startswith("MAIL FROM:<carol@example.net>")


def test_while_the_server_is_not_there_recipients_are_told_to_come_again(tmp_path: Path) -> None:
    with (
        mail_server(
            plugins=Plugins(enabled=("lmtp",)),
            plugin={"lmtp": {"to": f"unix:{tmp_path}/gone", "domains": ["example.org"]}},
        ) as server,
        pytest.raises(smtplib.SMTPRecipientsRefused, match="451"),
    ):
        server.send("carol@example.net", ["bob@example.org"], b"Hi.\r\n")
