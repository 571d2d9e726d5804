"""POP3 over a live socket; Python's poplib is the oracle."""

from __future__ import annotations

import base64
import poplib
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pop3_kit import ALICE, PASSWORD, WAIT, Pop3, Wire, client_context

from mailserv.errors import StorageFull, StoreUnavailable
from mailserv.mail import reply
from mailserv.mail.message import BytesContent
from mailserv.pop3.session import refusal
from mailserv.settings import Duration

Serve = Callable[..., Pop3]
Connect = Callable[[Pop3], Wire]

HELLO = b"Subject: hello\r\n\r\nHello.\r\n.\r\n..two dots\r\n.end\r\n"
PREFIX = b"Return-Path: <bob@example.net>\r\n"
PLAIN = base64.b64encode(f"\0{ALICE}\0{PASSWORD}".encode())


def fill(server: Pop3, count: int) -> None:
    for number in range(count):
        server.deliver(f"Q{number:04}", b"Subject: %d\r\n\r\nbody\r\n" % number)


def test_poplib_lists_fetches_and_deletes(server: Pop3) -> None:
    server.deliver("Q1", HELLO)
    server.deliver("Q2", b"Subject: two\r\n\r\n")
    client = server.poplib()
    assert client.stat() == (2, len(HELLO) + len(b"Subject: two\r\n\r\n") + 2 * len(PREFIX))
    assert client.list()[1] == [b"1 %d" % (len(PREFIX) + len(HELLO)), b"2 48"]
    assert client.list(2) == b"+OK 2 48"
    unique_ids = [line.split()[1].decode() for line in client.uidl()[1]]
    assert unique_ids == [message.unique_id for message in server.mailbox()]
    assert client.uidl(1) == f"+OK 1 {unique_ids[0]}".encode()
    _, lines, _ = client.retr(1)
    assert b"\r\n".join(lines) + b"\r\n" == PREFIX + HELLO
    assert client.top(1, 1)[1] == [*(PREFIX + b"Subject: hello").split(b"\r\n"), b"", b"Hello."]
    client.dele(1)
    assert client.stat() == (1, 48)
    client.noop()
    assert client.quit().startswith(b"+OK")
    assert [message.unique_id for message in server.mailbox()] == [unique_ids[1]]


def test_octet_counts_are_exact_to_the_wire(server: Pop3, connect: Connect) -> None:
    server.deliver("Q1", HELLO)
    wire = connect(server).log_in()
    assert wire.ask(b"RETR 1") == b"+OK %d octets\r\n" % (len(PREFIX) + len(HELLO))
    stuffed = wire.lines()
    sent = [line[1:] if line.startswith(b".") else line for line in stuffed]
    assert b"".join(sent) == PREFIX + HELLO


def test_rset_takes_back_what_was_marked(server: Pop3) -> None:
    fill(server, 2)
    client = server.poplib()
    client.dele(1)
    client.rset()
    assert client.stat()[0] == 2
    client.dele(2)
    client.quit()
    assert len(server.mailbox()) == 1


def test_lesson_10_a_lost_connection_deletes_nothing(server: Pop3, connect: Connect) -> None:
    fill(server, 2)
    wire = connect(server).log_in()
    assert wire.ask(b"DELE 1").startswith(b"+OK")
    wire.close()
    assert server.sessions_over.acquire(timeout=WAIT)
    assert len(server.mailbox()) == 2
    assert server.poplib().stat()[0] == 2  # and the maildrop is free again


def test_one_maildrop_has_one_session_and_is_free_after_quit(server: Pop3, connect: Connect) -> None:
    first = server.poplib()
    second = connect(server)
    second.ask(f"USER {ALICE}".encode())
    assert second.ask(f"PASS {PASSWORD}".encode()).startswith(b"-ERR [IN-USE]")
    first.quit()
    second.ask(f"USER {ALICE}".encode())
    assert second.ask(f"PASS {PASSWORD}".encode()).startswith(b"+OK")


