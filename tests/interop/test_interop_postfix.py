"""Debian's postfix and a running mailserv, each the other's next hop."""

from __future__ import annotations

import email
import json
import smtplib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from flufl.bounce import all_failures
from interop_kit import SECONDS, Certificates, Mailserv, free_port, mailserv
from mail_samples import PLAIN, SAMPLES
from private_postfix import Postfix, postfix

pytestmark = [pytest.mark.interop, pytest.mark.needs("postfix", "root")]

TO_MAILSERV = """\
relayhost = [127.0.0.1]:{port}
smtp_tls_security_level = encrypt
virtual_mailbox_domains = example.net
virtual_mailbox_maps = inline:{{
    {{ carol@example.net = carol/ }}, {{ dave@example.net = dave/ }}, {{ jürgen@example.net = juergen/ }} }}
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = check_recipient_access inline:{{ {{ busy@example.net = 450 4.2.1 Busy }} }}
"""
TO_POSTFIX = """
[routes]
"example.net" = {{ to = "smtp:[127.0.0.1]:{port}", tls = "verify" }}
"""


@dataclass(frozen=True, slots=True)
class Neighbours:
    ours: Mailserv
    theirs: Postfix

    def inject(self, reverse_path: str, forward_path: str, content: bytes, *parameters: str) -> None:
        """Give postfix a message that it has to relay to us."""
        with smtplib.SMTP("127.0.0.1", self.theirs.port, "client.example.net", timeout=SECONDS) as client:
            client.sendmail(reverse_path, [forward_path], content, parameters)


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Neighbours]:
    port = free_port()
    with (
        mailserv(tmp_path_factory.mktemp("mailserv"), certificates, TO_POSTFIX.format(port=port)) as ours,
        postfix(certificates, TO_MAILSERV.format(port=ours.ports["smtp"]), port=port) as theirs,
    ):
        yield Neighbours(ours, theirs)


def lf(mail: bytes) -> bytes:
    """As postfix stores it."""
    return mail.replace(b"\r\n", b"\n")


@pytest.mark.parametrize("sample", SAMPLES)
def test_postfix_relays_to_mailserv(neighbours: Neighbours, sample: str) -> None:
    alice = neighbours.ours.add_account()
    neighbours.inject("somebody@example.net", alice.address, SAMPLES[sample], "BODY=8BITMIME")
    neighbours.theirs.log.wait_for(f"to=<{alice.address}>.*status=sent .250 2.0.0 queued as")
    (mail,) = neighbours.ours.mailbox(alice)
    assert mail.startswith(b"Return-Path: <somebody@example.net>\r\n")
    assert b" with ESMTPS " in mail.split(b"by postfix.example.net", 1)[0]
    assert mail.endswith(b"\r\n" + SAMPLES[sample])


def test_postfix_relays_mail_for_an_internationalised_address(neighbours: Neighbours) -> None:
    jose = neighbours.ours.add_account("josé")
    neighbours.inject("grüße@example.net", jose.address, SAMPLES["eight_bit"], "SMTPUTF8", "BODY=8BITMIME")
    neighbours.theirs.log.wait_for("to=<josé@example.org>.*status=sent")
    (mail,) = neighbours.ours.mailbox(jose)
    assert mail.startswith("Return-Path: <grüße@example.net>\r\n".encode())


@pytest.mark.parametrize("sample", SAMPLES)
def test_mailserv_relays_to_postfix(neighbours: Neighbours, sample: str) -> None:
    alice = neighbours.ours.add_account()
    before = neighbours.theirs.mailbox("carol")
    queue_id = neighbours.ours.submit(alice, "carol@example.net", SAMPLES[sample])
    (told,) = neighbours.ours.log.wait_for(f"event=delivery .*queue_id={queue_id} .*recipient=carol@example.net")
    assert "outcome=delivered" in told
    postfix_id = told.split("queued as ", 1)[1].split('"')[0]
    neighbours.theirs.log.wait_for(f"{postfix_id}: to=<carol@example.net>.*status=sent .delivered to maildir")
    (mail,) = [mail for mail in neighbours.theirs.mailbox("carol") if mail not in before]
    assert mail.startswith(f"Return-Path: <{alice.address}>\n".encode())
    assert b"(using TLSv1.3 " in mail
    assert mail.endswith(b"\n" + lf(SAMPLES[sample]))


def test_mailserv_relays_mail_for_an_internationalised_address(neighbours: Neighbours) -> None:
    alice = neighbours.ours.add_account()
    with smtplib.SMTP("127.0.0.1", neighbours.ours.ports["submission"], timeout=SECONDS) as client:
        client.starttls(context=neighbours.ours.certificates.client_context())
        client.login(alice.address, alice.password)
        parameters = ["SMTPUTF8", "BODY=8BITMIME"]
        client.sendmail(alice.address, ["jürgen@example.net"], SAMPLES["eight_bit"], parameters)
    neighbours.theirs.log.wait_for("to=<jürgen@example.net>.*status=sent")
    (mail,) = neighbours.theirs.mailbox("juergen")
    assert mail.endswith(b"\n" + lf(SAMPLES["eight_bit"]))


