"""docs/journeys/local-to-remote.md: from a mail program by submission to the MX of another domain."""

from __future__ import annotations

import smtplib
import ssl
from pathlib import Path

import pytest
import trustme

from mailserv.resolver import Resolver
from mailserv.settings import TLS
from mailserv.testing.clock import FakeClock
from mailserv.testing.dns import FakeZone
from mailserv.testing.server import WAIT_SECONDS, MailServer, mail_server
from mailserv.testing.sink import ScriptedMX

MINUTE = 60.0
FIRST_WAIT = 5 * MINUTE
JITTER = 0.1
CONTENT = (
    b"From: Alice <alice@example.org>\r\nTo: carol@far.example\r\nBcc: secret@far.example\r\n"
    b"Subject: to a stranger\r\n\r\nHello.\r\n.a line that begins with a dot\r\n"
)
BACKUP_HOST = "127.0.0.3"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> TLS:
    issued = authority.issue_cert("mail.example.org", "127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    return TLS(certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem", plaintext_auth="never")


def mx_context() -> ssl.SSLContext:
    """Of a certificate that nobody here trusts, as most mail servers have."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("mx.far.example").configure_cert(context)
    return context


def submit(server: MailServer, authority: trustme.CA) -> str:
    """As a mail program does it: EHLO, STARTTLS, EHLO, AUTH, the message. The queue id of the reply."""
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    host, port = server.address("submission")
    with smtplib.SMTP(host, port, "laptop.example.org", timeout=WAIT_SECONDS) as client:
        client.ehlo()
        assert not client.has_extn("auth"), "no password without TLS"
        client.starttls(context=trusted)
        client.login("alice@example.org", "secret")
        client.mail("alice@example.org")
        client.rcpt("carol@far.example")
        code, text = client.data(CONTENT)
    assert code == 250
    return text.decode().rpartition(" ")[2]


def test_local_to_remote_is_tried_at_the_best_mx_and_again_after_a_4xx(authority: trustme.CA, tls: TLS) -> None:
    clock = FakeClock()
    with (
        ScriptedMX({"RCPT": ["450 4.7.1 Greylisted, come again"]}, tls=mx_context()) as best,
        ScriptedMX(host=BACKUP_HOST, port=best.port) as backup,
        FakeZone(
            {
                "far.example": ["MX 20 backup.far.example.", "MX 10 mx.far.example."],
                "mx.far.example": [f"A {best.host}"],
                "backup.far.example": [f"A {BACKUP_HOST}"],
            }
        ) as zone,
        mail_server(clock=clock, resolver=Resolver([zone.nameserver]), smtp_port=best.port, tls=tls) as server,
    ):
        queue_id = submit(server, authority)
        wait_out_the_greylisting(server, clock, queue_id)
        (taken,) = best.wait_for_messages(1)
        server.wait_for_empty_queue()
        assert backup.connections == 0
        assert zone.queries[0] == ("far.example", "MX")
        assert (taken.mail.split(" ")[0], taken.rcpts) == ("<alice@example.org>", ("<carol@far.example>",))
        assert taken.is_tls
        check_content(taken.content, queue_id)
        check_trace(server, queue_id)


def wait_out_the_greylisting(server: MailServer, clock: FakeClock, queue_id: str) -> None:
    (line,) = server.wait_for_log("delivery", queue_id=queue_id, outcome="deferred")
    assert "450 4.7.1" in line["reply"]
    assert line["next_attempt"] - clock.now() == pytest.approx(FIRST_WAIT, rel=JITTER)
    (row,) = server.queue()
    assert (row.state, row.attempts) == ("ready", 1)
    clock.advance(FIRST_WAIT * (1 + JITTER))
    server.wake_queue()


def check_content(content: bytes, queue_id: str) -> None:
    head, _, body = content.partition(b"\r\n\r\n")
    assert body == CONTENT.partition(b"\r\n\r\n")[2]
    trace_field = head.partition(b";")[0]
    assert trace_field.startswith(b"Received: from laptop.example.org ([127.0.0.1])")
    assert b"with ESMTPSA id " + queue_id.encode() in trace_field
    assert b"secret@far.example" not in content, "Bcc is for the sender's eyes"
    for added in (b"\r\nMessage-ID: <", b"\r\nDate: "):
        assert added in head


def check_trace(server: MailServer, queue_id: str) -> None:
    told = server.trace(queue_id)
    assert [entry.event for entry in told] == ["accepted", "routed", "deferred", "delivered"]
    assert told[1].detail["to"] == "carol@far.example via smtp:far.example"
    assert told[-1].detail["attempt"] == 2
    assert str(told[-1].detail["remote"]).startswith("mx.far.example [127.0.0.1]")
