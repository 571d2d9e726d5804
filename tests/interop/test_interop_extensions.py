"""DSN and BDAT with Debian's postfix, XCLIENT with swaks, on a running mailserv."""

from __future__ import annotations

import email
import smtplib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from interop_kit import SECONDS, Certificates, Mailserv, free_port, mailserv, run
from mail_samples import PLAIN
from private_postfix import Postfix, postfix

pytestmark = [pytest.mark.interop, pytest.mark.needs("postfix", "root")]

TO_MAILSERV = """\
relayhost = [127.0.0.1]:{port}
virtual_mailbox_domains = example.net
virtual_mailbox_maps = inline:{{ {{ carol@example.net = carol/ }} }}
smtpd_relay_restrictions = permit_mynetworks, reject
"""
TO_POSTFIX = """
[routes]
"example.net" = "smtp:[127.0.0.1]:{port}"
"""


@dataclass(frozen=True, slots=True)
class Neighbours:
    ours: Mailserv
    theirs: Postfix


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Neighbours]:
    port = free_port()
    with (
        mailserv(tmp_path_factory.mktemp("mailserv"), certificates, TO_POSTFIX.format(port=port)) as ours,
        postfix(certificates, TO_MAILSERV.format(port=ours.ports["smtp"]), port=port) as theirs,
    ):
        yield Neighbours(ours, theirs)


def actions(mail: bytes) -> list[str]:
    """The Action of each recipient in a DSN."""
    report = email.message_from_bytes(mail)
    assert report.get_content_type() == "multipart/report"
    status = report.get_payload(1)
    return [block["Action"] for block in status.get_payload() if block["Action"]]


def test_postfix_hands_its_dsn_request_on_and_we_tell_of_the_delivery(neighbours: Neighbours) -> None:
    alice = neighbours.ours.add_account()
    with smtplib.SMTP("127.0.0.1", neighbours.theirs.port, "client.example.net", timeout=SECONDS) as client:
        options = ["NOTIFY=SUCCESS", f"ORCPT=rfc822;{alice.address}"]
        client.sendmail("carol@example.net", [alice.address], PLAIN, ["RET=HDRS", "ENVID=QQ314159"], options)
    neighbours.theirs.log.wait_for("to=<carol@example.net>.*status=sent .delivered to maildir")
    (notice,) = neighbours.theirs.mailbox("carol")
    assert actions(notice) == ["delivered"]
    assert b"Reporting-MTA: dns; postfix" not in notice
    assert b"Original-Envelope-Id: QQ314159" in notice
    assert b"Original-Recipient: rfc822; " + alice.address.encode() in notice
    assert len(neighbours.ours.mailbox(alice)) == 1


def test_we_hand_our_dsn_request_on_and_postfix_tells_of_the_delivery(neighbours: Neighbours) -> None:
    alice = neighbours.ours.add_account()
    with smtplib.SMTP("127.0.0.1", neighbours.ours.ports["submission"], timeout=SECONDS) as client:
        client.starttls(context=neighbours.ours.certificates.client_context())
        client.login(alice.address, alice.password)
        client.sendmail(alice.address, ["carol@example.net"], PLAIN, ["ENVID=QQ2"], ["NOTIFY=SUCCESS,FAILURE"])
    neighbours.theirs.log.wait_for(f"to=<{alice.address}>.*status=sent")
    (notice,) = neighbours.ours.mailbox(alice)
    assert actions(notice) == ["delivered"]
    assert b"Original-Envelope-Id: QQ2" in notice
    assert b"postfix.example.net" in notice


def bdat(port: int, mail: str, rcpt: str, chunks: list[bytes]) -> list[str]:
    """One transaction in chunks, pipelined; the replies."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as sock, sock.makefile("rb") as lines:

        def reply() -> str:
            while (line := lines.readline().decode())[3:4] == "-":
                pass
            return line

        reply()
        sock.sendall(b"EHLO client.example.net\r\n")
        reply()
        last = len(chunks) - 1
        data = b"".join(b"BDAT %d%b\r\n%b" % (len(c), b" LAST" * (n == last), c) for n, c in enumerate(chunks))
        sock.sendall(f"MAIL FROM:<{mail}>\r\nRCPT TO:<{rcpt}>\r\n".encode() + data + b"QUIT\r\n")
        return [reply()[:3] for _ in range(len(chunks) + 3)]


@pytest.mark.parametrize(
    "chunks",
    [
        [b"Subject: one\r\n\r\nHi.\r\n"],
        [b"Subject: ", b"three\r", b"\n\r\n.\r\nQUIT\r\n"],
        [b"Subject: none\r\n\r\nHi.\r\n", b""],
    ],
    ids=["one chunk", "three chunks", "an empty last chunk"],
)
def test_chunks_are_answered_and_delivered_as_postfix_does(neighbours: Neighbours, chunks: list[bytes]) -> None:
    alice = neighbours.ours.add_account()
    ours = bdat(neighbours.ours.ports["smtp"], "smith@example.com", alice.address, chunks)
    theirs = bdat(neighbours.theirs.port, "smith@example.com", "carol@example.net", chunks)
    assert ours == theirs == ["250"] * (len(chunks) + 2) + ["221"]
    (mail,) = neighbours.ours.mailbox(alice)
    assert mail.endswith(b"\r\n" + b"".join(chunks))


@pytest.mark.parametrize(
    "chunks", [[b"x"], [b"QUIT\r\n", b"RSET\r\n"]], ids=["one refused chunk", "chunks that look like commands"]
)
def test_refused_chunks_are_answered_as_postfix_does(neighbours: Neighbours, chunks: list[bytes]) -> None:
    ours = bdat(neighbours.ours.ports["smtp"], "smith@example.com", "nobody@example.org", chunks)
    theirs = bdat(neighbours.theirs.port, "smith@example.com", "nobody@example.net", chunks)
    assert [code[0] for code in ours] == [code[0] for code in theirs] == ["2"] + ["5"] * (len(chunks) + 1) + ["2"]


@pytest.mark.needs("swaks")
def test_swaks_speaks_for_another_client_by_xclient(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> None:
    more = """
[plugins]
enabled = ["xclient"]
[plugin.xclient]
networks = ["127.0.0.1"]
"""
    folder = tmp_path_factory.mktemp("extended")
    with mailserv(folder, certificates, more) as ours:
        alice = ours.add_account()
        at = ["swaks", "--server", "127.0.0.1", "--port", str(ours.ports["smtp"]), "--from", "smith@example.com"]
        to = ["--helo", "client.example.net", "--to", alice.address]
        run(*at, *to, "--xclient-addr", "192.0.2.7", "--xclient-name", "client.example.net", home=folder)
        (mail,) = ours.mailbox(alice)
        assert b"from client.example.net ([192.0.2.7])" in mail
