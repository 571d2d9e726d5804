"""Batches through SmtpTransport against servers on real sockets: what arrives, and what becomes of each recipient."""

from __future__ import annotations

import pytest
from sending import CONTENT, Taking, delivery, hop, make_transport, numbered, outcomes

from mailserv.deliver.transports import SessionLimits, Transports
from mailserv.mail.outcome import Deferred, Delivered, Failed, Success
from mailserv.mail.reply import Reply
from mailserv.testing.clock import FakeClock
from mailserv.testing.sink import DROP, Held, Raw

PLAIN_SERVER = {"capabilities": ("8BITMIME",)}


def test_a_message_arrives_as_it_was(serve, transport):
    mx = serve()
    content = b"Subject: dots\r\n\r\n.\r\n..two\r\n.three\r\n\r\nlast line without an end"
    [attempt] = transport().deliver([delivery(hop(mx), "bob@example.net", "carol@example.net", content=content)])
    assert (
        attempt.outcomes
        == (Delivered(Reply(250, "2.0.0", "Taken"), f"127.0.0.1 [127.0.0.1]:{mx.port}", Success.RELAYED),) * 2
    )
    [message] = mx.messages
    assert message.content == content + b"\r\n"
    assert message.mail == f"<alice@example.org> SIZE={len(content)}"
    assert message.rcpts == ("<bob@example.net>", "<carol@example.net>")
    assert message.helo == "me.example.org"


def test_an_empty_batch_does_nothing(transport):
    assert list(transport().deliver([])) == []


def test_messages_share_a_connection_and_are_pipelined_one_behind_the_other(serve, transport):
    mx = serve()
    attempts = list(transport().deliver(numbered(hop(mx), 5)))
    assert outcomes(attempts) == [(f"Q{n}", "Delivered", 250) for n in range(5)]
    assert mx.connections == 1
    assert [m.rcpts for m in mx.messages] == [(f"<user{n}@example.net>",) for n in range(5)]
    behind_the_dot = [read for read in mx.reads if b"\r\n.\r\nMAIL FROM:" in read]
    assert len(behind_the_dot) == 4
    assert all(read.endswith(b"DATA\r\n") for read in behind_the_dot)


def test_each_attempt_is_given_as_soon_as_its_reply_is_here(serve, transport):
    second = Held("250 2.0.0 Ok")
    mx = serve({"DOT": ["250 2.0.0 Ok", second]})
    attempts = transport().deliver(numbered(hop(mx), 2))
    assert next(attempts).delivery.queue_id == "Q0"
    assert not second.reached.is_set()
    second.release.set()
    assert next(attempts).delivery.queue_id == "Q1"


def test_lesson_9_without_pipelining_no_command_is_sent_before_its_turn(serve, transport):
    mx = serve(**PLAIN_SERVER)
    assert len(list(transport().deliver(numbered(hop(mx), 3)))) == 3
    assert mx.connections == 1
    assert all(read.count(b"\r\n") == 1 for read in mx.reads if not read.startswith(b"From:"))
    assert not any(b"\r\n.\r\nMAIL" in read for read in mx.reads)


@pytest.mark.parametrize("server", [{}, PLAIN_SERVER])
def test_each_recipient_has_the_outcome_of_its_own_reply(serve, transport, server):
    script = {"RCPT TO:<no@": "550 5.1.1 No such user", "RCPT TO:<later@": "450 4.2.1 Later"}
    mx = serve(script, **server)
    names = ["no@example.net", "yes@example.net", "later@example.net"]
    [attempt] = transport().deliver([delivery(hop(mx), *names)])
    assert [type(o) for o in attempt.outcomes] == [Failed, Delivered, Deferred]
    assert [o.reply.enhanced for o in attempt.outcomes] == ["5.1.1", "2.0.0", "4.2.1"]
    assert mx.messages[0].rcpts == ("<yes@example.net>",)


