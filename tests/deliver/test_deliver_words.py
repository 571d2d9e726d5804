"""Whose words an outcome carries: the next hop's, or our own about it (RFC 3464 §2.3.6)."""

from __future__ import annotations

import pytest
from sending import delivery, hop, impatient, numbered

from mailserv.deliver.tls_policy import HopPolicy
from mailserv.mail.outcome import Delivered
from mailserv.testing.sink import DROP, SILENCE, Raw

HEARD = [
    {"GREETING": "421 4.3.2 Busy"},
    {"GREETING": "554 5.7.1 Not for you"},
    {"EHLO": "451 4.3.0 Later"},
    {"MAIL": "421 4.3.2 Busy"},
    {"MAIL": "550 5.7.1 No"},
    {"RCPT": "550 5.1.1 No such user"},
    {"RCPT": "552 Too many"},
    {"DATA": "451 4.3.0 Later"},
    {"DOT": "554 5.7.1 Spam"},
    {"DOT": "421 4.3.2 Going down"},
]
FOUND_OUT = [
    {"GREETING": DROP},
    {"GREETING": SILENCE},
    {"GREETING": Raw(b"SSH-2.0-OpenSSH\r\n")},
    {"EHLO": DROP},
    {"MAIL": Raw(b"what?\r\n")},
    {"DATA": DROP},
    {"DOT": DROP},
    {"DOT": Raw(b"354 What?\r\n")},
]


@pytest.mark.parametrize(("script", "is_ours"), [(s, False) for s in HEARD] + [(s, True) for s in FOUND_OUT])
def test_an_outcome_knows_whose_words_it_has(serve, transport, script, is_ours):
    mx = serve(script)
    outcome = next(transport(timeouts=impatient(greeting=0.1)).deliver([delivery(hop(mx))])).outcomes[0]
    assert not isinstance(outcome, Delivered)
    assert outcome.remote == f"127.0.0.1 [127.0.0.1]:{mx.port}"
    assert outcome.is_ours is is_ours


def test_what_was_said_of_one_recipient_is_not_what_was_found_out_for_the_other(serve, transport):
    mx = serve({"RCPT TO:<bob@": "550 5.1.1 No such user", "DOT": DROP})
    [attempt] = transport().deliver([delivery(hop(mx), "bob@example.net", "carol@example.net")])
    assert [outcome.is_ours for outcome in attempt.outcomes] == [False, True]


def test_no_connection_and_a_host_that_was_slow_a_moment_ago_are_found_out(serve, transport):
    mx = serve({"GREETING": SILENCE})
    smtp = transport(timeouts=impatient(greeting=0.1))
    attempts = [attempt for each in numbered(hop(mx), 2) for attempt in smtp.deliver([each])]
    assert mx.connections == 1
    mx.close()
    attempts += transport().deliver([delivery(hop(mx))])
    assert [attempt.outcomes[0].is_ours for attempt in attempts] == [True] * 3


@pytest.mark.parametrize(
    ("capabilities", "policy", "parameters", "content"),
    [
        (("SIZE 10",), HopPolicy(), {}, b"Far more than ten octets.\r\n"),
        ((), HopPolicy(), {"BODY": "BINARYMIME"}, b"a\0b"),
        ((), HopPolicy("require"), {}, b"Hi.\r\n"),
        ((), HopPolicy(user="alice", password="geheim"), {}, b"Hi.\r\n"),
    ],
)
def test_what_a_server_lacks_is_found_out(serve, transport, capabilities, policy, parameters, content):
    mx = serve(capabilities=capabilities)
    about = delivery(hop(mx), content=content, parameters=parameters)
    [attempt] = transport(policies={hop(mx): policy}).deliver([about])
    assert attempt.outcomes[0].remote
    assert attempt.outcomes[0].is_ours


def test_an_internationalised_address_that_a_server_does_not_take_is_found_out(serve, transport):
    mx = serve(capabilities=())
    [attempt] = transport().deliver([delivery(hop(mx), "jörg@example.net")])
    assert attempt.outcomes[0].remote
    assert attempt.outcomes[0].is_ours
