"""The hooks that say where mail goes, by which way out, when again and under which TLS."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from live_kit import ALICE, BOB, CAROL, LOGIN, TEXT, plugin_server, session

from mailserv import hookimpl
from mailserv.mail.address import Address
from mailserv.mail.delivery import Attempt, Delivery, Transport
from mailserv.mail.outcome import Delivered
from mailserv.mail.reply import OK
from mailserv.mail.resolution import Resolution
from mailserv.settings import Routed
from mailserv.testing.server import mail_server
from mailserv.testing.sink import ScriptedMX

CARRIED: list[str] = []


def test_hook_register_transports_brings_a_way_out_of_the_queue() -> None:
    class Pigeons:
        def __init__(self, settings: None, services: object) -> None:
            self.carried: list[str] = CARRIED

        @hookimpl
        def register_transports(self) -> Iterable[tuple[str, Transport]]:
            return [("pigeon", self)]

        def deliver(self, deliveries: Iterable[Delivery]) -> Iterator[Attempt]:
            for delivery in deliveries:
                self.carried.append(f"{delivery.rows[0].forward_path} by {delivery.route.next_hop}")
                yield Attempt(delivery, (Delivered(OK),))

        def close(self) -> None:
            self.carried.append("home")

    with mail_server(plugins=[Pigeons], routes={"far.example": "pigeon:loft"}) as server:
        server.send(ALICE, [CAROL], TEXT, login=LOGIN)
        server.wait_for_log("delivery", outcome="delivered", route="pigeon:loft")
    assert [f"{CAROL} by loft", "home"] == CARRIED


RESOLVER = """
    @hookimpl
    def resolve_recipient(self, address):
        SEEN.append(str(address))
        if address.domain == "virtual.example":
            if address.local_part == "box":
                return Resolution(mailboxes=(("alice@example.org", address), ("nobody@example.org", address)))
            if address.local_part == "gone":
                return Resolution(mailboxes=(("nobody@example.org", address),))
            if address.local_part == "closed":
                return Resolution(refusal=Reply(550, "5.2.1", "closed for good"))
            return Resolution(remotes=((address, Route("smtp", "[{host}]:{port}")),), steps=("virtual",))
"""


def test_hook_resolve_recipient_is_the_whole_answer_and_counts_as_ours(tmp_path: Path) -> None:
    with ScriptedMX() as mx:
        body = RESOLVER.replace("{host}", mx.host).replace("{port}", str(mx.port))
        with plugin_server(tmp_path, body) as (server, asked):
            with session(server) as client:
                client.mail(CAROL)
                assert client.rcpt("box@virtual.example")[0] == 250
                assert client.rcpt("out@virtual.example")[0] == 250
                assert client.rcpt("closed@virtual.example") == (550, b"5.2.1 closed for good")
                assert client.rcpt("gone@virtual.example")[0] == 550
                assert client.rcpt("who@elsewhere.example") == (550, b"5.7.1 Relaying denied")
                assert client.rcpt(ALICE)[0] == 250
                client.data(TEXT)
            (taken,) = mx.wait_for_messages(1)
            assert taken.rcpts == ("<out@virtual.example>",)
            assert b"Delivered-To: box@virtual.example" in server.wait_for_mail(ALICE, 2)[0]
            assert asked[0] == "box@virtual.example"


@pytest.mark.parametrize(
    "answer",
    [
        'Resolution(remotes=((Address("a\\r\\nDATA", "far.example"), Route("smtp", "far.example")),))',
        'Resolution(remotes=((Address("a", "far.example> NOTIFY=NEVER"), Route("smtp", "far.example")),))',
        'Resolution(mailboxes=(("alice@example.org", Address("a", "b\\r\\nSubject: forged")),))',
    ],
)
def test_hook_resolve_recipient_gives_addresses_and_no_commands(tmp_path: Path, answer: str) -> None:
    body = f"""
    @hookimpl
    def resolve_recipient(self):
        return {answer}
    """
    with plugin_server(tmp_path, body) as (server, _):
        with session(server) as client:
            client.mail(CAROL)
            assert client.rcpt(ALICE)[0] == 451
        server.wait_for_log("plugin_lied", plugin="probe")


def test_hook_resolve_recipient_of_two_that_know_an_address_the_first_in_enabled_is_the_only_one() -> None:
    class Known:
        account = ALICE

        def __init__(self, settings: None, services: object) -> None:
            pass

        @hookimpl
        def resolve_recipient(self, address: Address) -> Resolution | None:
            return Resolution(mailboxes=((self.account, address),)) if address.local_part == "both" else None

    second = type("Second", (Known,), {"account": BOB})
    with mail_server(plugins=[Known, second], accounts={ALICE: "secret", BOB: "secret"}) as server:
        server.send(CAROL, ["both@example.org"], TEXT)
        assert (len(server.mailbox(ALICE)), len(server.mailbox(BOB))) == (1, 0)


@pytest.mark.parametrize(
    ("account", "code"), [("Alice@Example.ORG", 250), ("bob@example.org", 550), ("no address", 550)]
)
def test_hook_resolve_recipient_names_an_account_as_a_login_does(tmp_path: Path, account: str, code: int) -> None:
    body = f"""
    @hookimpl
    def resolve_recipient(self, address):
        return Resolution(mailboxes=(("{account}", address),))
    """
    with plugin_server(tmp_path, body) as (server, _), session(server) as client:
        client.mail(CAROL)
        assert client.rcpt("box@virtual.example")[0] == code


def test_hook_resolve_recipient_is_asked_where_an_alias_leads(tmp_path: Path) -> None:
    with plugin_server(tmp_path, RESOLVER, aliases={"info@example.org": ("box@virtual.example",)}) as (server, _):
        server.send(CAROL, ["info@example.org"], TEXT)
        server.wait_for_mail(ALICE)


def test_hook_expand_recipient_stands_for_others_and_keeps_the_reverse_path(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def expand_recipient(self, address):
        if address.local_part in ("team", "alice"):
            return [parse_mailbox("alice@example.org"), parse_mailbox("bob@example.org")]
        if address.local_part == "ring":
            return [parse_mailbox("ring@example.org")]
    """
    with plugin_server(tmp_path, body, accounts={ALICE: "secret", BOB: "secret"}) as (server, _):
        server.send(CAROL, ["team@example.org"], TEXT)
        for address in (ALICE, BOB):
            (mail,) = server.wait_for_mail(address)
            assert mail.startswith(b"Return-Path: <carol@far.example>")
        with session(server) as client:
            client.mail(CAROL)
            assert client.rcpt("ring@example.org")[0] == 550
            assert client.rcpt("who@elsewhere.example")[0] == 550