@pytest.mark.parametrize("server", [{}, PLAIN_SERVER])
@pytest.mark.parametrize(
    ("script", "kind", "code"),
    [
        ({"MAIL": ["550 5.7.1 No"]}, Failed, 550),
        ({"MAIL": ["450 4.7.1 Later"]}, Deferred, 450),
        ({"RCPT": ["550 5.1.1 No"]}, Failed, 550),
        ({"RCPT": ["552 5.5.3 Too many recipients"]}, Deferred, 452),
        ({"DATA": ["451 4.3.0 Later"]}, Deferred, 451),
        ({"DATA": ["554 5.7.1 No"]}, Failed, 554),
        ({"DOT": ["550 5.7.1 Spam"]}, Failed, 550),
        ({"DOT": ["451 4.3.0 Later"]}, Deferred, 451),
    ],
)
def test_a_refusal_is_for_its_message_and_the_session_goes_on(serve, transport, server, script, kind, code):
    mx = serve(script, **server)
    first, second = transport().deliver(numbered(hop(mx), 2))
    assert isinstance(first.outcomes[0], kind)
    assert first.outcomes[0].reply.code == code
    assert isinstance(second.outcomes[0], Delivered)
    assert mx.connections == 1
    assert len(mx.messages) == 1


def test_lesson_9_all_recipients_refused_and_yet_354_is_answered_with_a_lone_dot(serve, transport):
    mx = serve({"RCPT": ["550 5.1.1 No"], "DATA": ["354 Go ahead all the same"]})
    first, second = transport().deliver(numbered(hop(mx), 2))
    assert isinstance(first.outcomes[0], Failed)
    assert isinstance(second.outcomes[0], Delivered)
    assert [m.content for m in mx.messages] == [CONTENT]
    assert b".\r\n" in mx.reads


def test_lesson_9_a_lost_reply_to_the_dot_means_send_again_later(serve, transport):
    mx = serve({"DOT": [DROP]})
    first, second = transport().deliver(numbered(hop(mx), 2))
    assert isinstance(first.outcomes[0], Deferred)
    assert first.outcomes[0].reply.enhanced == "4.4.2"
    assert isinstance(second.outcomes[0], Delivered), "the next message has done nothing wrong"
    assert mx.connections == 2


def test_the_answers_before_a_lost_reply_to_the_dot_stand(serve, transport):
    mx = serve({"RCPT TO:<no@": "550 5.1.1 No", "DOT": [DROP]})
    [attempt] = transport().deliver([delivery(hop(mx), "no@example.net", "yes@example.net")])
    assert [type(o) for o in attempt.outcomes] == [Failed, Deferred]


@pytest.mark.parametrize("server", [{}, PLAIN_SERVER])
@pytest.mark.parametrize(
    ("script", "kind", "code"),
    [
        ({"MAIL": [Raw(b"550 5.7.1 Go away\r\n", close=True)]}, Failed, 550),
        ({"RCPT": [Raw(b"550 5.7.1 Go away\r\n", close=True)]}, Failed, 550),
        ({"RCPT": [Raw(b"450 4.7.1 Come back\r\n", close=True)]}, Deferred, 450),
        ({"DATA": [Raw(b"554 5.7.1 Go away\r\n", close=True)]}, Failed, 554),
    ],
)
def test_an_answer_stands_though_the_server_closes_behind_it(serve, transport, server, script, kind, code):
    mx = serve(script, **server)
    [attempt] = transport().deliver([delivery(hop(mx))])
    assert isinstance(attempt.outcomes[0], kind)
    assert attempt.outcomes[0].reply.code == code
    [attempt] = transport().deliver([delivery(hop(mx))])
    assert isinstance(attempt.outcomes[0], Delivered)


@pytest.mark.parametrize("end", [DROP, "421 4.3.2 Closing"])
def test_whoever_was_answered_before_a_session_ended_is_not_asked_for_again(serve, transport, end):
    mx = serve({"RCPT TO:<no@": "550 5.1.1 No such user", "RCPT TO:<later@": "450 4.2.1 Busy", "RCPT TO:<end@": end})
    names = ["no@example.net", "later@example.net", "end@example.net"]
    [attempt] = transport().deliver([delivery(hop(mx), *names)])
    assert [type(o) for o in attempt.outcomes] == [Failed, Deferred, Deferred]
    assert [o.reply.enhanced for o in attempt.outcomes[:2]] == ["5.1.1", "4.2.1"]


