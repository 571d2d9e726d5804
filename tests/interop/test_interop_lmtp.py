"""The LMTP service with clients that nobody here wrote: swaks, and a Postfix that hands its mail over to our mailboxes."""

from __future__ import annotations

import smtplib
import subprocess
from contextlib import AbstractContextManager

import pytest
from interop_kit import PATH, SECONDS, Certificates
from private_postfix import postfix

from mailserv.testing.server import MailServer, mail_server

ALICE, BOB, CAROL = "alice@example.org", "bob@example.org", "carol@far.example"
BY_LMTP = """\
relay_domains = example.org
transport_maps = inline:{{ {{ example.org = lmtp:inet:127.0.0.1:{port} }} }}
"""


def mailboxes() -> AbstractContextManager[MailServer]:
    return mail_server(services=("lmtp",), accounts={ALICE: "secret", BOB: "secret"})


@pytest.mark.needs("swaks")
def test_swaks_hears_a_reply_for_each_recipient() -> None:
    with mailboxes() as server:
        _, port = server.address("lmtp")
        command = ["swaks", "--protocol", "LMTP", "--server", "127.0.0.1", "--port", str(port), "--from", CAROL]
        command += ["--to", f"{ALICE},nobody@example.org,{BOB}", "--body", "Hello from swaks"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env={"PATH": PATH}, check=False)
        assert ran.stdout.count("queued as") == 2, ran.stdout
        assert "LHLO" in ran.stdout
        for address in (ALICE, BOB):
            assert b"Hello from swaks" in server.mailbox(address)[0]


@pytest.mark.needs("postfix", "root")
def test_postfix_hands_over_by_lmtp_and_knows_what_became_of_each(certificates: Certificates) -> None:
    with mailboxes() as server:
        _, port = server.address("lmtp")
        with postfix(certificates, BY_LMTP.format(port=port)) as theirs:
            with smtplib.SMTP("127.0.0.1", theirs.port, timeout=SECONDS) as client:
                client.sendmail(CAROL, [ALICE, "nobody@example.org", BOB], b"Subject: x\r\n\r\nHello from Postfix\r\n")
            for address in (ALICE, BOB):
                theirs.log.wait_for(rf"to=<{address}>.*status=sent \(250 2.0.0 queued as")
                (mail,) = server.wait_for_mail(address)
                assert b"Hello from Postfix" in mail
                assert b"with LMTP id " in mail
            theirs.log.wait_for(r"to=<nobody@example.org>.*status=bounced.*550 5.1.1")
