"""Debian's dovecot serves by IMAP what mailserv_maildir delivered, and accepts what mailserv_lmtp sends."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from interop_kit import Account, Certificates, Mailserv, mailserv
from mail_samples import PLAIN, SAMPLES, long_body
from private_dovecot import Dovecot, dovecot

pytestmark = [pytest.mark.interop, pytest.mark.needs("dovecot", "dovecot:imap", "dovecot:lmtp", "root")]

USERS = [f"{name}@{domain}" for domain in ("maildir.example", "unix.example", "tcp.example") for name in SAMPLES]
MORE_USERS = [
    "bob@maildir.example",
    "bob@unix.example",
    "carol@unix.example",
    "small@unix.example:*:storage=64K",
    "dave@example.org",
]
ROUTES = """
[plugins]
enabled = ["maildir", "lmtp"]

[plugin.maildir]
path = "{mail}/{{domain}}/{{local_part}}"
create = true
mode = "0770"

[plugin.lmtp]
to = "unix:{socket}"
domains = ["example.org"]

[routes]
"maildir.example" = "maildir:"
"unix.example" = "lmtp:"
"tcp.example" = "lmtp:[127.0.0.1]:{port}"
"""


@dataclass(frozen=True, slots=True)
class Neighbours:
    ours: Mailserv
    theirs: Dovecot
    alice: Account

    def submit(self, forward_path: str, content: bytes) -> str:
        """Send as alice and wait for the outcome: the line of the log."""
        queue_id = self.ours.submit(self.alice, forward_path, content)
        return self.ours.log.wait_for(f"event=delivery .*queue_id={queue_id}")[0]


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Neighbours]:
    with dovecot([*USERS, *MORE_USERS]) as theirs:
        routes = ROUTES.format(mail=theirs.mail, socket=theirs.lmtp_socket, port=theirs.lmtp_port)
        with mailserv(tmp_path_factory.mktemp("mailserv"), certificates, routes) as ours:
            yield Neighbours(ours, theirs, ours.add_account("alice"))


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("domain", ["maildir.example", "unix.example", "tcp.example"])
def test_imap_gives_the_octets_that_were_sent(neighbours: Neighbours, domain: str, sample: str) -> None:
    address = f"{sample}@{domain}"
    assert "outcome=delivered" in neighbours.submit(address, SAMPLES[sample])
    (message,) = neighbours.theirs.messages(address)
    assert message.startswith(b"Return-Path: <alice@example.org>\r\nDelivered-To: " + address.encode() + b"\r\n")
    assert message.endswith(SAMPLES[sample])


def test_a_reader_and_a_delivery_share_a_maildir(neighbours: Neighbours) -> None:
    """New mail shows up in an open mailbox; what was read stays read, and what is deleted stays deleted."""
    bob = "bob@maildir.example"
    neighbours.submit(bob, PLAIN)
    with neighbours.theirs.inbox(bob) as client:
        assert client.fetch("1", "(BODY[])")[0] == "OK"
        neighbours.submit(bob, SAMPLES["dot_lines"])
        assert client.noop()[0] == "OK"
        assert client.search(None, "UNSEEN")[1] == [b"2"]
        client.store("2", "+FLAGS", r"\Deleted")
        client.expunge()
        assert client.search(None, "ALL")[1] == [b"1"]
    (message,) = neighbours.theirs.messages(bob)
    assert message.endswith(PLAIN)


def test_each_recipient_of_one_message_has_the_answer_of_its_own_mailbox(neighbours: Neighbours) -> None:
    """Dovecot says no to one at RCPT, to one after the dot, and keeps the message for two."""
    content = PLAIN + long_body(200_000)
    ours = neighbours.ours
    paths = [f"{name}@unix.example" for name in ("bob", "nobody", "small", "carol")]
    queue_id = ours.submit_to_many(neighbours.alice, paths, content)
    lines = ours.log.wait_for(f"event=delivery .*queue_id={queue_id}", 4)
    told = {line.split("recipient=")[1].split()[0]: line for line in lines}
    assert "outcome=delivered" in told[paths[0]]
    assert "outcome=failed" in told[paths[1]]
    assert "5.1.1" in told[paths[1]]
    assert "outcome=failed" in told[paths[2]]
    assert "5.2.2" in told[paths[2]]
    assert "outcome=delivered" in told[paths[3]]
    for path in (paths[0], paths[3]):
        (message,) = neighbours.theirs.messages(path)
        assert message.endswith(content)
    assert neighbours.theirs.messages(paths[2]) == []
    bounces = ours.mailbox(neighbours.alice)
    assert sum(b"Final-Recipient: rfc822; nobody@unix.example" in bounce for bounce in bounces) == 1
    assert sum(b"Final-Recipient: rfc822; small@unix.example" in bounce for bounce in bounces) == 1


def test_a_stranger_reaches_whom_dovecot_knows_and_nobody_else(neighbours: Neighbours) -> None:
    """It is asked at RCPT; whom it does not know may be an account of ours, as alice is."""
    ours = neighbours.ours
    ours.deliver(Account("dave@example.org", ""), PLAIN)
    ours.log.wait_for("event=delivery .*recipient=dave@example.org .*outcome=delivered")
    (message,) = neighbours.theirs.messages("dave@example.org")
    assert message.endswith(PLAIN)
    ours.deliver(neighbours.alice, PLAIN)
    assert ours.mailbox(neighbours.alice)[-1].endswith(PLAIN)
    with pytest.raises(smtplib.SMTPRecipientsRefused, match=r"550.*5\.1\.1"):
        ours.deliver(Account("nobody@example.org", ""), PLAIN)
