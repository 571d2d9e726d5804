"""Servers that answer before the content has ended, or once too often: nobody is told what was said of another's mail."""

from __future__ import annotations

import pytest
from sending import CONTENT, delivery, hop, numbered, outcomes

from mailserv.mail.outcome import Delivered
from mailserv.testing.sink import DROP, Raw

LARGE = CONTENT + (b"x" * 70 + b"\r\n") * 250_000  # more than the buffers of both sides hold


def with_a_large_one_first(mx):
    return [delivery(hop(mx), queue_id="LARGE", content=LARGE), *numbered(hop(mx), 2)]


@pytest.mark.parametrize("closes", [True, False])
@pytest.mark.parametrize(
    ("reply", "kind", "code"), [(b"552 5.3.4 Big", "Failed", 552), (b"452 4.3.1 Full", "Deferred", 452)]
)
def test_a_refusal_in_the_middle_of_the_content_is_heard(serve, transport, closes, reply, kind, code):
    mx = serve({"CONTENT": [Raw(reply + b"\r\n", close=closes)], "DOT": ["554 5.6.0 Discarded"]})
    attempts = transport().deliver([delivery(hop(mx), queue_id="LARGE", content=LARGE)])
    assert outcomes(attempts) == [("LARGE", kind, code)]
    assert mx.messages == []


def test_a_refusal_in_the_middle_of_the_content_is_heard_over_tls(serve, transport, server_tls):
    mx = serve({"CONTENT": [Raw(b"552 5.3.4 Big\r\n", close=True)]}, tls=server_tls)
    attempts = transport().deliver(with_a_large_one_first(mx))
    assert outcomes(attempts)[0] == ("LARGE", "Failed", 552)


def test_a_large_content_goes_over_tls(serve, transport, server_tls):
    mx = serve(tls=server_tls)
    content = LARGE[: len(CONTENT) + 72 * 20_000]  # several pieces
    [attempt] = transport().deliver([delivery(hop(mx), content=content)])
    assert isinstance(attempt.outcomes[0], Delivered)
    assert mx.messages[0].is_tls
    assert mx.messages[0].content == content


def test_two_answers_to_a_large_content_are_not_an_answer_to_the_next_message(serve, transport):
    mx = serve({"DOT": [Raw(b"552 5.3.4 Too big\r\n554 5.6.0 Discarded\r\n")]})
    attempts = transport().deliver(with_a_large_one_first(mx))
    assert outcomes(attempts) == [("LARGE", "Failed", 552), ("Q0", "Delivered", 250), ("Q1", "Delivered", 250)]


@pytest.mark.parametrize("answer", [b"250 2.0.0 Ok\r\n554 5.6.0 Or not\r\n", b"554 5.6.0 No\r\n554 5.6.0 No\r\n"])
def test_two_answers_to_a_small_content_are_no_refusal_of_the_next_message(serve, transport, answer):
    mx = serve({"DOT": [Raw(answer)]})
    attempts = transport().deliver(numbered(hop(mx), 3))
    assert outcomes(attempts)[1:] == [("Q1", "Delivered", 250), ("Q2", "Delivered", 250)]


def test_421_in_the_middle_of_the_content_ends_the_batch(serve, transport):
    mx = serve({"CONTENT": [Raw(b"421 4.3.2 Going down\r\n", close=True)]})
    attempts = transport().deliver(with_a_large_one_first(mx))
    assert outcomes(attempts)[0] == ("LARGE", "Deferred", 421)


def test_a_large_content_that_is_taken_leaves_the_session_open(serve, transport):
    mx = serve()
    attempts = list(transport().deliver(with_a_large_one_first(mx)))
    assert all(isinstance(attempt.outcomes[0], Delivered) for attempt in attempts)
    assert mx.connections == 1
    assert mx.messages[0].content == LARGE


def test_a_connection_lost_in_the_middle_of_the_content_without_a_word_is_only_lost(serve, transport):
    mx = serve({"CONTENT": [DROP]})
    attempts = transport().deliver([delivery(hop(mx), queue_id="LARGE", content=LARGE)])
    assert outcomes(attempts) == [("LARGE", "Deferred", 451)]
