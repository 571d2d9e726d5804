"""The hosts of a destination, tried one after the other, and what becomes of the mail when none is left."""

from __future__ import annotations

import socket
import threading

import pytest
from sending import PATIENT, Taking, delivery, hop, impatient, numbered, outcomes

from mailserv.deliver.mx import Target
from mailserv.deliver.opening import SlowHosts
from mailserv.deliver.transports import SessionLimits
from mailserv.mail.outcome import Deferred, Delivered, Failed
from mailserv.mail.reply import Reply
from mailserv.mail.value import replace
from mailserv.testing.clock import FakeClock
from mailserv.testing.sink import DROP, SILENCE, Held, Raw, ScriptedMX


@pytest.fixture
def pair(serve, zone, transport):
    """Two servers of example.net on one port, the first to be tried first; and how to send there."""

    def make(script, *, second=None, **options):
        first = serve(script)
        other = serve(second or {}, host="127.0.0.2", port=first.port)
        zone.add("example.net", "MX 10 one.example.net.", "MX 20 two.example.net.")
        zone.add("one.example.net", "A 127.0.0.1")
        zone.add("two.example.net", "A 127.0.0.2")
        return first, other, transport(zone.nameserver, port=first.port, **options)

    return make


@pytest.mark.parametrize(
    "script",
    [
        {"GREETING": "421 4.3.2 Busy"},
        {"GREETING": "451 4.3.0 Later"},
        {"GREETING": "554 5.7.1 Not for you"},
        {"GREETING": DROP},
        {"GREETING": Raw(b"SSH-2.0-OpenSSH\r\n")},
        {"EHLO": "421 4.3.2 Busy"},
        {"EHLO": DROP},
        {"EHLO": "550 5.7.1 No", "HELO": "550 5.7.1 No"},
        {"MAIL": "421 4.3.2 Busy"},
        {"RCPT": "421 4.3.2 Busy"},
        {"DATA": DROP},
        {"MAIL": Raw(b"what?\r\n")},
        {"RCPT": Raw(b"354 out of step\r\n")},
    ],
)
def test_the_next_host_is_tried_when_one_gives_no_session(pair, script):
    first, second, smtp = pair(script)
    attempts = list(smtp.deliver(numbered("example.net", 3)))
    assert outcomes(attempts) == [(f"Q{n}", "Delivered", 250) for n in range(3)]
    assert attempts[0].outcomes[0].remote == f"two.example.net [127.0.0.2]:{second.port}"
    assert first.connections == 1
    assert len(second.messages) == 3
    assert second.connections == 1


def test_the_next_host_is_tried_when_one_refuses_the_connection(pair):
    first, second, smtp = pair({})
    first.close()
    [attempt] = smtp.deliver([delivery("example.net")])
    assert isinstance(attempt.outcomes[0], Delivered)
    assert len(second.messages) == 1


def test_the_next_host_is_tried_when_one_does_not_greet_in_time(pair):
    _, second, smtp = pair({"GREETING": SILENCE}, timeouts=impatient(greeting=0.05))
    [attempt] = smtp.deliver([delivery("example.net")])
    assert isinstance(attempt.outcomes[0], Delivered)
    assert len(second.messages) == 1


@pytest.mark.parametrize(("step", "moment"), [("mail", "MAIL"), ("rcpt", "RCPT"), ("data", "DATA")])
def test_the_next_host_is_tried_when_one_greets_and_does_not_answer_then(pair, step, moment):
    first, second, smtp = pair({moment: Held(SILENCE)}, timeouts=impatient(**{step: 0.05}))
    attempts = list(smtp.deliver(numbered("example.net", 3)))
    assert outcomes(attempts) == [(f"Q{n}", "Delivered", 250) for n in range(3)]
    assert (first.connections, len(second.messages)) == (1, 3), "it is waited for once in a batch"


def test_a_message_that_may_have_been_taken_is_not_offered_to_the_next_host(pair):
    _, second, smtp = pair({"DOT": SILENCE}, timeouts=impatient(dot=0.05))
    [attempt] = smtp.deliver([delivery("example.net")])
    assert isinstance(attempt.outcomes[0], Deferred)
    assert second.connections == 0


@pytest.mark.parametrize("refusal", ["450 4.7.1 Greylisted", "550 5.7.1 No"])
def test_a_refused_message_is_not_offered_to_the_next_host(pair, refusal):
    _, second, smtp = pair({"RCPT": refusal})
    [attempt] = smtp.deliver([delivery("example.net")])
    assert attempt.outcomes[0].reply.code == int(refusal[:3])
    assert second.connections == 0


@pytest.mark.parametrize(
    ("one", "two", "kind", "code"),
    [
        ("554 5.7.1 No", "554 5.7.1 No", Failed, 554),
        ("421 4.3.2 Busy", "554 5.7.1 No", Deferred, 421),
        ("554 5.7.1 No", "451 4.3.0 Later", Deferred, 451),
    ],
)
def test_the_mail_fails_only_when_every_host_refuses_for_good(pair, one, two, kind, code):
    _, _, smtp = pair({"GREETING": one}, second={"GREETING": two})
    [attempt] = smtp.deliver([delivery("example.net")])
    assert isinstance(attempt.outcomes[0], kind)
    assert attempt.outcomes[0].reply.code == code
    assert attempt.outcomes[0].remote