def test_a_refusal_stands_though_421_follows(serve, transport):
    mx = serve({"RCPT": "550 5.7.1 Go away", "DATA": "421 4.3.2 Closing"})
    taking = Taking(numbered(hop(mx), 3))
    assert outcomes(list(transport().deliver(taking))) == [("Q0", "Failed", 550)]
    assert taking.taken == 1, "the host wants no more now"


def test_a_host_that_refuses_and_closes_takes_the_next_message(serve, transport):
    mx = serve({"RCPT": [Raw(b"550 5.7.1 Go away\r\n", close=True)]})
    attempts = list(transport().deliver(numbered(hop(mx), 2)))
    assert outcomes(attempts) == [("Q0", "Failed", 550), ("Q1", "Delivered", 250)]


def test_a_reply_that_came_before_the_content_is_no_answer_to_its_dot(serve, transport):
    mx = serve({"DATA": Raw(b"354 Go ahead\r\n250 2.0.0 Taken already\r\n"), "DOT": "554 5.7.1 A virus"})
    [attempt] = transport().deliver([delivery(hop(mx))])
    assert isinstance(attempt.outcomes[0], Deferred), "delivered is only what was answered"
    assert mx.messages == []


def test_lesson_9_a_lost_reply_to_quit_means_nothing(serve, transport):
    mx = serve({"QUIT": DROP})
    limits = SessionLimits(transactions=1)
    attempts = list(transport(limits=limits).deliver(numbered(hop(mx), 3)))
    assert outcomes(attempts) == [(f"Q{n}", "Delivered", 250) for n in range(3)]
    assert mx.connections == 3