def test_two_recipients_go_to_postfix_in_one_transaction(neighbours: Neighbours) -> None:
    alice = neighbours.ours.add_account()
    with smtplib.SMTP("127.0.0.1", neighbours.ours.ports["submission"], timeout=SECONDS) as client:
        client.starttls(context=neighbours.ours.certificates.client_context())
        client.login(alice.address, alice.password)
        client.sendmail(alice.address, ["carol@example.net", "dave@example.net"], SAMPLES["dot_lines"])
    neighbours.theirs.log.wait_for(f"from=<{alice.address}>, size=.*nrcpt=2 ")


def test_a_recipient_that_postfix_refuses_comes_back_as_a_dsn(neighbours: Neighbours) -> None:
    alice = neighbours.ours.add_account()
    queue_id = neighbours.ours.submit(alice, "nobody@example.net", PLAIN)
    (told,) = neighbours.ours.after(f"event=delivery .*queue_id={queue_id} ")
    assert "outcome=failed" in told
    (mail,) = neighbours.ours.mailbox(alice)
    assert mail.startswith(b"Return-Path: <>\r\n")
    dsn = email.message_from_bytes(mail)
    assert dsn.get_content_type() == "multipart/report"
    assert all_failures(dsn) == (set(), {b"nobody@example.net"})
    assert b"550 5.1.1 <nobody@example.net>: Recipient address rejected" in b" ".join(mail.split())


def test_a_recipient_that_postfix_defers_waits_in_our_queue(neighbours: Neighbours) -> None:
    alice = neighbours.ours.add_account()
    queue_id = neighbours.ours.submit(alice, "busy@example.net", PLAIN)
    (told,) = neighbours.ours.after(f"event=delivery .*queue_id={queue_id} ")
    assert "outcome=deferred" in told
    assert "450 4.2.1" in told
    listed = json.loads(neighbours.ours.command("queue", "list", "--json").out)
    assert [row["forward_path"] for row in listed if row["queue_id"] == queue_id] == ["busy@example.net"]
    neighbours.ours.command("queue", "drop", queue_id)
    assert neighbours.ours.mailbox(alice) == []


def test_an_unknown_user_is_refused_to_postfix_which_bounces(neighbours: Neighbours) -> None:
    alice = neighbours.ours.add_account()
    neighbours.inject(alice.address, "nobody@example.org", PLAIN)
    neighbours.theirs.log.wait_for(r"to=<nobody@example.org>.*status=bounced .*said: 550 5\.1\.1 .*in reply to RCPT TO")
    neighbours.theirs.log.wait_for(f"to=<{alice.address}>.*status=sent")
    (mail,) = neighbours.ours.mailbox(alice)
    assert mail.startswith(b"Return-Path: <>\r\n")
    assert all_failures(email.message_from_bytes(mail)) == (set(), {b"nobody@example.org"})


def test_postfix_may_not_relay_through_mailserv(neighbours: Neighbours) -> None:
    neighbours.inject("somebody@example.net", "victim@elsewhere.example", PLAIN)
    neighbours.theirs.log.wait_for(r"to=<victim@elsewhere.example>.*status=bounced .*said: 550 5\.7\.1 ")


@pytest.mark.needs("sasl:plain")
@pytest.mark.parametrize("mechanism", ["plain", "login"])
def test_postfix_logs_in_to_mailserv_as_its_smarthost(
    neighbours: Neighbours, certificates: Certificates, mechanism: str
) -> None:
    alice, bob = neighbours.ours.add_account(), neighbours.ours.add_account()
    port = neighbours.ours.ports["submission"]
    settings = f"""\
relayhost = [127.0.0.1]:{port}
smtp_tls_security_level = encrypt
smtp_sasl_auth_enable = yes
smtp_sasl_security_options = noanonymous
smtp_sasl_mechanism_filter = {mechanism}
smtp_sasl_password_maps = inline:{{ {{ [127.0.0.1]:{port} = {alice.address}:{alice.password} }} }}
"""
    with postfix(certificates, settings) as theirs:
        Neighbours(neighbours.ours, theirs).inject(alice.address, bob.address, SAMPLES["dot_lines"])
        theirs.log.wait_for(f"to=<{bob.address}>.*status=sent")
    (mail,) = neighbours.ours.mailbox(bob)
    assert b" with ESMTPSA " in mail
    assert mail.endswith(b"\r\n" + SAMPLES["dot_lines"])


def test_mail_waits_while_postfix_is_down(tmp_path: Path, certificates: Certificates) -> None:
    port = free_port()
    with mailserv(tmp_path, certificates, TO_POSTFIX.format(port=port)) as ours:
        alice = ours.add_account()
        queue_id = ours.submit(alice, "carol@example.net", PLAIN)
        (told,) = ours.after(f"event=delivery .*queue_id={queue_id} ")
        assert "outcome=deferred" in told
        with postfix(certificates, TO_MAILSERV.format(port=ours.ports["smtp"]), port=port) as theirs:
            ours.command("queue", "retry", queue_id)
            theirs.log.wait_for("to=<carol@example.net>.*status=sent")
            assert "outcome=delivered" in ours.log.wait_for(f"event=delivery .*queue_id={queue_id} ", 2)[1]
            (mail,) = theirs.mailbox("carol")
            assert mail.endswith(b"\n" + lf(PLAIN))
