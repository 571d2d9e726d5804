"""Lessons 2, 3, 5, 6: what a queue must never do, on the running server."""

from __future__ import annotations

import email
import signal
from pathlib import Path

import pytest
from flufl.bounce import all_failures
from serving import port_of, running
from talking import Talk, greeted

from mailserv.clock import SystemClock
from mailserv.errors import StoreUnavailable
from mailserv.settings import Relay
from mailserv.store.sqlite import open_store
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import mail_server
from mailserv.testing.sink import Held, Raw, ScriptedMX

ALICE = "alice@example.org"
LOGIN = (ALICE, "secret")
CONTENT = b"From: alice@example.org\r\nSubject: lesson\r\n\r\nHello.\r\n"
LARGE = CONTENT + b"A line of a message that is too large for a row of the database.\r\n" * 6_000
CONFIG = """hostname = "mail.example.org"
data_dir = "data"
local_domains = ["example.org"]
postmaster = "alice@example.org"
listen = [{{ service = "smtp", address = "127.0.0.1:0" }}]
relay = {{ networks = ["127.0.0.0/8"] }}
routes = {{ "fast.example" = "smtp:[127.0.0.1]:{0}", "slow.example" = "smtp:[127.0.0.1]:{1}" }}
"""


def route(mx: ScriptedMX) -> str:
    return f"smtp:[{mx.host}]:{mx.port}"


@pytest.mark.crash
def test_lesson_2_a_crash_does_not_resend_to_the_recipient_that_was_done(tmp_path: Path) -> None:
    held = Held("250 2.0.0 Taken")
    with ScriptedMX() as fast, ScriptedMX({"DOT": [held]}) as slow:
        config = tmp_path / "mailserv.toml"
        config.write_text(CONFIG.format(fast.port, slow.port))
        store = open_store(tmp_path / "data", SystemClock(), exclusive=False)
        store.add_account(ALICE, "no password", 0.0)
        store.close()
        with running("serve", "--config", str(config), cwd=tmp_path) as process:
            with greeted(("127.0.0.1", port_of(process.until("^ready"), "smtp"))) as talk:
                assert talk.send_mail(ALICE, ["a@fast.example", "b@slow.example"], CONTENT).startswith("250")
                process.until(r"event=delivery .*a@fast\.example .*outcome=delivered")
                assert held.reached.wait(20)
                assert talk.send_mail(ALICE, [ALICE], CONTENT).startswith("250")  # what was marked before is synced now
            process.signal(signal.SIGKILL)
            process.end()
        held.release.set()
        with running("serve", "--config", str(config), cwd=tmp_path) as process:
            process.until(r"event=delivery .*b@slow\.example .*outcome=delivered")
            assert process.stop()[0] == 0
        assert len(fast.messages) == 1
        assert 1 <= len(slow.messages) <= 2


def test_lesson_2_recipients_of_one_transaction_are_settled_one_by_one() -> None:
    clock = FakeClock()
    script = {"RCPT TO:<later@": ["451 4.2.0 Not now"], "RCPT TO:<never@": "550 5.1.1 Not known"}
    with ScriptedMX(script) as mx, mail_server(clock=clock, routes={"*": route(mx)}) as server:
        server.send(ALICE, ["now@a.example", "later@a.example", "never@a.example"], CONTENT, login=LOGIN)
        server.wait_for_mail(ALICE)
        (entry,) = server.queue()
        assert (entry.forward_path, entry.state) == ("later@a.example", "ready")
        clock.advance(3600)
        server.wake_queue()
        server.wait_for_empty_queue()
        assert [message.rcpts for message in mx.messages] == [("<now@a.example>",), ("<later@a.example>",)]


def test_lesson_3_one_mailbox_gets_one_copy_however_many_ways_lead_there() -> None:
    aliases = {"info@example.org": (ALICE,), "all@example.org": (ALICE, "info@example.org")}
    with mail_server(aliases=aliases, catch_all={"example.org": ALICE}) as server:
        paths = [ALICE, ALICE.upper(), "info@example.org", "all@example.org", ALICE, "alice@[127.0.0.1]"]
        server.send("x@example.net", paths, CONTENT)
        assert len(server.wait_for_mail(ALICE)) == 1


def test_lesson_3_no_number_is_handed_out_twice() -> None:
    with mail_server() as server:
        store = server.server.store
        row_ids: list[int] = []
        unique_ids: list[str] = []
        for _ in range(3):
            server.send("x@example.net", [ALICE], CONTENT)
            (message,) = store.maildrop(ALICE)
            row_ids.append(message.row_id)
            unique_ids.append(message.unique_id)
            store.delete([message])  # SQLite would use the highest row's number again
        assert row_ids == sorted(set(row_ids))
        assert len(set(unique_ids)) == 3


