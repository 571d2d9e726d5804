"""docs/journeys/fanout.md: one message to a mailbox, an alias and two remote domains, one of which refuses."""

from __future__ import annotations

import email
import random

from flufl.bounce import all_failures

from mailserv.mail.trace import TraceEntry
from mailserv.testing.server import MailServer, mail_server
from mailserv.testing.sink import ScriptedMX

CONTENT = b"From: alice@example.org\r\nTo: all@example.org\r\nSubject: fan-out\r\n\r\nOne message, four ways.\r\n"
RECIPIENTS = ["bob@example.org", "info@example.org", "carol@good.example", "dave@bad.example"]


def events(trace: list[TraceEntry]) -> list[tuple[str, str]]:
    return [(entry.event, entry.recipient) for entry in trace]


def test_fanout_reaches_every_recipient_once_and_one_dsn_comes_back() -> None:
    with (
        ScriptedMX() as good,
        ScriptedMX({"RCPT": "550 5.1.1 No such user"}) as bad,
        mail_server(
            accounts={"alice@example.org": "secret", "bob@example.org": "secret"},
            aliases={"info@example.org": ("alice@example.org",)},
            routes={
                "good.example": f"smtp:[{good.host}]:{good.port}",
                "bad.example": f"smtp:[{bad.host}]:{bad.port}",
            },
            rng=random.Random(7),
        ) as server,
    ):
        server.send("alice@example.org", RECIPIENTS, CONTENT, login=("alice@example.org", "secret"))
        alice = server.wait_for_mail("alice@example.org", 2)
        server.wait_for_empty_queue()
        check(server, alice, good, bad)


def check(server: MailServer, alice: list[bytes], good: ScriptedMX, bad: ScriptedMX) -> None:
    (bob,) = server.mailbox("bob@example.org")
    assert CONTENT in bob
    assert CONTENT in alice[0]
    taken = good.wait_for_messages(1)
    assert [message.rcpts for message in taken] == [("<carol@good.example>",)]
    assert bad.messages == []
    dsn = email.message_from_bytes(alice[1])
    assert dsn.get_content_type() == "multipart/report"
    assert all_failures(dsn) == (set(), {b"dave@bad.example"})
    assert len(alice) == 2
    assert server.queue() == []
    queue_id = server.log.matching("accepted")[0]["queue_id"]
    told = events(server.trace(queue_id))
    assert told[0] == ("accepted", "")
    assert ("routed", "info@example.org") in told
    assert ("delivered", "carol@good.example") in told
    assert ("failed", "dave@bad.example") in told
