"""The LMTP service (RFC 2033): what neighbours hand over, and what they may not."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest
from trusting import Trust

from mailserv.mail.address import Address
from mailserv.mail.peer import LMTP, Peer
from mailserv.mail.resolution import Resolution
from mailserv.mail.route import Route
from mailserv.route.relay import may_relay
from mailserv.settings import Relay
from mailserv.testing.server import MailServer, mail_server
from mailserv.testing.sink import ScriptedMX

ALICE, BOB, CAROL = "alice@example.org", "bob@example.org", "carol@far.example"
TEXT = b"Subject: hello\r\n\r\nHi.\r\n"


@contextmanager
def session(server: MailServer) -> Iterator[smtplib.LMTP]:
    host, port = server.address("lmtp")
    with smtplib.LMTP(host, port, "neighbour.example.org") as client:
        client.ehlo()
        yield client


def test_a_neighbours_mail_is_in_the_mailbox_and_says_how_it_came() -> None:
    with mail_server(services=("lmtp",)) as server, session(server) as client:
        client.sendmail(CAROL, [ALICE], TEXT)
        (mail,) = server.mailbox(ALICE)
        assert b"with LMTP id " in mail
        assert mail.endswith(TEXT)
        (line,) = server.wait_for_log("accepted")
        trace = server.trace(line["queue_id"])
        assert trace[0].detail["service"] == "lmtp"


def test_the_session_may_be_under_tls(tmp_path: Path) -> None:
    trust = Trust.make(tmp_path)
    with mail_server(services=("lmtp",), tls=trust.tls) as server, session(server) as client:
        client._host = "mail.example.org"  # whose name the certificate has
        client.starttls(context=trust.context())
        client.ehlo()
        client.sendmail(CAROL, [ALICE], TEXT)
        assert b"with LMTPS id " in server.mailbox(ALICE)[0]


def test_invariant_4_lmtp_relays_for_nobody() -> None:
    from_the_network = Relay(networks=(ip_network("127.0.0.0/8"),))
    with mail_server(services=("lmtp",), relay=from_the_network) as server, session(server) as client:
        client.mail(ALICE)
        assert client.rcpt(CAROL) == (550, b"5.7.1 Relaying denied")
        assert "auth" not in client.esmtp_features


@pytest.mark.parametrize(("login", "relay"), [("alice@example.org", False), ("", True)])
def test_invariant_4_neither_a_login_nor_a_network_opens_relaying_by_lmtp(login: str, relay: bool) -> None:
    peer = Peer("192.0.2.1", 1, LMTP, "s", login=login, relay=relay)
    away = Resolution(remotes=((Address("c", "far.example"), Route("smtp", "far.example")),))
    assert may_relay(peer, away) is not None
    assert may_relay(Peer("192.0.2.1", 1, "smtp", "s", login=login, relay=relay), away) is None


def test_an_alias_of_ours_leads_out_as_it_does_for_mail_by_smtp() -> None:
    with (
        ScriptedMX() as mx,
        mail_server(
            services=("lmtp",),
            aliases={"info@example.org": (CAROL,)},
            routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"},
        ) as server,
        session(server) as client,
    ):
        client.sendmail(BOB, ["info@example.org"], TEXT)
        (taken,) = mx.wait_for_messages(1)
        assert taken.rcpts == (f"<{CAROL}>",)


@pytest.mark.parametrize("domain", ["example.org", "far.example"])
def test_many_recipients_that_are_not_here_do_not_end_a_neighbours_session(domain: str) -> None:
    with mail_server(services=("lmtp",)) as server, session(server) as client:
        client.mail(CAROL)
        for number in range(30):
            assert client.rcpt(f"nobody{number}@{domain}")[0] == 550
        assert client.rcpt(ALICE)[0] == 250


def test_our_own_lmtp_transport_speaks_with_it_recipient_by_recipient() -> None:
    with mail_server(services=("lmtp",), accounts={ALICE: "secret", BOB: "secret"}) as mailboxes:
        host, port = mailboxes.address("lmtp")
        with mail_server(
            plugins=["lmtp"],
            local_domains=("gateway.example",),
            accounts={"eve@gateway.example": "secret"},
            routes={"example.org": f"lmtp:[{host}]:{port}"},
        ) as gateway:
            paths = [ALICE, "nobody@example.org", BOB]
            gateway.send("eve@gateway.example", paths, TEXT, login=("eve@gateway.example", "secret"))
            for address in (ALICE, BOB):
                assert mailboxes.wait_for_mail(address)[0].endswith(TEXT)
            (bounce,) = gateway.wait_for_mail("eve@gateway.example")
            assert b"nobody@example.org" in bounce
            assert b"alice@example.org" not in bounce


def test_a_server_that_ends_lets_a_neighbour_finish_and_says_goodbye() -> None:
    with mail_server(services=("lmtp",)) as server:
        client = smtplib.LMTP(*server.address("lmtp"), "neighbour.example.org")
        client.ehlo()
    assert client.getreply()[0] == 421
    client.close()