def test_a_dead_destination_costs_one_message_and_leaves_the_rest_untouched(serve, transport):
    with ScriptedMX() as gone:
        next_hop = hop(gone)
    taking = Taking(numbered(next_hop, 10))
    [attempt] = transport().deliver(taking)
    assert taking.taken == 1
    assert attempt.outcomes[0].reply == Reply(451, "4.4.1", "No connection: Connection refused")
    assert attempt.outcomes[0].remote == f"127.0.0.1 [127.0.0.1]:{gone.port}"


def test_421_from_every_host_in_the_first_transaction_defers_what_was_taken(serve, transport):
    mx = serve({"MAIL": "421 4.3.2 Busy"})
    taking = Taking(numbered(hop(mx), 5))
    assert outcomes(transport().deliver(taking)) == [("Q0", "Deferred", 421)]
    assert taking.taken == 1
    assert mx.connections == 1


def test_a_host_that_dies_for_good_in_the_middle_of_a_batch_is_not_tried_for_ever(serve, transport):
    mx = serve({"MAIL": ["250 Ok", *[DROP] * 20]})
    taking = Taking(numbered(hop(mx), 5))
    assert outcomes(transport().deliver(taking)) == [("Q0", "Delivered", 250), ("Q1", "Deferred", 451)]
    assert taking.taken == 2
    assert mx.connections == 2, "one new try, because the old session had served"


def test_a_dns_failure_defers_and_a_dns_fact_fails(zone, transport):
    zone.fail("broken.example")
    zone.add("null.example", "MX 0 .")
    smtp = transport(zone.nameserver)
    [broken] = smtp.deliver(numbered("broken.example", 3))
    [null] = smtp.deliver(numbered("null.example", 3))
    [missing] = smtp.deliver(numbered("missing.example", 3))
    assert [a.outcomes[0].reply.enhanced for a in (broken, null, missing)] == ["4.4.3", "5.1.10", "5.1.2"]
    assert [type(a.outcomes[0]) for a in (broken, null, missing)] == [Deferred, Failed, Failed]


def test_a_domain_whose_mx_points_at_us_fails_as_a_loop(serve, zone, transport):
    mx = serve()
    zone.add("example.net", "MX 10 mx.example.net.")
    zone.add("mx.example.net", "A 127.0.0.1")
    smtp = transport(zone.nameserver, port=mx.port, listening=[("127.0.0.1", mx.port)])
    [attempt] = smtp.deliver([delivery("example.net")])
    assert isinstance(attempt.outcomes[0], Failed)
    assert attempt.outcomes[0].reply.enhanced == "5.4.6"
    assert mx.connections == 0


@pytest.mark.parametrize(("step", "moment"), [("mail", "MAIL"), ("rcpt", "RCPT"), ("data", "DATA"), ("dot", "DOT")])
def test_lesson_9_a_slow_answer_defers_and_leaves_the_rest_queued(serve, transport, step, moment):
    mx = serve({moment: SILENCE}, capabilities=())
    taking = Taking(numbered(hop(mx), 5))
    [attempt] = transport(timeouts=impatient(**{step: 0.05})).deliver(taking)
    assert attempt.outcomes[0].reply.enhanced == "4.4.2"
    assert taking.taken == 1
    assert mx.connections == 1


def test_the_message_begun_behind_a_dot_that_is_not_answered_is_deferred_too(serve, transport):
    mx = serve({"DOT": Held("250 Ok")})
    taking = Taking(numbered(hop(mx), 5))
    attempts = list(transport(timeouts=impatient(dot=0.05)).deliver(taking))
    assert outcomes(attempts) == [("Q0", "Deferred", 451), ("Q1", "Deferred", 451)]
    assert taking.taken == 2


def test_a_deadline_is_for_the_whole_reply_however_it_drips(serve, transport):
    """The server sends a line of its greeting for each half of the allowed time that the clock is moved on by."""

    class Running(FakeClock):
        def monotonic(self):
            self.advance(1.0)
            return super().monotonic()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()

        def drip():
            peer, _ = listener.accept()
            with peer:
                while not stop.is_set():
                    try:
                        peer.sendall(b"220-still here\r\n")
                    except OSError:
                        return
                    stop.wait(0.001)

        thread = threading.Thread(target=drip)
        thread.start()
        smtp = transport(clock=Running(), timeouts=replace(PATIENT, greeting=20.0))
        [attempt] = smtp.deliver([delivery(f"[127.0.0.1]:{listener.getsockname()[1]}")])
        stop.set()
        thread.join()
    assert attempt.outcomes[0].reply.text == "No answer in time to the greeting"


