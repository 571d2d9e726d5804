"""A Postfix that asks mailserv's greylist at RCPT (check_policy_service)."""

from __future__ import annotations

import smtplib

import pytest
from interop_kit import SECONDS, Certificates
from private_postfix import postfix

from mailserv.settings import Listen
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import mail_server

ASKING = """\
virtual_mailbox_domains = example.net
virtual_mailbox_maps = inline:{{ {{ carol@example.net = carol/ }} }}
smtpd_recipient_restrictions = check_policy_service inet:127.0.0.1:{port}
"""


@pytest.mark.needs("postfix", "root")
def test_postfix_asks_the_greylist(certificates: Certificates) -> None:
    clock = FakeClock()
    listen = (Listen(service="greylist", address="127.0.0.1:0"),)
    with mail_server(clock=clock, plugins=["greylist"], listen=listen) as server:
        _, port = server.address("greylist")  # type: ignore[arg-type]
        with (
            postfix(certificates, ASKING.format(port=port)) as theirs,
            smtplib.SMTP("127.0.0.1", theirs.port, timeout=SECONDS) as client,
        ):
            client.ehlo()
            client.mail("dave@far.example")
            code, text = client.rcpt("carol@example.net")
            assert code == 450
            assert b"Greylisted: try again in 300 seconds" in text
            clock.advance(300)
            assert client.rcpt("carol@example.net")[0] == 250
