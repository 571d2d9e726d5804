"""Servers that go wrong at random, from a seed: the promises that hold whatever they do."""

from __future__ import annotations

import random

import pytest
from sending import Taking, hop, numbered, outcomes

from mailserv.deliver.transports import SessionLimits
from mailserv.mail.outcome import Delivered
from mailserv.testing.sink import DROP, Raw

MOMENTS = ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "CONTENT", "DOT", "RSET"]
FAULTS = {
    "GREETING": ["421 4.3.2 Busy", "554 5.3.2 No", DROP, Raw(b"\xff\r\n")],
    "EHLO": ["421 4.3.2 Busy", "500 What?", DROP],
    "RSET": ["421 4.3.2 Busy", DROP, Raw(b"rubbish\r\n")],
    "CONTENT": [DROP, Raw(b"")],
    "DOT": ["250 2.0.0 Ok", "451 4.3.0 Later", "550 5.7.1 Spam", "421 4.3.2 Busy", DROP, Raw(b"250 cut", close=True)],
}
OTHERS = ["250 2.0.0 Ok", "450 4.2.0 Later", "550 5.1.1 No", "421 4.3.2 Busy", DROP, Raw(b"rubbish\r\n")]
GOOD = {"GREETING": "220 hi", "EHLO": "250 mx\nPIPELINING", "DATA": "354 go", "CONTENT": Raw(b"")}


def script(rng: random.Random) -> dict:
    """For each moment a list in which one answer in four is a fault."""
    made = {}
    for moment in MOMENTS:
        faults, good = FAULTS.get(moment, OTHERS), GOOD.get(moment, "250 2.0.0 Ok")
        if moment == "DATA":
            faults = [fault for fault in OTHERS if fault != "250 2.0.0 Ok"]
        made[moment] = [rng.choice(faults) if rng.random() < 0.25 else good for _ in range(12)]
    return made


@pytest.mark.parametrize("seed", range(60))
def test_each_delivery_taken_has_one_attempt_and_delivered_means_taken(serve, transport, seed):
    rng = random.Random(seed)
    mx = serve(script(rng), capabilities=("PIPELINING",) if seed % 2 else ())
    smtp = transport(limits=SessionLimits(transactions=rng.choice([1, 3, 50])))
    taking = Taking(numbered(hop(mx), 15))
    attempts = []
    while True:
        before = taking.taken
        attempts += smtp.deliver(taking)
        assert len(attempts) == taking.taken
        if taking.taken == before:
            break
    assert [a.delivery.queue_id for a in attempts] == [f"Q{n}" for n in range(15)]
    messages = [message for message in mx.messages if message.content]  # a lone dot is nothing
    assert all(len(message.rcpts) == 1 for message in messages), "nobody gets another one's message"
    arrived = {message.rcpts[0] for message in messages}
    for attempt in attempts:
        [outcome] = attempt.outcomes
        recipient = f"<{attempt.delivery.rows[0].forward_path}>"
        if isinstance(outcome, Delivered):
            assert recipient in arrived
        elif recipient in arrived:
            assert outcome.reply.enhanced == "4.4.2", "taken, yet not Delivered: only when its reply was lost"
    delivered = [kind for _, kind, _ in outcomes(attempts)].count("Delivered")
    assert len(messages) - delivered <= sum(1 for a in attempts if a.outcomes[0].reply.enhanced == "4.4.2")