def test_lesson_9_a_host_that_timed_out_is_not_waited_for_again_at_once(serve, transport):
    mx = serve({"GREETING": [SILENCE]})
    clock = FakeClock()
    smtp = transport(clock=clock, timeouts=impatient(greeting=0.05))
    for _ in range(3):
        [attempt] = smtp.deliver(numbered(hop(mx), 3))
        assert attempt.outcomes[0].reply.text == "No answer in time to the greeting"
    assert mx.connections == 1
    clock.advance(61)
    assert len(list(smtp.deliver(numbered(hop(mx), 3)))) == 3


def test_lesson_9_one_slow_host_never_blocks_another(serve, transport):
    slow = serve({"GREETING": SILENCE})
    quick = serve()
    smtp = transport()
    waiting = threading.Thread(target=lambda: list(smtp.deliver([delivery(hop(slow))])))
    waiting.start()
    slow_is_waiting = [outcomes(smtp.deliver([delivery(hop(quick))])), waiting.is_alive()]
    slow.hang_up()
    waiting.join()
    assert slow_is_waiting == [[("Q1", "Delivered", 250)], True]


def test_a_connection_over_ipv6(serve, zone, transport):
    mx = serve(host="::1")
    zone.add("example.net", "AAAA ::1")
    [attempt] = transport(zone.nameserver, port=mx.port).deliver([delivery("example.net")])
    assert attempt.outcomes[0].remote == f"example.net [::1]:{mx.port}"
    assert isinstance(attempt.outcomes[0], Delivered)


def test_a_host_that_took_long_to_open_a_session_gets_a_message_all_the_same(serve, transport):
    """A tarpit: else it would be opened again and again, and what is in hand never given back."""
    mx = serve()
    smtp = transport(limits=SessionLimits(seconds=0.0))
    batch = [delivery(hop(mx), queue_id=f"Q{n}") for n in (1, 2)]
    assert outcomes(smtp.deliver(batch)) == [("Q1", "Delivered", 250), ("Q2", "Delivered", 250)]
    assert mx.connections == 2


@pytest.mark.parametrize(("seconds", "taken"), [(0.0, [1, 1, 1]), (300.0, [0, 3, 0])], ids=["long", "short"])
def test_a_long_batch_comes_back_to_the_first_host_and_asks_dns_again(serve, transport, zone, seconds, taken):
    """127.0.0.1 is the better one, and down for a moment; then the zone changes. Each connection carries one message."""
    best = serve({"GREETING": ["421 4.3.2 Not yet"]})
    other = serve(host="127.0.0.2", port=best.port)
    third = serve(host="127.0.0.3", port=best.port)
    zone.add("far.example", "MX 10 a.far.example.", "MX 20 b.far.example.", ttl=0)
    zone.add("a.far.example", "A 127.0.0.1", ttl=0)
    zone.add("b.far.example", "A 127.0.0.2", ttl=0)
    smtp = transport(zone.nameserver, port=best.port, limits=SessionLimits(transactions=1, seconds=seconds))

    def batch():
        yield delivery("far.example", queue_id="Q1")
        yield delivery("far.example", queue_id="Q2")
        zone.remove("a.far.example")
        zone.add("a.far.example", "A 127.0.0.3", ttl=0)
        yield delivery("far.example", queue_id="Q3")

    assert [code for _, _, code in outcomes(list(smtp.deliver(batch())))] == [250, 250, 250]
    assert [len(mx.messages) for mx in (best, other, third)] == taken


def test_a_host_that_was_slow_is_tried_at_once_when_an_operator_says_so(serve, transport):
    mx = serve({"GREETING": [SILENCE, SILENCE]})
    smtp = transport(timeouts=impatient(greeting=0.05))
    for _ in range(2):
        assert outcomes(smtp.deliver([delivery(hop(mx))])) == [("Q1", "Deferred", 451)]
    assert mx.connections == 1, "it is known to be slow"
    mx.answer("GREETING", [])
    smtp.try_anew()
    assert outcomes(smtp.deliver([delivery(hop(mx))])) == [("Q1", "Delivered", 250)]


def test_slow_hosts_are_forgotten_in_time_and_never_too_many():
    clock = FakeClock()
    slow = SlowHosts(clock, seconds=60, limit=2)
    targets = [Target("x", f"192.0.2.{n}", 25) for n in range(3)]
    reply = Reply(451, "4.4.2", "slow")
    for target in targets:
        slow.note(target, reply)
    assert [slow.reply(target) for target in targets] == [None, reply, reply]
    slow.forget(targets[1])
    assert slow.reply(targets[1]) is None
    clock.advance(60)
    assert slow.reply(targets[2]) is None


def test_the_first_targets_of_a_batch_are_not_looked_up_when_a_session_is_idle(serve, zone, transport):
    mx = serve()
    zone.add("example.net", "A 127.0.0.1")
    smtp = transport(zone.nameserver, port=mx.port)
    list(smtp.deliver([delivery("example.net")]))
    questions = len(zone.queries)
    zone.fail("example.net")
    assert outcomes(smtp.deliver([delivery("example.net")])) == [("Q1", "Delivered", 250)]
    assert len(zone.queries) == questions
