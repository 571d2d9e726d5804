"""Every hook in the running server: called where its specification says, its answer honoured."""

from __future__ import annotations

import email
import email.policy
import poplib
import smtplib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path

import pytest
from live_kit import plugin_server, seen

from mailserv import hookimpl
from mailserv.errors import ConfigError
from mailserv.mail.address import Address
from mailserv.mail.delivery import Attempt, Delivery, Transport
from mailserv.mail.outcome import Delivered
from mailserv.mail.reply import OK
from mailserv.mail.resolution import Resolution
from mailserv.settings import PluginPolicy, Routed
from mailserv.testing.server import MailServer, mail_server
from mailserv.testing.sink import ScriptedMX

ALICE, BOB, CAROL = "alice@example.org", "bob@example.org", "carol@far.example"
TEXT = b"Subject: hello\r\n\r\nHi.\r\n"
LOGIN = (ALICE, "secret")
CARRIED: list[str] = []


@contextmanager
def session(server: MailServer, service: str = "smtp") -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP(*server.address(service), "client.example.net", timeout=20) as client:  # type: ignore[arg-type]
        client.ehlo()
        yield client


def refuses_with_its_own_words(folder: Path, hook: str) -> None:
    body = f"""
    @hookimpl
    def {hook}(self):
        return reject("not today", code=554)
    """
    with plugin_server(folder, body) as (server, _), pytest.raises(smtplib.SMTPException) as raised:
        server.send(CAROL, [ALICE], TEXT)
    assert "not today" in str(raised.value)


def test_hook_smtp_connect_refuses_with_its_own_words(tmp_path: Path) -> None:
    refuses_with_its_own_words(tmp_path, "smtp_connect")


def test_hook_smtp_helo_refuses_with_its_own_words(tmp_path: Path) -> None:
    refuses_with_its_own_words(tmp_path, "smtp_helo")


def test_hook_smtp_mail_refuses_with_its_own_words(tmp_path: Path) -> None:
    refuses_with_its_own_words(tmp_path, "smtp_mail")


def test_hook_smtp_rcpt_refuses_with_its_own_words(tmp_path: Path) -> None:
    refuses_with_its_own_words(tmp_path, "smtp_rcpt")


def test_hook_smtp_data_refuses_with_its_own_words(tmp_path: Path) -> None:
    refuses_with_its_own_words(tmp_path, "smtp_data")


def test_hook_message_check_refuses_with_its_own_words(tmp_path: Path) -> None:
    refuses_with_its_own_words(tmp_path, "message_check")