def test_lesson_5_a_damaged_spool_file_is_set_aside_and_the_queue_goes_on(tmp_path: Path) -> None:
    clock = FakeClock()
    with ScriptedMX({"MAIL": ["451 4.3.0 Later", "451 4.3.0 Later"]}) as mx:
        with mail_server(data_dir=tmp_path, clock=clock, routes={"*": route(mx)}) as server:
            for content in (LARGE, CONTENT):
                server.send(ALICE, ["bob@a.example"], content, login=LOGIN)
                server.wait_for_log("delivery", outcome="deferred", count=1 if content is LARGE else 2)
            (damaged,) = (tmp_path / "spool").iterdir()
            damaged.write_bytes(b"not what was stored")
            clock.advance(86_400)
            server.wake_queue()
            (line,) = server.wait_for_log("store_quarantined", level="error")
            assert line["queue_id"] == damaged.name
            assert mx.wait_for_messages(1)[0].content.endswith(CONTENT.partition(b"\r\n\r\n")[2])
            server.wait_for_log("delivery", outcome="delivered")
            (entry,) = server.queue()
            assert (entry.queue_id, entry.state) == (damaged.name, "quarantined")
            assert damaged.exists()  # never deleted: an operator decides
        assert len(mx.messages) == 1


def test_lesson_5_two_servers_on_one_data_dir_are_kept_apart(tmp_path: Path) -> None:
    with mail_server(data_dir=tmp_path) as first:
        with pytest.raises(StoreUnavailable, match="another mailserv"), mail_server(data_dir=tmp_path):
            raise AssertionError("a second server runs on the same folder")
        first.send("x@example.net", [ALICE], CONTENT)
        assert len(first.mailbox(ALICE)) == 1
    with mail_server(data_dir=tmp_path) as next_one:
        assert len(next_one.mailbox(ALICE)) == 1


def test_lesson_6_a_recipient_is_delivered_or_bounced_never_both() -> None:
    script = {"RCPT TO:<bad": "550 5.1.1 Not known"}
    good = [f"good{number}@a.example" for number in range(10)]
    bad = [f"bad{number}@a.example" for number in range(10)]
    with ScriptedMX(script) as mx, mail_server(routes={"*": route(mx)}) as server:
        paths = [path for pair in zip(good, bad, strict=True) for path in pair]
        server.send(ALICE, paths, CONTENT, login=LOGIN)
        server.wait_for_empty_queue()
        bounced: set[str] = set()
        for dsn in server.mailbox(ALICE):
            temporary, permanent = all_failures(email.message_from_bytes(dsn))
            assert not temporary
            assert not bounced & {each.decode() for each in permanent}
            bounced |= {each.decode() for each in permanent}
        delivered = [path.strip("<>") for message in mx.messages for path in message.rcpts]
        assert sorted(delivered) == sorted(good)
        assert sorted(bounced) == sorted(bad)


@pytest.mark.parametrize("moment", ["RCPT", "DOT", "MAIL"])
def test_lesson_6_what_a_remote_says_is_cleaned_in_dsn_log_and_trace(moment: str) -> None:
    evil = b"550-5.1.1 \x1b[31mred\x07\x00 \xff\xfe caf\xc3\xa9 Bcc: victim@victim.example\r\n550 5.1.1 " + b"x" * 400
    with ScriptedMX({moment: Raw(evil + b"\r\n")}) as mx, mail_server(routes={"*": route(mx)}) as server:
        server.send(ALICE, ["bob@a.example"], CONTENT, login=LOGIN)
        (dsn,) = server.wait_for_mail(ALICE)
        server.wait_for_empty_queue()
        assert not {octet for octet in dsn if octet < 32} - set(b"\r\n\t")
        assert max(dsn) < 127
        assert all(len(line) <= 998 for line in dsn.split(b"\r\n"))
        report = email.message_from_bytes(dsn)
        assert report["Bcc"] is None
        (line,) = server.log.matching("delivery")
        assert str(line["reply"]).isprintable()
        assert str(line["reply"]).startswith("550 5.1.1")
        for entry in server.trace(str(line["queue_id"])):
            assert all(str(value).isprintable() for value in entry.detail.values())


def test_lesson_5_a_damaged_message_in_a_mailbox_leaves_the_others_readable(tmp_path: Path) -> None:
    with mail_server(data_dir=tmp_path, relay=Relay()) as server:
        server.send("x@example.net", [ALICE], LARGE)
        server.send("x@example.net", [ALICE], CONTENT)
        (damaged,) = (tmp_path / "spool").iterdir()
        damaged.write_bytes(b"")
        with Talk.to(server.address("pop3")) as talk:
            talk.line()
            talk.say_all(f"USER {ALICE}", "PASS secret")
            assert talk.say("RETR 1").startswith("-ERR [SYS/TEMP]")
            assert talk.say("RETR 2").startswith("+OK")
        server.wait_for_log("store_message_damaged", level="error")
