"""The invariants of ARCHITECTURE.md, each by its number, from socket to mailbox. The rooms' own tests say more of each."""

from __future__ import annotations

import random
import re
import signal
import sqlite3
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from serving import port_of, running
from talking import Talk, auth_plain, greeted
from trusting import Trust

from mailserv.clock import SystemClock
from mailserv.net.connection import Connection
from mailserv.queue.state import State
from mailserv.resolver import Resolver
from mailserv.settings import Plugins
from mailserv.store.sqlite import open_store
from mailserv.testing.clock import FakeClock
from mailserv.testing.dns import FakeZone
from mailserv.testing.server import MailServer, mail_server
from mailserv.testing.sink import Held, ScriptedMX

ALICE = "alice@example.org"
LOGIN = (ALICE, "secret")
CONTENT = b"From: alice@example.org\r\nSubject: invariant\r\n\r\nHello.\r\n"
CONFIG = """hostname = "mail.example.org"
data_dir = "data"
local_domains = ["example.org"]
postmaster = "alice@example.org"
listen = [{{ service = "smtp", address = "127.0.0.1:0" }}, {{ service = "submission", address = "127.0.0.1:0" }}]
relay = {{ networks = ["127.0.0.0/8"] }}
routes = {{ "*" = "smtp:[127.0.0.1]:{0}" }}
"""


def route(mx: ScriptedMX) -> str:
    return f"smtp:[{mx.host}]:{mx.port}"


def configure(folder: Path, port: int) -> list[str]:
    """A settings file and an account; the arguments of `mailserv`."""
    (folder / "mailserv.toml").write_text(CONFIG.format(port))
    store = open_store(folder / "data", SystemClock(), exclusive=False)
    store.add_account(ALICE, "no password", 0.0)
    store.close()
    return ["serve", "--config", "mailserv.toml"]


@pytest.mark.crash
def test_invariant_1_250_means_committed_whatever_happens_next(tmp_path: Path) -> None:
    with running(*configure(tmp_path, 1), cwd=tmp_path) as process:
        ready = process.until("^ready")
        with greeted(("127.0.0.1", port_of(ready, "smtp"))) as talk:
            answer = talk.send_mail("x@example.net", [ALICE], CONTENT)
            process.signal(signal.SIGKILL)
            process.end()
    assert answer.startswith("250 2.0.0 queued as ")
    with closing(sqlite3.connect(tmp_path / "data" / "mailserv.db")) as database:
        assert database.execute("SELECT queue_id FROM message").fetchall() == [(answer.split()[-1],)]
        assert database.execute("SELECT count(*) FROM mailbox").fetchone() == (1,)


@pytest.mark.crash
def test_invariant_2_a_row_is_in_one_state_of_the_table_and_a_crash_loses_none(tmp_path: Path) -> None:
    held = Held("250 2.0.0 Taken")
    with ScriptedMX({"DOT": [held], "RCPT TO:<later@": ["451 4.2.0 Later"]}) as mx:
        arguments = configure(tmp_path, mx.port)
        with running(*arguments, cwd=tmp_path) as process:
            with greeted(("127.0.0.1", port_of(process.until("^ready"), "smtp"))) as talk:
                for path in ("later@a.example", "bob@a.example"):
                    assert talk.send_mail(ALICE, [path], CONTENT).startswith("250")
                    if path.startswith("later"):
                        process.until("event=delivery .*outcome=deferred")
                assert held.reached.wait(20)
            process.signal(signal.SIGKILL)
            process.end()
        held.release.set()
        store = open_store(tmp_path / "data", SystemClock(), exclusive=False)
        states = {entry.forward_path: State(entry.state) for entry in store.queue_list()}
        assert states == {"later@a.example": State.READY, "bob@a.example": State.CLAIMED}
        store.close()
        with running(*arguments, cwd=tmp_path) as process:
            assert "rows=1" in process.until("event=queue_reclaimed").string
            process.until("event=delivery .*bob@a.example .*outcome=delivered")
            process.stop()
        store = open_store(tmp_path / "data", SystemClock(), exclusive=False)
        assert [entry.forward_path for entry in store.queue_list()] == ["later@a.example"]
        store.close()