def test_hook_message_accepted_is_told_after_the_commit(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def message_accepted(self, queue_id, envelope):
        SEEN.append((queue_id, str(envelope.reverse_path)))
    """
    with plugin_server(tmp_path, body) as (server, told):
        server.send(CAROL, [ALICE], TEXT)
        (line,) = server.wait_for_log("accepted")
        assert told == [(line["queue_id"], CAROL)]


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


def test_hook_check_config_stops_the_start_with_every_problem(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def check_config(self):
        return ["delay: is longer than its end", "end: is in the past"]
    """
    with pytest.raises(ConfigError) as raised, plugin_server(tmp_path, body):
        pass
    assert raised.value.problems == [
        "plugin.probe.delay: is longer than its end",
        "plugin.probe.end: is in the past",
    ]


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


def test_hook_authenticate_goes_before_our_own_accounts(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def authenticate(self, name, password, ip, service):
        SEEN.append((name, ip, service))
        if name == "uid=alice":
            return "Alice@example.org" if password == "ticket" else ""
        if name == "bob@example.org":
            return ""
    """
    with plugin_server(tmp_path, body, accounts={ALICE: "secret", BOB: "secret"}) as (server, asked):
        server.send(ALICE, [ALICE], TEXT, login=("uid=alice", "ticket"))
        server.send(ALICE, [ALICE], TEXT, login=LOGIN)
        for name, password in (("uid=alice", "wrong"), (BOB, "secret")):
            with pytest.raises(smtplib.SMTPAuthenticationError):
                server.send(ALICE, [ALICE], TEXT, login=(name, password))
        pop = poplib.POP3(*server.address("pop3"))
        pop.user("uid=alice")
        assert pop.pass_("ticket").startswith(b"+OK 2 messages")
        pop.quit()
        assert asked[0] == ("uid=alice", "127.0.0.1", "submission")
        assert asked[-1] == ("uid=alice", "127.0.0.1", "pop3")


def test_hook_may_send_as_goes_before_our_own_rule(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def may_send_as(self, login, reverse_path):
        return {"team": True, "alice": False}.get(reverse_path.local_part)
    """
    with plugin_server(tmp_path, body) as (server, _), session(server, "submission") as client:
        client.login(*LOGIN)
        assert client.mail("team@elsewhere.example")[0] == 250
        client.rset()
        assert client.mail(ALICE)[0] == 553
        assert client.mail("alice+tag@example.org")[0] == 250
        client.rset()
        assert client.mail("eve@example.org")[0] == 553
        assert client.docmd("MAIL", "FROM:<>")[0] == 250


def test_hook_auth_result_hears_of_every_login(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def auth_result(self, name, service, is_good):
        SEEN.append((name, service, is_good))
    """
    with plugin_server(tmp_path, body) as (server, told):
        server.send(ALICE, [ALICE], TEXT, login=LOGIN)
        with pytest.raises(smtplib.SMTPAuthenticationError):
            server.send(ALICE, [ALICE], TEXT, login=("eve", "x"))
        assert told[:2] == [(ALICE, "submission", True), ("eve", "submission", False)]


def test_hook_session_closed_hears_of_smtp_and_pop3(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def session_closed(self, peer, messages, errors, seconds, reason):
        SEEN.append((peer.service, messages, errors, reason))
        self.services.log.info("told", seconds=seconds)
    """
    with plugin_server(tmp_path, body) as (server, told):
        server.send(CAROL, [ALICE], TEXT)
        server.wait_for_log("told")
        pop = poplib.POP3(*server.address("pop3"))
        pop.user(ALICE)
        pop.pass_("secret")
        pop.retr(1)
        pop.quit()
        server.wait_for_log("told", 2)
        assert told == [("smtp", 1, 0, "quit"), ("pop3", 1, 0, "quit")]


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


GONE = {"RCPT TO:<gone": "550 5.1.1 No such user"}


def test_hook_dsn_policy_stops_what_is_told_of_one_recipient(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def dsn_policy(self, notice, row, outcome):
        SEEN.append((notice.kind.value, str(notice.to), str(row.forward_path), outcome.reply.code))
        return reject("no", reason="nobody asks") if row.forward_path.local_part == "gone2" else None
    """
    with (
        ScriptedMX(GONE) as mx,
        plugin_server(tmp_path, body, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as (server, asked),
    ):
        server.send(ALICE, ["gone1@far.example", "gone2@far.example"], TEXT, login=LOGIN)
        (bounce,) = server.wait_for_mail(ALICE)
        assert b"gone1@far.example" in bounce
        assert b"gone2@far.example" not in bounce
        assert asked == [("failed", ALICE, f"gone{number}@far.example", 550) for number in (1, 2)]
        server.send(ALICE, ["gone2@far.example"], TEXT, login=LOGIN)
        lines = server.wait_for_log("notice_stopped", 2, recipient="gone2@far.example", why="probe: nobody asks")
        server.wait_for_empty_queue()
        assert len(server.mailbox(ALICE)) == 1
        trace = server.trace(lines[-1]["queue_id"])
        assert [entry.event for entry in trace][-2:] == ["failed", "notice_stopped"]


@pytest.mark.parametrize(("answer", "code"), [("reject", 250), ("tempfail", 451)])
def test_hook_dsn_policy_is_asked_of_a_success_that_is_known_at_once(tmp_path: Path, answer: str, code: int) -> None:
    body = f"""
    @hookimpl
    def dsn_policy(self, notice):
        return {answer}("no", reason=notice.kind.value)
    """
    with plugin_server(tmp_path, body) as (server, _):
        with session(server) as client:
            client.mail(ALICE)
            client.docmd("RCPT", f"TO:<{ALICE}> NOTIFY=SUCCESS")
            assert client.data(TEXT)[0] == code
        assert len(server.mailbox(ALICE)) == (code == 250), "the message, and no notice"
        if code == 250:
            (line,) = server.wait_for_log("accepted")
            assert server.trace(line["queue_id"])[-1].detail["why"] == "probe: succeeded"


def test_invariant_3_no_plugin_makes_a_notice_to_the_null_reverse_path(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def dsn_policy(self, notice):
        SEEN.append(str(notice.to))
    @hookimpl
    def dsn_compose(self, words):
        return NoticeWords("<>", words.text, (("To", "<>"),))
    """
    with (
        ScriptedMX(GONE) as mx,
        plugin_server(tmp_path, body, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as (server, told),
    ):
        server.send("", ["gone@far.example"], TEXT, login=LOGIN)
        (notice,) = server.wait_for_mail(ALICE)
        server.wait_for_empty_queue()
        assert b"To: <postmaster@mail.example.org>\r\n" in notice
        assert set(told) == {"postmaster@mail.example.org"}


def test_hook_dsn_policy_may_say_later_and_the_row_waits(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def dsn_policy(self):
        return tempfail("not now")
    """
    with (
        ScriptedMX(GONE) as mx,
        plugin_server(tmp_path, body, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as (server, _),
    ):
        server.send(ALICE, ["gone@far.example"], TEXT, login=LOGIN)
        server.wait_for_log("delivery", outcome="deferred")
        server.wait_for_log("notice_waits")
        server.send(ALICE, [CAROL], TEXT, login=LOGIN)
        mx.wait_for_messages(1)
        server.wait_for_log("delivery", outcome="delivered")
        assert [(str(row.forward_path), row.state) for row in server.queue()] == [("gone@far.example", "ready")]
        assert server.mailbox(ALICE) == []
        assert not server.log.matching("delivery_broke")


def test_hook_dsn_policy_on_trial_is_in_the_trace(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def dsn_policy(self):
        return reject("no")
    """
    policy = {"probe": PluginPolicy(mode="observe")}
    with (
        ScriptedMX(GONE) as mx,
        plugin_server(tmp_path, body, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}, policy=policy) as (
            server,
            _,
        ),
    ):
        server.send(ALICE, ["gone@far.example"], TEXT, login=LOGIN)
        server.wait_for_mail(ALICE)
        (line,) = server.wait_for_log("accepted")
        assert [entry.event for entry in server.trace(line["queue_id"])][-3:] == ["failed", "observed", "bounced"]


def bounced(server: MailServer) -> EmailMessage:
    """The one bounce of a message to nobody, without a defect, with its three parts."""
    server.send(ALICE, ["gone@far.example"], TEXT, login=LOGIN)
    (whole,) = server.wait_for_mail(ALICE)
    message = email.message_from_bytes(whole, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    kinds = [part.get_content_type() for part in message.iter_parts()]
    assert kinds == ["text/plain", "message/delivery-status", "text/rfc822-headers"]
    assert message.get_content_type() == "multipart/report"
    return message


def test_hook_dsn_compose_changes_the_words_each_after_the_other(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def dsn_compose(self, notice, words):
        text = words.text + "Всё пропало. " * 100 + "\\n"
        return NoticeWords("Тема " * 40, text, (("Organization", "Über " * 30), ("Reply-To", "a@example.org")))
    """
    with (
        ScriptedMX(GONE) as mx,
        plugin_server(tmp_path, body, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as (server, _),
    ):
        message = bounced(server)
        assert message["Subject"].split() == ["Тема"] * 40
        assert message["Organization"].split() == ["Über"] * 30
        assert message["Reply-To"] == "a@example.org"
        text = next(message.iter_parts()).get_content()  # type: ignore[attr-defined]
        assert text.startswith("This is the mail system at mail.example.org.\r\n")
        assert text.count("Всё пропало.") == 100


@pytest.mark.parametrize(
    "lie",
    [
        '"words"',
        "NoticeWords('a\\r\\nTo: x', '')",
        "NoticeWords('', 'a\\r\\n')",
        "NoticeWords('', '', (('Content-Type', 'text/plain'),))",
        "NoticeWords('', '', (('auto-submitted', 'no'),))",
        "NoticeWords('', '', (('X: y', 'z'),))",
        "NoticeWords('', '', (('X', 'y\\nz'),))",
        "NoticeWords('', '', ('X',))",
    ],
)
def test_hook_dsn_compose_never_breaks_the_report(tmp_path: Path, lie: str) -> None:
    body = f"""
    @hookimpl
    def dsn_compose(self):
        return {lie}
    """
    with (
        ScriptedMX(GONE) as mx,
        plugin_server(tmp_path, body, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as (server, _),
    ):
        message = bounced(server)
        assert message["Subject"] == "Your message could not be delivered"
        assert message["Auto-Submitted"] == "auto-replied"
        server.wait_for_log("plugin_lied", plugin="probe")


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


LIFE = """
    @hookimpl
    def startup(self):
        self.services.table.put("started", "yes", self.services.now() + 100)
        SEEN.append("startup")
    @hookimpl
    def smtp_connect(self):
        SEEN.append("connect")
    @hookimpl
    def shutdown(self):
        SEEN.append(self.services.table.get("started"))
"""


def test_hook_startup_comes_once_and_before_the_first_session(tmp_path: Path) -> None:
    with plugin_server(tmp_path, LIFE) as (server, told):
        assert told == ["startup"]
        server.send(CAROL, [ALICE], TEXT)
        assert told == ["startup", "connect"]


def test_hook_shutdown_comes_last_and_the_store_is_still_open(tmp_path: Path) -> None:
    with plugin_server(tmp_path, LIFE) as (server, _):
        server.send(CAROL, [ALICE], TEXT)
    assert seen() == ["startup", "connect", "yes"]


# ---------------------------------------------------------------- what is done with verdicts


@pytest.mark.parametrize("hook", ["smtp_helo", "smtp_mail", "smtp_rcpt", "smtp_data", "message_check"])
def test_a_plugin_that_disconnects_ends_the_session_after_its_reply(tmp_path: Path, hook: str) -> None:
    body = f"""
    @hookimpl
    def {hook}(self):
        return disconnect("enough", reason="said {hook}")
    """
    with plugin_server(tmp_path, body) as (server, _), server.connect("smtp") as raw:
        dialogue = f"EHLO c.example\r\nMAIL FROM:<{CAROL}>\r\nRCPT TO:<{ALICE}>\r\nDATA\r\n"
        reader = raw.makefile("rb")
        raw.sendall(dialogue.encode())
        if hook == "message_check":
            while not reader.readline().startswith(b"354"):
                pass
            raw.sendall(b"\r\nHi.\r\n.\r\n")
        assert reader.read().endswith(b"421 4.7.0 enough\r\n")
        server.wait_for_log("refused", why=f"probe: said {hook}")
        server.wait_for_log("session", reason="refused")


def test_what_a_plugin_on_trial_would_have_done_is_in_the_trace_and_the_mail_is_there(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def smtp_connect(self):
        return reject("no connection", reason="shady")
    @hookimpl
    def smtp_rcpt(self):
        return reject("no recipient")
    """
    policy = {"probe": PluginPolicy(mode="observe")}
    with plugin_server(tmp_path, body, policy=policy) as (server, _):
        server.send(CAROL, [ALICE], TEXT)
        (line,) = server.wait_for_log("accepted")
        observed = [entry.detail for entry in server.trace(line["queue_id"]) if entry.event == "observed"]
        assert [(each["hook"], each["reply"], each["why"]) for each in observed] == [
            ("smtp_connect", "550 5.7.1 no connection", "probe: shady"),
            ("smtp_rcpt", "550 5.7.1 no recipient", "probe: no recipient"),
        ]
