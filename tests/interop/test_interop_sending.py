"""swaks, curl and Python's smtplib send to a running server; POP3 shows the octets that arrived."""

from __future__ import annotations

import smtplib
from pathlib import Path

import pytest
from interop_kit import SECONDS, Account, Mailserv, run
from mail_samples import HEADER, PLAIN, SAMPLES, long_body
from senders import SENDERS, Mechanism, Refused, Sender, Sending, Way, curl, swaks

pytestmark = pytest.mark.interop

every_sender = pytest.mark.parametrize("send", SENDERS)
every_login = pytest.mark.parametrize(
    ("service", "way", "mechanism"),
    [
        ("submission", "starttls", "PLAIN"),
        ("submission", "starttls", "LOGIN"),
        ("submissions", "tls", "PLAIN"),
        ("submissions", "tls", "LOGIN"),
    ],
)


def received_with(mail: bytes) -> str:
    """What our Received field says the message came by (RFC 3848)."""
    field = mail[mail.index(b"Received:") :].decode(errors="replace").split(" with ", 1)[1]
    return field.split()[0]


@every_sender
@pytest.mark.parametrize("sample", SAMPLES)
def test_what_is_sent_to_port_25_arrives_octet_for_octet(
    server: Mailserv, tmp_path: Path, send: Sender, sample: str
) -> None:
    alice = server.add_account()
    send(Sending(server, tmp_path), [alice.address], SAMPLES[sample])
    (mail,) = server.mailbox(alice)
    assert mail.startswith(b"Return-Path: <somebody@example.net>\r\n")
    assert mail.endswith(b"\r\n" + SAMPLES[sample])
    assert received_with(mail) == "ESMTP"


@every_sender
@pytest.mark.parametrize("sample", ["dot_lines", "eight_bit", "five_megabytes"])
def test_what_is_sent_after_starttls_arrives_octet_for_octet(
    server: Mailserv, tmp_path: Path, send: Sender, sample: str
) -> None:
    alice = server.add_account()
    send(Sending(server, tmp_path, way="starttls"), [alice.address], SAMPLES[sample])
    (mail,) = server.mailbox(alice)
    assert mail.endswith(b"\r\n" + SAMPLES[sample])
    assert received_with(mail) == "ESMTPS"


@every_sender
@every_login
def test_a_login_submits(
    server: Mailserv, tmp_path: Path, send: Sender, service: str, way: Way, mechanism: Mechanism
) -> None:
    alice, bob = server.add_account(), server.add_account()
    sample = SAMPLES["dot_lines"]
    send(Sending(server, tmp_path, service, way, mechanism, alice, alice.address), [bob.address], sample)
    (mail,) = server.mailbox(bob)
    assert mail.startswith(f"Return-Path: <{alice.address}>\r\n".encode())
    assert mail.endswith(b"\r\n" + sample)
    assert received_with(mail) == "ESMTPSA"


@every_sender
@every_login
def test_a_wrong_password_submits_nothing(
    server: Mailserv, tmp_path: Path, send: Sender, service: str, way: Way, mechanism: Mechanism
) -> None:
    alice = server.add_account()
    wrong = Account(alice.address, "wrong")
    with pytest.raises(Refused, match="535"):
        send(Sending(server, tmp_path, service, way, mechanism, wrong, alice.address), [alice.address], PLAIN)
    assert server.mailbox(alice) == []


@every_sender
def test_a_login_does_not_send_as_another(server: Mailserv, tmp_path: Path, send: Sender) -> None:
    alice, bob = server.add_account(), server.add_account()
    as_bob = Sending(server, tmp_path, "submissions", "tls", "PLAIN", alice, bob.address)
    with pytest.raises(Refused, match=r"55\d (b')?5\.7\.1"):
        send(as_bob, [bob.address], PLAIN)
    assert server.mailbox(bob) == []


@every_sender
@pytest.mark.parametrize("forward_path", ["victim@elsewhere.example", "victim%elsewhere.example@example.org"])
def test_relaying_is_refused_to_strangers(server: Mailserv, tmp_path: Path, send: Sender, forward_path: str) -> None:
    with pytest.raises(Refused, match=r"550 (b')?5\.(7\.1|1\.1)"):
        send(Sending(server, tmp_path), [forward_path], PLAIN)


@every_sender
def test_submission_without_a_login_is_refused(server: Mailserv, tmp_path: Path, send: Sender) -> None:
    alice = server.add_account()
    with pytest.raises(Refused, match="530"):
        send(Sending(server, tmp_path, "submission", "starttls"), [alice.address], PLAIN)
    assert server.mailbox(alice) == []