@pytest.mark.parametrize("answer", ["550 5.1.1 Not known", "451 4.2.0 Later"])
def test_invariant_3_a_message_from_the_null_reverse_path_is_never_answered(answer: str) -> None:
    clock = FakeClock()
    with (
        ScriptedMX({"RCPT": answer}) as mx,
        mail_server(clock=clock, routes={"*": route(mx)}, accounts={ALICE: "secret", "pm@example.org": "x"},
                    postmaster="pm@example.org") as server,
    ):  # fmt: skip
        server.send("", ["bob@a.example"], CONTENT, login=LOGIN)
        tries = len(server.wait_for_log("delivery"))
        while server.queue():  # past the delay notice, to the end of all tries
            clock.advance(3600 * 5)
            server.wake_queue()
            tries = len(server.wait_for_log("delivery", count=tries + 1))
        assert tries > (1 if answer.startswith("4") else 0)
        assert server.mailbox(ALICE) == []
        assert mx.messages == []
        assert not any(command.startswith("MAIL FROM:<") and "<>" not in command for command in mx.commands)
        for notice in server.mailbox(
            "pm@example.org"
        ):  # the postmaster may be told, and that is no answer to it either
            assert notice.startswith(b"Return-Path: <>")


PERMISSIVE = '''
from mailserv import hookimpl

class Plugin:
    def __init__(self, settings, services):
        pass

    @hookimpl
    def smtp_rcpt(self, peer, envelope, forward_path):
        return {answer}

    @hookimpl
    def message_check(self, peer, envelope, content):
        return None
'''  # fmt: skip


@pytest.mark.parametrize("answer", ["True", "'250 ok'", "None", "peer", "forward_path", "object()"])
def test_invariant_4_a_policy_hook_can_refuse_but_never_permit(tmp_path: Path, answer: str) -> None:
    (tmp_path / "lenient.py").write_text(PERMISSIVE.format(answer=answer))
    with (
        ScriptedMX() as mx,
        plugged(tmp_path, "lenient", routes={"*": route(mx)}) as server,
        greeted(server.address("smtp")) as talk,
    ):
        talk.say("MAIL FROM:<alice@example.org>")
        assert talk.say("RCPT TO:<victim@victim.example>").startswith("550 5.7.1")
        assert talk.say(f"RCPT TO:<{ALICE}>").startswith("250" if answer == "None" else "451 4.3.0")
        assert talk.say("RCPT TO:<nobody@example.org>").startswith("550 5.1.1")
        assert server.queue() == []


@contextmanager
def plugged(folder: Path, name: str, **settings: Any) -> Iterator[MailServer]:
    with mail_server(plugins=Plugins(enabled=(name,), path=folder), **settings) as server:
        yield server