def test_a_wrong_password_and_no_account_are_told_alike_and_three_end_the_session(
    server: Pop3, connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    wire = connect(server)
    answers = set()
    for name in (ALICE, "nobody@example.org", "no_address"):
        assert wire.ask(f"USER {name}".encode()).startswith(b"+OK")
        answers.add(wire.ask(b"PASS wrong"))
    assert len(answers) == 1
    assert answers.pop().startswith(b"-ERR [AUTH] ")
    assert wire.line().startswith(b"-ERR Too many failed logins")
    assert wire.rest() == b""
    logged = capsys.readouterr().err
    assert logged.count("auth_failed") == 3
    assert "wrong" not in logged  # invariant 10


def test_pass_comes_after_user_only(server: Pop3, connect: Connect) -> None:
    wire = connect(server)
    assert wire.ask(b"PASS x").startswith(b"-ERR")
    assert wire.ask(b"STAT").startswith(b"-ERR")
    assert wire.ask(b"RETR 1").startswith(b"-ERR")


def test_too_many_failed_logins_of_an_address_are_stopped_before_a_password_is_looked_at(
    serve: Serve, connect: Connect
) -> None:
    server = serve(failed_logins_per_minute=1)
    wire = connect(server)
    wire.ask(f"USER {ALICE}".encode())
    assert wire.ask(b"PASS wrong").startswith(b"-ERR [AUTH]")
    wire.ask(f"USER {ALICE}".encode())
    assert wire.ask(f"PASS {PASSWORD}".encode()).startswith(b"-ERR [SYS/TEMP] Too many failed logins")
    assert b"closing" in wire.rest()


def test_auth_plain_with_and_without_an_initial_response(server: Pop3, connect: Connect) -> None:
    wire = connect(server)
    assert wire.ask(b"AUTH PLAIN " + PLAIN).startswith(b"+OK")
    assert wire.ask(b"QUIT").startswith(b"+OK")
    wire = connect(server)
    assert wire.ask(b"AUTH plain") == b"+ \r\n"
    assert wire.ask(PLAIN).startswith(b"+OK")


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"*", b"-ERR Authentication cancelled"),
        (b"%%%", b"-ERR Malformed"),
        (base64.b64encode(b"mallory\0" + f"{ALICE}\0{PASSWORD}".encode()), b"-ERR [AUTH]"),
        (base64.b64encode(f"\0{ALICE}\0wrong".encode()), b"-ERR [AUTH]"),
    ],
)
def test_auth_plain_that_fails_leaves_the_session_where_it_was(
    server: Pop3, connect: Connect, line: bytes, answer: bytes
) -> None:
    wire = connect(server)
    assert wire.ask(b"AUTH PLAIN") == b"+ \r\n"
    assert wire.ask(line).startswith(answer)
    wire.log_in()


def test_other_mechanisms_are_refused(server: Pop3, connect: Connect) -> None:
    assert connect(server).ask(b"AUTH CRAM-MD5").startswith(b"-ERR Unrecognized")


def capabilities(wire: Wire) -> set[str]:
    assert wire.ask(b"CAPA").startswith(b"+OK")
    return {line.decode().strip() for line in wire.lines()}


ALWAYS = {"TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER", "IMPLEMENTATION mailserv"}
LOGINS = {"USER", "SASL PLAIN"}


def test_capa_tells_what_is_true_here_and_now(serve: Serve, connect: Connect) -> None:
    server = serve(tls=True, plaintext=False)
    wire = connect(server)
    assert capabilities(wire) == ALWAYS | {"STLS"}
    wire.start_tls()
    assert capabilities(wire) == ALWAYS | LOGINS
    wire.log_in()
    assert capabilities(wire) == ALWAYS | LOGINS


def test_capa_without_a_certificate_offers_no_tls(server: Pop3, connect: Connect) -> None:
    assert capabilities(connect(server)) == ALWAYS | LOGINS


def test_no_password_is_taken_without_tls_where_the_policy_says_so(serve: Serve, connect: Connect) -> None:
    server = serve(tls=True, plaintext=False)
    wire = connect(server)
    assert wire.ask(f"USER {ALICE}".encode()).startswith(b"-ERR [AUTH]")
    assert wire.ask(f"PASS {PASSWORD}".encode()).startswith(b"-ERR")
    assert wire.ask(b"AUTH PLAIN " + PLAIN).startswith(b"-ERR [AUTH]")
    wire.start_tls()
    wire.log_in()
    assert wire.ask(b"STLS").startswith(b"-ERR")


def test_poplib_starts_tls(serve: Serve) -> None:
    server = serve(tls=True, plaintext=False)
    client = poplib.POP3("localhost", server.port, timeout=WAIT)
    client.stls(client_context())
    client.user(ALICE)
    client.pass_(PASSWORD)
    assert client.stat() == (0, 0)
    client.quit()