@every_sender
def test_an_unknown_user_is_refused_at_rcpt(server: Mailserv, tmp_path: Path, send: Sender) -> None:
    with pytest.raises(Refused, match=r"550 (b')?5\.1\.1"):
        send(Sending(server, tmp_path), ["nobody@example.org"], PLAIN)


@every_sender
def test_a_message_over_the_limit_is_refused(server: Mailserv, tmp_path: Path, send: Sender) -> None:
    alice = server.add_account()
    with pytest.raises(Refused, match="552"):
        send(Sending(server, tmp_path), [alice.address], HEADER + b"\r\n" + long_body(7_000_000))
    assert server.mailbox(alice) == []


@every_sender
def test_one_message_to_three_recipients_and_a_subaddress(server: Mailserv, tmp_path: Path, send: Sender) -> None:
    accounts = [server.add_account() for _ in range(3)]
    tagged = accounts[2].address.replace("@", "+tag@")
    send(Sending(server, tmp_path), [accounts[0].address, accounts[1].address, tagged], PLAIN)
    for account in accounts:
        (mail,) = server.mailbox(account)
        assert mail.endswith(b"\r\n" + PLAIN)


@pytest.mark.needs("swaks")
def test_swaks_pipelines_into_a_mixed_transaction(server: Mailserv, tmp_path: Path) -> None:
    alice = server.add_account()
    command = ["swaks", "--server", "127.0.0.1", "--port", str(server.ports["smtp"]), "--pipeline"]
    command += ["--from", "somebody@example.net", "--to", f"nobody@example.org,{alice.address}", "--body", "Hello"]
    said = run(*command, home=tmp_path).text
    assert "550 5.1.1" in said
    (mail,) = server.mailbox(alice)
    assert b"\r\n\r\nHello\r\n" in mail


@pytest.mark.needs("swaks")
def test_swaks_speaks_helo_only(server: Mailserv, tmp_path: Path) -> None:
    alice = server.add_account()
    command = ["swaks", "--protocol", "SMTP", "--server", "127.0.0.1", "--port", str(server.ports["smtp"])]
    run(*command, "--from", "<>", "--to", alice.address, "--body", "Hello", home=tmp_path)
    (mail,) = server.mailbox(alice)
    assert mail.startswith(b"Return-Path: <>\r\n")
    assert received_with(mail) == "SMTP"


@pytest.mark.needs("swaks")
def test_auth_is_not_offered_to_swaks_before_tls(server: Mailserv, tmp_path: Path) -> None:
    alice = server.add_account()
    with pytest.raises(Refused, match="exit code 28"):
        swaks(Sending(server, tmp_path, "submission", "plain", "PLAIN", alice, alice.address), [alice.address], PLAIN)


@pytest.mark.needs("curl")
def test_curl_sends_to_an_internationalised_address(server: Mailserv, tmp_path: Path) -> None:
    jose = server.add_account("josé")
    sending = Sending(server, tmp_path, reverse_path="grüße@example.net")
    curl(sending, [jose.address], SAMPLES["eight_bit"])
    (mail,) = server.mailbox(jose)
    assert mail.startswith("Return-Path: <grüße@example.net>\r\n".encode())
    assert mail.endswith(b"\r\n" + SAMPLES["eight_bit"])
    assert received_with(mail) == "UTF8SMTP"


@pytest.mark.needs("curl")
def test_curl_logs_in_under_an_internationalised_name(server: Mailserv, tmp_path: Path) -> None:
    lea, alice = server.add_account("léa"), server.add_account()
    sending = Sending(server, tmp_path, "submissions", "tls", "PLAIN", lea, lea.address)
    curl(sending, [alice.address], SAMPLES["eight_bit"])
    (mail,) = server.mailbox(alice)
    assert mail.startswith("Return-Path: <léa@example.org>\r\n".encode())
    assert received_with(mail) == "UTF8SMTPSA"


def test_smtplib_sends_to_an_internationalised_address(server: Mailserv) -> None:
    zoe = server.add_account("zoë")
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"], "client.example.net", timeout=SECONDS) as client:
        client.sendmail("grüße@example.net", [zoe.address], SAMPLES["eight_bit"], ["SMTPUTF8", "BODY=8BITMIME"])
    (mail,) = server.mailbox(zoe)
    assert mail.endswith(b"\r\n" + SAMPLES["eight_bit"])
    assert received_with(mail) == "UTF8SMTP"


@pytest.mark.needs("curl")
def test_vrfy_tells_curl_nothing_and_help_helps(server: Mailserv, tmp_path: Path) -> None:
    alice = server.add_account()
    url = f"smtp://127.0.0.1:{server.ports['smtp']}/client.example.net"
    assert "252" in run("curl", "-sv", url, "--mail-rcpt", alice.address, home=tmp_path).text
    assert "214" in run("curl", "-sv", url, "--request", "HELP", home=tmp_path).text