def test_hook_route_delivery_chooses_the_way_out(tmp_path: Path) -> None:
    with ScriptedMX() as mx:
        body = f"""
    @hookimpl
    def route_delivery(self, address, route):
        SEEN.append(str(route))
        return Route("smtp", "[{mx.host}]:{mx.port}")
        """
        with plugin_server(tmp_path, body) as (server, routes):
            server.send(ALICE, [CAROL], TEXT, login=LOGIN)
            mx.wait_for_messages(1)
            assert routes == ["smtp:far.example"]


DELIVERIES = """
    @hookimpl
    def delivery_finished(self, delivery, row, outcome):
        SEEN.append((delivery.queue_id, str(row.forward_path), type(outcome).__name__))
        self.services.log.info("told")
"""


def test_hook_delivery_finished_hears_of_what_left_the_queue(tmp_path: Path) -> None:
    with (
        ScriptedMX({"RCPT TO:<dave@": "550 5.1.1 No such user"}) as mx,
        plugin_server(tmp_path, DELIVERIES, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as (server, told),
    ):
        server.send(ALICE, [CAROL, "dave@far.example"], TEXT, login=LOGIN)
        server.wait_for_log("told", 2)
        (line,) = server.wait_for_log("accepted")
        assert set(told) == {
            (line["queue_id"], CAROL, "Delivered"),
            (line["queue_id"], "dave@far.example", "Failed"),
        }


def test_hook_retry_delay_says_when(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def retry_delay(self, delay):
        SEEN.append(delay)
        return 77
    """
    with (
        ScriptedMX({"RCPT TO:<carol@": "450 4.2.1 Later"}) as mx,
        plugin_server(tmp_path, body, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as (server, delays),
    ):
        server.send(ALICE, [CAROL], TEXT, login=LOGIN)
        (line,) = server.wait_for_log("delivery", outcome="deferred")
        (row,) = server.queue()
        assert row.not_before == pytest.approx(line["next_attempt"])
        assert row.not_before - row.received_at == pytest.approx(77, abs=5)
        assert delays[0] == pytest.approx(300, rel=0.11)


def test_hook_retry_delay_is_asked_of_who_waits_although_the_first_was_refused(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def retry_delay(self, row):
        SEEN.append(str(row.forward_path))
        return 77
    """
    with (
        ScriptedMX({"RCPT TO:<gone@": "550 5.1.1 No such user", "RCPT TO:<carol@": "450 4.2.1 Later"}) as mx,
        plugin_server(tmp_path, body, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as (server, asked),
    ):
        server.send(ALICE, ["gone@far.example", CAROL], TEXT, login=LOGIN)
        server.wait_for_log("delivery", outcome="deferred")
        (row,) = [row for row in server.queue() if str(row.forward_path) == CAROL]
        assert row.not_before - row.received_at == pytest.approx(77, abs=5)
        assert asked == [CAROL]


@pytest.mark.parametrize(
    ("routed", "answer", "outcome"),
    [
        ("opportunistic", "require", "deferred"),
        ("require", "none", "deferred"),
        ("opportunistic", "none", "delivered"),
        ("none", None, "delivered"),
    ],
)
def test_hook_tls_policy_only_makes_stricter(tmp_path: Path, routed: str, answer: str | None, outcome: str) -> None:
    body = f"""
    @hookimpl
    def tls_policy(self, next_hop, host):
        SEEN.append((next_hop, host))
        return {answer!r}
    """
    with ScriptedMX() as mx:
        hop = f"[{mx.host}]:{mx.port}"
        routes = {"far.example": Routed(to=f"smtp:{hop}", tls=routed)}  # type: ignore[arg-type]
        with plugin_server(tmp_path, body, routes=routes) as (server, asked):
            server.send(ALICE, [CAROL], TEXT, login=LOGIN)
            (line,) = server.wait_for_log("delivery")
            assert line["outcome"] == outcome
            assert asked == [(hop, mx.host)]


def test_hook_tls_policy_that_fails_lets_nothing_go_in_plain_text(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def tls_policy(self):
        raise RuntimeError("boom")
    """
    with (
        ScriptedMX() as mx,
        plugin_server(tmp_path, body, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as (server, _),
    ):
        server.send(ALICE, [CAROL], TEXT, login=LOGIN)
        (line,) = server.wait_for_log("delivery")
        assert line["outcome"] == "deferred"
        assert mx.connections == 0