def test_pop3s_speaks_tls_from_the_first_octet(serve: Serve) -> None:
    server = serve(service="pop3s", tls=True, plaintext=False)
    server.deliver("Q1", b"Subject: x\r\n\r\n" + (b"y" * 78 + b"\r\n") * 9000)
    client = poplib.POP3_SSL("localhost", server.port, timeout=WAIT, context=client_context())
    client.user(ALICE)
    client.pass_(PASSWORD)
    assert client.retr(1)[1][-9000:] == [b"y" * 78] * 9000
    client.quit()


def test_invariant_6_bytes_after_stls_and_before_the_handshake_end_the_session(serve: Serve, connect: Connect) -> None:
    wire = connect(serve(tls=True))
    wire.send(b"STLS\r\nUSER mallory\r\n")
    assert wire.line().startswith(b"-ERR")
    assert wire.rest() == b""


def test_stls_forgets_the_name_that_came_before_it(serve: Serve, connect: Connect) -> None:
    wire = connect(serve(tls=True))
    assert wire.ask(b"USER mallory").startswith(b"+OK")
    wire.start_tls()
    assert wire.ask(f"PASS {PASSWORD}".encode()).startswith(b"-ERR")


def test_stls_without_a_certificate_is_refused(server: Pop3, connect: Connect) -> None:
    assert connect(server).ask(b"STLS").startswith(b"-ERR")