@pytest.mark.parametrize("moment", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("server", [{}, PLAIN_SERVER])
def test_a_connection_lost_before_the_dot_costs_nothing_when_it_had_served_before(serve, transport, moment, server):
    mx = serve(**server)
    attempts = transport()
    batch = attempts.deliver(numbered(hop(mx), 2))
    first = next(batch)
    list(batch)
    mx.answer(moment, [DROP])
    again = list(attempts.deliver(numbered(hop(mx), 2)))
    assert outcomes([first, *again]) == [(q, "Delivered", 250) for q in ("Q0", "Q0", "Q1")]


def test_lesson_9_421_in_the_middle_ends_the_session_and_keeps_the_rest_queued(serve, transport):
    mx = serve({"RCPT TO:<user1@": "421 4.3.2 Going down"})
    taking = Taking(numbered(hop(mx), 6))
    attempts = list(transport().deliver(taking))
    assert outcomes(attempts) == [("Q0", "Delivered", 250), ("Q1", "Deferred", 421)]
    assert taking.taken == 2, "what was not taken goes back to the queue untouched"
    assert mx.connections == 1


def test_421_to_the_dot_defers_the_message_and_the_one_behind_it(serve, transport):
    mx = serve({"DOT": ["250 2.0.0 Ok", "421 4.3.2 Going down"]})
    taking = Taking(numbered(hop(mx), 6))
    assert outcomes(transport().deliver(taking)) == [
        ("Q0", "Delivered", 250),
        ("Q1", "Deferred", 421),
        ("Q2", "Deferred", 421),
    ]
    assert taking.taken == 3


def test_421_to_mail_on_a_session_that_has_served_is_a_limit_and_a_new_session_goes_on(serve, transport):
    mx = serve({"MAIL": ["250 Ok", "421 4.4.5 Too many messages"]})
    assert outcomes(transport().deliver(numbered(hop(mx), 3))) == [(f"Q{n}", "Delivered", 250) for n in range(3)]
    assert mx.connections == 2


def test_a_session_carries_only_so_many_messages(serve, transport):
    mx = serve()
    limits = SessionLimits(transactions=2)
    assert len(list(transport(limits=limits).deliver(numbered(hop(mx), 5)))) == 5
    assert mx.connections == 3
    assert mx.commands.count("QUIT") == 2
    assert all(not (b"\r\n.\r\n" in read and b"MAIL" in read) for read in mx.reads[-2:])


def test_a_session_lasts_only_so_long(serve, transport):
    mx = serve()
    clock = FakeClock()
    attempts = transport(clock=clock, limits=SessionLimits(seconds=300)).deliver(numbered(hop(mx), 4))
    next(attempts)
    clock.advance(301)
    assert len(list(attempts)) == 3
    assert mx.connections == 2


def test_a_delivery_with_many_recipients_is_several_transactions_and_one_attempt(serve, transport):
    mx = serve({"RCPT TO:<r7@": "550 5.1.1 No"})
    names = [f"r{n}@example.net" for n in range(12)]
    [attempt] = transport(limits=SessionLimits(recipients=5)).deliver([delivery(hop(mx), *names)])
    assert [len(m.rcpts) for m in mx.messages] == [5, 4, 2]
    assert [type(o) for o in attempt.outcomes] == [Delivered] * 7 + [Failed] + [Delivered] * 4


def test_an_idle_session_serves_the_next_batch(serve, transport):
    mx = serve()
    smtp = transport()
    for _ in range(3):
        assert len(list(smtp.deliver(numbered(hop(mx), 2)))) == 2
    assert mx.connections == 1
    smtp.close()
    mx.wait_for_command("QUIT")


def test_an_idle_session_that_the_server_closed_is_not_used(serve, transport):
    mx = serve()
    smtp = transport()
    list(smtp.deliver(numbered(hop(mx), 1)))
    mx.hang_up()
    assert outcomes(smtp.deliver(numbered(hop(mx), 1))) == [("Q0", "Delivered", 250)]
    assert mx.connections == 2


def test_content_in_many_blocks_arrives_whole(serve, transport):
    class Blocks:
        size = 40 * 100_000

        def blocks(self):
            for n in range(40):
                yield (b"%d" % (n % 10)) * 998 + b"\r\n" + b".x\r\n" * 24_750

    mx = serve()
    blocks = Blocks()
    first, second = transport().deliver([delivery(hop(mx), content=blocks), delivery(hop(mx), queue_id="Q2")])
    assert isinstance(first.outcomes[0], Delivered)
    assert isinstance(second.outcomes[0], Delivered)
    assert mx.messages[0].content == b"".join(blocks.blocks())


def test_a_batch_that_is_given_up_closes_its_connection(serve, transport):
    mx = serve()
    smtp = transport()
    attempts = smtp.deliver(numbered(hop(mx), 3))
    next(attempts)
    attempts.close()
    assert len(mx.messages) == 1
    list(smtp.deliver(numbered(hop(mx), 1)))
    assert mx.connections == 2


class Named:
    def __init__(self, log, name):
        self.log, self.name = log, name

    def deliver(self, deliveries):
        return iter(())

    def close(self):
        self.log.append(self.name)
        if self.name == "broken":
            raise OSError("it does not close")


def test_transports_are_found_by_name_and_all_are_closed():
    log: list[str] = []
    transports = Transports(Named(log, "smtp"), [("broken", Named(log, "broken")), ("lmtp", Named(log, "lmtp"))])
    assert transports.get("lmtp").name == "lmtp"
    assert transports.get("smtp").name == "smtp"
    assert transports.get("pipe") is None
    assert set(transports.by_name) == {"smtp", "lmtp", "broken"}
    with pytest.raises(OSError, match="does not close"):
        transports.close()
    assert log == ["lmtp", "broken", "smtp"]


@pytest.mark.parametrize("name", ["smtp", "mailbox", "twice"])
def test_a_transport_name_belongs_to_one(name):
    with pytest.raises(ValueError, match=name):
        Transports(Named([], "smtp"), [("twice", Named([], "")), (name, Named([], ""))])


def test_a_transport_can_be_made_without_any_option():
    make_transport().close()