@pytest.mark.parametrize("end", [b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\r", b"\n\r.\r\n"])
def test_invariant_5_only_crlf_dot_crlf_ends_data(server: MailServer, end: bytes) -> None:
    with greeted(server.address("smtp")) as talk:
        talk.say_all("MAIL FROM:<x@example.net>", f"RCPT TO:<{ALICE}>", "DATA")
        talk.send(
            CONTENT + b"one" + end + f"MAIL FROM:<smuggled@example.net>\r\nRCPT TO:<{ALICE}>\r\nDATA\r\n".encode()
        )
        talk.send(b"Subject: smuggled\r\n\r\n.\r\n")
        assert talk.hear().startswith("550 5.5.2")
        assert talk.ended()
    server.wait_for_log("session")
    assert server.mailbox(ALICE) == []
    assert not server.log.matching("accepted")


@pytest.mark.parametrize("service", ["smtp", "submission", "pop3"])
def test_invariant_6_bytes_before_the_handshake_are_an_error_never_input(trust: Trust, service: Any) -> None:
    with mail_server(tls=trust.tls) as server, Talk.to(server.address(service)) as talk:
        talk.line()
        if service == "pop3":
            talk.send(b"STLS\r\nUSER alice@example.org\r\nPASS secret\r\n")
        else:
            talk.say("EHLO x")
            talk.send(b"STARTTLS\r\nEHLO injected\r\n" + auth_plain(*LOGIN).encode() + b"\r\n")
        assert talk.hear().startswith(("554 5.5.1", "-ERR"))
        assert talk.ended()
        server.wait_for_log("pop3_session" if service == "pop3" else "session", reason="refused")
        assert not server.log.matching("auth_ok")


WATCHING = '''
import sqlite3
from mailserv import hookimpl

CALLS = []
DATABASE = {database!r}

def note(hook, *values):
    """A hook that ran inside a transaction would find the database locked by it."""
    with sqlite3.connect(DATABASE, timeout=0, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    other.close()
    CALLS.append((hook, values))

class Plugin:
    def __init__(self, settings, services):
        self.given = (settings, services)
        CALLS.append(("init", (settings, services)))

    @hookimpl
    def smtp_connect(self, peer): note("smtp_connect", peer)
    @hookimpl
    def smtp_helo(self, peer): note("smtp_helo", peer)
    @hookimpl
    def smtp_mail(self, peer, envelope): note("smtp_mail", peer, envelope)
    @hookimpl
    def smtp_rcpt(self, peer, envelope, forward_path): note("smtp_rcpt", peer, envelope, forward_path)
    @hookimpl
    def smtp_data(self, peer, envelope): note("smtp_data", peer, envelope)
    @hookimpl
    def message_check(self, peer, envelope, content): note("message_check", peer, envelope, content)
    @hookimpl
    def message_accepted(self, queue_id, peer, envelope): note("message_accepted", queue_id, peer, envelope)
'''


def watched(tmp_path: Path) -> list[tuple[str, tuple[object, ...]]]:
    """One session with a long message; every hook call, and what it was given."""
    (tmp_path / "watching.py").write_text(WATCHING.format(database=str(tmp_path / "data" / "mailserv.db")))
    with plugged(tmp_path, "watching", data_dir=tmp_path / "data") as server:
        with greeted(server.address("smtp")) as talk:
            talk.say_all("MAIL FROM:<x@example.net>", f"RCPT TO:<{ALICE}>", "DATA")
            talk.send(CONTENT)
            for _ in range(200):
                talk.send(b"A line and a chunk of its own.\r\n" * 300)
            assert talk.say(".").startswith("250"), server.log.matching("plugin_failed")
        assert not server.log.matching("plugin_failed")
    calls: list[tuple[str, tuple[object, ...]]] = sys.modules["mailserv_plugin_file_watching"].CALLS
    return calls


def test_invariant_7_no_hook_runs_inside_a_transaction_and_none_per_line_or_chunk(tmp_path: Path) -> None:
    assert [hook for hook, _ in watched(tmp_path)] == [
        "init",
        "smtp_connect",
        "smtp_helo",
        "smtp_mail",
        "smtp_rcpt",
        "smtp_data",
        "message_check",
        "message_accepted",
    ]


FORBIDDEN = {"Server", "SqliteStore", "Context", "SmtpSession", "Connection"}
ALLOWED = re.compile(r"builtins\.(str|NoneType)|mailserv\.mail\.\w+\.\w+|mailserv\.store\.spool\.\w+")


def test_invariant_8_a_plugin_gets_values_and_a_few_services_never_the_server(tmp_path: Path) -> None:
    calls = watched(tmp_path)
    for hook, values in calls:
        for value in values:
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            assert ALLOWED.fullmatch(kind), (hook, kind)
            assert type(value).__name__ not in FORBIDDEN
    services: Any = calls[0][1][1]
    assert {"name", "hostname", "now", "log"} <= set(services.__slots__)
    for name in services.__slots__:
        whose = type(getattr(getattr(services, name), "__self__", None))
        assert whose.__name__ not in FORBIDDEN, f"{name} is a method of {whose}"
    assert (services.name, services.hostname) == ("watching", "mail.example.org")


RAISING = """
from mailserv import hookimpl

class Plugin:
    def __init__(self, settings, services):
        pass

    @hookimpl
    def smtp_rcpt(self, peer, envelope, forward_path):
        if forward_path.local_part == "bob":
            raise RuntimeError("on purpose")

    @hookimpl
    def message_accepted(self, queue_id, peer, envelope):
        raise RuntimeError("on purpose, too")
"""


def test_invariant_8_a_plugin_that_raises_costs_one_command_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "raising.py").write_text(RAISING)
    accounts = {ALICE: "secret", "bob@example.org": "secret"}
    with plugged(tmp_path, "raising", accounts=accounts) as server, greeted(server.address("smtp")) as talk:
        talk.say("MAIL FROM:<x@example.net>")
        assert talk.say("RCPT TO:<bob@example.org>").startswith("451 4.3.0")
        assert talk.say(f"RCPT TO:<{ALICE}>").startswith("250")
        talk.say("DATA")
        talk.send(CONTENT)
        assert talk.say(".").startswith("250")
        lines = server.wait_for_log("plugin_failed", count=2, plugin="raising", level="error")
        assert [line["hook"] for line in lines] == ["smtp_rcpt", "message_accepted"]


def test_invariant_9_time_names_and_chance_come_from_outside() -> None:
    clock = FakeClock()  # 2026-01-01 00:00 UTC
    queue_ids = []
    with ScriptedMX() as mx, FakeZone({"a.example": ["MX 10 mx.a.example."], "mx.a.example": [f"A {mx.host}"]}) as zone:
        for _ in range(2):
            with mail_server(
                clock=clock, resolver=Resolver([zone.nameserver]), rng=random.Random(9), smtp_port=mx.port
            ) as server:
                server.send(ALICE, ["bob@a.example"], CONTENT, login=LOGIN)
                server.wait_for_empty_queue()
                queue_ids.append(server.log.matching("accepted")[0]["queue_id"])
        assert queue_ids[0] == queue_ids[1]
        assert ("a.example", "MX") in zone.queries
        assert ("mx.a.example", "A") in zone.queries
        for message in mx.messages:
            dates = re.findall(rb"\b\w{3}, +\d+ \w{3} \d{4} [\d:]+ [+-]\d{4}", message.content)
            assert len(dates) == 2  # Received and Date
            assert set(dates) == {b"Thu, 01 Jan 2026 00:00:00 +0000"}


def test_invariant_10_no_secret_and_no_control_character_reaches_the_log(tmp_path: Path) -> None:
    evil = "\x1b[31m\x07\x00\x85\u2028\u202eevil"
    with running(*configure(tmp_path, 1), cwd=tmp_path) as process:
        ready = process.until("^ready")
        for service in ("smtp", "submission"):
            address = ("127.0.0.1", port_of(ready, service))
            with Talk.to(address) as talk:
                talk.hear()
                talk.say_all(
                    f"EHLO {evil}",
                    f"HELO {evil}",
                    "EHLO x",
                    f"VRFY {evil}",
                    evil,
                    auth_plain("\u2028\u202eevil", "hunter2"),
                )
                talk.say_all(auth_plain(ALICE, "hunter2"), f"MAIL FROM:<{evil}@example.net>")
            with greeted(address) as talk:
                talk.say_all("MAIL FROM:<x@example.net> SMTPUTF8", f'RCPT TO:<"{evil}"@example.org>')
                talk.say_all(f"RCPT TO:<{evil}@a.example>", f"RCPT TO:<{ALICE}>", "DATA")
                talk.send(f"Subject: {evil}\r\nhunter2\r\n\r\n".encode())
                talk.say(".")
        _, _, printed = process.stop()
    assert "event=auth_failed" in printed
    assert printed.count("\n") > 8
    assert "hunter2" not in printed
    assert auth_plain(ALICE, "hunter2").split()[-1] not in printed
    for line in printed.split("\n"):
        assert line.isprintable(), ascii(line)
        assert re.match(r"ts=\S+ level=\w+ event=\w+ |ready |$", line), line


def test_invariant_11_one_thread_owns_a_socket() -> None:
    owners: dict[int, set[int]] = defaultdict(set)
    living: list[Connection] = []  # so that no two have one id
    owned = {
        method.__code__ for method in (Connection.receive, Connection.send, Connection.start_tls, Connection.close)
    }

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code in owned:
            connection = frame.f_locals["self"]
            living.append(connection)
            owners[id(connection)].add(threading.get_ident())

    threading.setprofile(profile)
    try:
        with mail_server() as server:
            idle = greeted(server.address("smtp"))
            for _ in range(5):
                with greeted(server.address("smtp")) as talk, Talk.to(server.address("pop3")) as reader:
                    talk.send_mail("x@example.net", [ALICE], CONTENT)
                    reader.line()
                    reader.say("QUIT")
        idle.close()
    finally:
        threading.setprofile(None)  # type: ignore[arg-type]
    assert len(owners) == 11
    assert all(len(threads) == 1 for threads in owners.values())