def test_a_handshake_that_fails_ends_the_session(
    serve: Serve, connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(tls=True)
    wire = connect(server)
    assert wire.ask(b"STLS").startswith(b"+OK")
    strangers = ssl.create_default_context()
    wire.file.close()
    with pytest.raises(ssl.SSLError):
        strangers.wrap_socket(wire.socket, server_hostname="localhost")
    assert server.sessions_over.acquire(timeout=WAIT)
    assert "tls_failed" not in capsys.readouterr().err  # a stranger's handshake is no warning
    connect(server).start_tls()


def test_pipelined_commands_are_answered_in_one_write(server: Pop3, connect: Connect) -> None:
    fill(server, 3)
    wire = connect(server).log_in()
    wire.send(b"STAT\r\nUIDL 1\r\nRETR 1\r\nRETR 2\r\nDELE 1\r\nNOOP\r\n")
    data = wire.socket.recv(65536)
    assert data.endswith(b"marked as deleted\r\n+OK\r\n")
    assert data.count(b"+OK") == 6


class Counted:
    """Content in blocks, that counts how far it was read."""

    def __init__(self, blocks: list[bytes], error: Exception | None = None) -> None:
        self.parts = blocks
        self.error = error
        self.read = 0

    @property
    def size(self) -> int:
        return sum(map(len, self.parts))

    def blocks(self) -> Iterator[bytes]:
        for part in self.parts:
            self.read += 1
            yield part
        if self.error is not None:
            raise self.error


def test_a_large_message_flows_through_block_by_block(server: Pop3, connect: Connect) -> None:
    fill(server, 1)
    line = b"." + b"x" * 62 + b"\r\n"
    content = Counted([b"Subject: large\r\n\r\n", *([line * 4000] * 40)])
    server.store.replaced["read"] = lambda _: content
    wire = connect(server).log_in()
    wire.send(b"RETR 1\r\n")
    assert wire.line() == b"+OK %d octets\r\n" % content.size
    assert content.read < 40  # 10 MB do not fit into the sockets' buffers: the rest is still to be read
    got = wire.lines()
    assert len(got) == 160_002
    assert got[-1] == b"." + line
    assert wire.ask(b"NOOP") == b"+OK\r\n"


def test_top_of_a_large_message_reads_its_top(server: Pop3, connect: Connect) -> None:
    fill(server, 1)
    content = Counted([b"Subject: large\r\n\r\n", *([b"x" * 62 + b"\r\n"] * 9000)])
    server.store.replaced["read"] = lambda _: content
    wire = connect(server).log_in()
    assert wire.ask(b"TOP 1 2").startswith(b"+OK")
    assert len(wire.lines()) == 4
    assert content.read == 3


def test_a_large_message_that_breaks_in_the_middle_ends_without_its_final_dot(
    server: Pop3, connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(server, 1)
    content = Counted([b"x" * 99 + b"\r\n"] * 9000, StoreUnavailable("I/O error"))
    server.store.replaced["read"] = lambda _: content
    wire = connect(server).log_in()
    wire.ask(b"RETR 1")
    rest = wire.rest()
    assert not rest.endswith(b".\r\n")
    assert b"-ERR" not in rest
    assert server.sessions_over.acquire(timeout=WAIT)
    assert "retrieval_broke" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["read", "blocks"])
def test_a_message_that_can_t_be_read_is_told_and_the_session_goes_on(
    server: Pop3, connect: Connect, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(server, 1)

    def read(_: object) -> Counted:
        if where == "read":
            raise StoreUnavailable("damaged")
        return Counted([b"A: b\r\n"], StoreUnavailable("damaged"))

    server.store.replaced["read"] = read
    wire = connect(server).log_in()
    assert wire.ask(b"RETR 1").startswith(b"-ERR [SYS/TEMP]")
    assert wire.ask(b"TOP 1 0").startswith(b"-ERR [SYS/TEMP]")
    assert wire.ask(b"NOOP").startswith(b"+OK")
    assert "message_unreadable" in capsys.readouterr().err


def test_a_message_that_is_gone_is_no_such_message(server: Pop3, connect: Connect) -> None:
    fill(server, 1)
    server.store.replaced["read"] = lambda _: None
    assert connect(server).log_in().ask(b"RETR 1") == b"-ERR No such message\r\n"


@pytest.mark.parametrize("command", ["LIST 9", "UIDL 9", "RETR 9", "TOP 9 1", "DELE 9", "RETR 0", "DELE 4294967297"])
def test_lesson_10_there_is_no_such_message(server: Pop3, connect: Connect, command: str) -> None:
    fill(server, 1)
    assert connect(server).log_in().ask(command.encode()) == b"-ERR No such message\r\n"


def test_a_store_that_can_t_delete_deletes_nothing_and_says_so(
    server: Pop3, connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(server, 2)

    def delete(_: object) -> None:
        raise StorageFull("no room")

    server.store.replaced["delete"] = delete
    wire = connect(server).log_in()
    wire.ask(b"DELE 1")
    assert wire.ask(b"QUIT").startswith(b"-ERR [SYS/TEMP]")
    assert wire.rest() == b""
    assert len(server.mailbox()) == 2
    assert "deletion_failed" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["listing", "password_hash"])
def test_a_store_that_can_t_be_read_defers_the_login_and_leaves_the_maildrop_free(
    server: Pop3, connect: Connect, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise StoreUnavailable("locked")

    server.store.replaced[method] = fail
    wire = connect(server)
    wire.ask(f"USER {ALICE}".encode())
    assert wire.ask(f"PASS {PASSWORD}".encode()).startswith(b"-ERR [SYS/TEMP]")
    server.store.replaced.clear()
    wire.log_in()
    assert "unavailable" in capsys.readouterr().err


def test_a_fault_while_a_maildrop_is_opened_leaves_it_free(
    server: Pop3, connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("internal detail")

    server.store.replaced["listing"] = fail
    wire = connect(server)
    wire.ask(f"USER {ALICE}".encode())
    assert wire.ask(f"PASS {PASSWORD}".encode()).startswith(b"-ERR [SYS/TEMP]")
    assert server.sessions_over.acquire(timeout=WAIT)
    assert "session_failed" in capsys.readouterr().err
    server.store.replaced.clear()
    connect(server).log_in()


@pytest.mark.parametrize("sender", ["ø" + "(" * 4000 + ")" * 4000, "ø:" * 4000])
def test_no_header_section_of_a_stranger_keeps_a_maildrop_from_being_read(
    server: Pop3, connect: Connect, sender: str
) -> None:
    server.deliver("Q1", f"From: {sender}\r\n\r\nHello.\r\n".encode(), SMTPUTF8="")
    wire = connect(server).log_in()
    wire.ask(b"RETR 1")
    assert wire.lines()[-1] == b"Hello.\r\n"


def test_an_idle_session_times_out_and_deletes_nothing(serve: Serve, connect: Connect) -> None:
    server = serve(pop3_timeout=Duration(0.2))
    fill(server, 1)
    wire = connect(server).log_in()
    wire.ask(b"DELE 1")
    assert wire.line().startswith(b"-ERR [SYS/TEMP] Timeout")
    assert wire.rest() == b""
    assert len(server.mailbox()) == 1


def test_a_client_that_stops_reading_loses_its_session_and_its_lock(
    serve: Serve, connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(pop3_timeout=Duration(0.3))
    fill(server, 1)
    content = BytesContent(b"x" * 30_000_000)
    server.store.replaced["read"] = lambda _: content
    wire = connect(server)
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wire.log_in()
    wire.send(b"RETR 1\r\n")
    assert server.sessions_over.acquire(timeout=WAIT)
    assert server.context.maildrops.acquire(ALICE)


def test_a_stop_tells_idle_sessions_and_deletes_nothing(server: Pop3, connect: Connect) -> None:
    fill(server, 1)
    wire = connect(server).log_in()
    wire.ask(b"DELE 1")
    server.gate.drain(reply.SHUTTING_DOWN)
    assert wire.line().startswith(b"-ERR [SYS/TEMP] Server is shutting down")
    assert server.sessions_over.acquire(timeout=WAIT)
    assert len(server.mailbox()) == 1


def test_too_many_errors_end_the_session(serve: Serve, connect: Connect) -> None:
    wire = connect(serve(errors=3))
    answers = [wire.ask(b"WHAT") for _ in range(3)]
    assert all(answer.startswith(b"-ERR") for answer in answers)
    assert wire.line().startswith(b"-ERR Too many errors")
    assert wire.rest() == b""


def test_lesson_11_http_ends_the_session(server: Pop3, connect: Connect) -> None:
    wire = connect(server)
    assert b"web server" in wire.ask(b"GET / HTTP/1.1")
    assert wire.rest() == b""


@pytest.mark.parametrize("junk", [b"", b":", b"\0\0", b"USER \xff\xfe", b"RETR 1e3", b"LIST -1", b"TOP 1", b"x" * 9000])
def test_lesson_10_odd_lines_harm_nobody(server: Pop3, connect: Connect, junk: bytes) -> None:
    wire = connect(server)
    assert wire.ask(junk).startswith(b"-ERR")
    wire.log_in()
    assert wire.ask(junk).startswith(b"-ERR")
    assert wire.ask(b"NOOP").startswith(b"+OK")


def test_a_fault_of_ours_costs_one_session_and_tells_nothing(
    server: Pop3, connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("internal detail")

    fill(server, 1)
    server.store.replaced["read"] = fail
    wire = connect(server).log_in()
    answer = wire.ask(b"RETR 1")
    assert answer.startswith(b"-ERR [SYS/TEMP]")
    assert b"detail" not in answer
    assert wire.rest() == b""
    assert server.sessions_over.acquire(timeout=WAIT)
    assert "session_failed" in capsys.readouterr().err
    server.poplib().quit()


def test_a_fault_in_the_middle_of_a_message_says_nothing_that_could_be_part_of_it(
    server: Pop3, connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(server, 1)
    content = Counted([b"x" * 99 + b"\r\n"] * 9000, ZeroDivisionError())
    server.store.replaced["read"] = lambda _: content
    wire = connect(server).log_in()
    wire.ask(b"RETR 1")
    assert b"-ERR" not in wire.rest()
    assert server.sessions_over.acquire(timeout=WAIT)
    assert "session_failed" in capsys.readouterr().err


def test_the_session_s_end_is_one_line_of_the_log(server: Pop3, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[dict[str, Any]] = []

    class Log:
        def info(self, event: str, **fields: Any) -> None:
            lines.append({"event": event, **fields})

    monkeypatch.setattr("mailserv.pop3.session._log", Log())
    fill(server, 2)
    client = server.poplib()
    client.retr(1)
    client.dele(1)
    client.quit()
    assert server.sessions_over.acquire(timeout=WAIT)
    (line,) = lines
    assert line["octets"] > 150
    assert line["seconds"] >= 0
    wanted = {"event": "pop3_session", "ip": "127.0.0.1", "login": ALICE, "retrieved": 1, "deleted": 1}
    assert wanted.items() <= line.items()
    assert line["reason"] == "quit"


def test_who_gets_no_session_is_told_in_pop3_s_words() -> None:
    assert refusal(reply.TOO_MANY_SESSIONS) == b"-ERR [SYS/TEMP] Too many sessions; try again later\r\n"


def test_a_burst_of_listings_is_sent_as_it_is_made(server: Pop3, connect: Connect) -> None:
    fill(server, 120)
    wire = connect(server).log_in()
    wire.send(b"UIDL\r\n" * 100)
    for _ in range(100):
        assert wire.line().startswith(b"+OK")
        assert len(wire.lines()) == 120
