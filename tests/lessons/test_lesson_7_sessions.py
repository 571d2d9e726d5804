"""Lesson 7: who holds on to a session, and what happens when the system has no more to give."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from talking import PATIENCE, Talk, auth_plain, greeted

from mailserv.mail.value import replace
from mailserv.settings import Duration, Limits, Service
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import MailServer, mail_server

ALICE = "alice@example.org"
CONTENT = b"Subject: session\r\n\r\nHello.\r\n"
SHORT = Duration(0.3)
TOO_LONG = 5.0  # seconds: whoever drips meets the deadline long before


def limits(**more: object) -> Limits:
    return Limits(**{"sessions_per_ip": 0, "connections_per_minute": 0, **more})  # type: ignore[arg-type]


def served_again(server: MailServer) -> Talk:
    """A session that has said its last word in the log gives its place back a moment later."""
    for _ in range(1000):
        talk = Talk.to(server.address("smtp"))
        if talk.hear().startswith("220"):
            return talk
        talk.close()
    raise AssertionError("no place is given back")


# ------------------------------------------------------------------ the session limit


def test_lesson_7_at_the_limit_the_oldest_idle_stranger_makes_room_and_an_honest_client_is_served() -> None:
    clock = FakeClock()
    with mail_server(limits=limits(sessions=3), clock=clock) as server:
        with (
            greeted(server.address("submission")) as known,
            greeted(server.address("smtp")) as sending,
            greeted(server.address("smtp")) as idle,
        ):
            assert known.say(auth_plain(ALICE, "secret")).startswith("235")
            assert sending.say("MAIL FROM:<x@example.net>").startswith("250")
            clock.advance(6)  # younger sessions keep their place: it may be a burst of honest ones
            with greeted(server.address("smtp")) as honest:
                assert idle.hear().startswith("421 4.7.0")
                assert idle.ended()
                assert honest.send_mail("y@example.net", [ALICE], CONTENT).startswith("250")
                assert known.say("NOOP").startswith("250")
                assert sending.say(f"RCPT TO:<{ALICE}>").startswith("250")
        assert len(server.mailbox(ALICE)) == 1


def test_lesson_7_who_says_mail_and_then_waits_holds_no_place_for_ever() -> None:
    clock = FakeClock()
    with mail_server(limits=limits(sessions=2), clock=clock) as server:
        with greeted(server.address("smtp")) as holding, greeted(server.address("smtp")) as sending:
            assert holding.say("MAIL FROM:<x@example.net>").startswith("250")
            sending.say_all("MAIL FROM:<x@example.net>", f"RCPT TO:<{ALICE}>", "DATA")
            for _ in range(2):
                clock.advance(61)
                assert holding.say("NOOP").startswith("250")
            sending.send(CONTENT)
            with greeted(server.address("smtp")) as honest:
                assert holding.hear().startswith("421 4.7.0")
                assert holding.ended()
                assert honest.send_mail("y@example.net", [ALICE], CONTENT).startswith("250")
            assert sending.say(".").startswith("250")
        assert len(server.mailbox(ALICE)) == 2


def test_lesson_7_three_hundred_idle_clients_starve_nobody() -> None:
    clock = FakeClock()
    with mail_server(limits=limits(sessions=50), clock=clock) as server:
        crowd = []
        for _ in range(300):
            crowd.append(Talk.to(server.address("smtp")))
            assert crowd[-1].hear()[:3] in {"220", "421"}
            clock.advance(1)
        with greeted(server.address("smtp")) as honest:
            assert honest.send_mail("y@example.net", [ALICE], CONTENT).startswith("250")
        for each in crowd:
            each.close()


def test_lesson_7_when_nobody_may_be_dropped_the_new_one_hears_421_and_costs_no_thread() -> None:
    with mail_server(limits=limits(sessions=2)) as server:
        with greeted(server.address("smtp")), greeted(server.address("smtp")):
            before = threading.active_count()
            with Talk.to(server.address("smtp")) as refused:
                assert refused.hear().startswith("421 4.7.0")
                assert refused.ended()
            assert threading.active_count() == before
        server.wait_for_log("session", count=2)
        served_again(server).close()


def test_lesson_7_one_address_has_so_many_sessions_and_so_many_a_minute() -> None:
    clock = FakeClock()
    with mail_server(limits=Limits(sessions_per_ip=2, connections_per_minute=3), clock=clock) as server:
        with greeted(server.address("smtp")), greeted(server.address("smtp")), Talk.to(server.address("smtp")) as third:
            assert third.hear().startswith("421")
        server.wait_for_log("session", count=2)
        served_again(server).close()
        server.wait_for_log("session", count=3)
        with Talk.to(server.address("smtp")) as fast:
            assert fast.hear().startswith("421")
        clock.advance(70)
        with greeted(server.address("smtp")):
            pass


# ------------------------------------------------------------------ deadlines are absolute


def test_lesson_7_a_command_that_drips_in_meets_its_deadline() -> None:
    with mail_server(limits=limits(command_timeout=SHORT)) as server, greeted(server.address("smtp")) as talk:
        assert talk.drip(b"N") < TOO_LONG
        assert talk.hear().startswith("421 4.4.2")
        assert talk.ended()


def test_lesson_7_a_session_that_is_busy_with_nothing_meets_its_deadline() -> None:
    with mail_server(limits=limits(session_timeout=SHORT)) as server, greeted(server.address("smtp")) as talk:
        replies = 0
        while talk.say("NOOP").startswith("250"):
            replies += 1
        assert talk.ended()
        assert server.wait_for_log("session")[0]["seconds"] < TOO_LONG


@pytest.mark.parametrize("command", [b"DATA\r\n", b"BDAT 100000\r\n", b"BDAT 100000 LAST\r\n"])
def test_lesson_7_content_slower_than_the_least_rate_meets_its_deadline(command: bytes) -> None:
    with mail_server(limits=limits(data_timeout=SHORT)) as server, greeted(server.address("smtp")) as talk:
        talk.say_all("MAIL FROM:<x@example.net>", f"RCPT TO:<{ALICE}>")
        talk.send(command)
        assert talk.drip(b"x") < TOO_LONG
        assert talk.hear().startswith("354" if command.startswith(b"DATA") else "421 4.4.2")
        assert talk.hear().startswith("421 4.4.2") or command.startswith(b"BDAT")
        assert talk.ended()
        assert server.mailbox(ALICE) == []


def test_lesson_7_octets_that_are_thrown_away_have_no_more_time_than_a_command() -> None:
    with mail_server(limits=limits(command_timeout=SHORT)) as server, greeted(server.address("smtp")) as talk:
        talk.send(b"BDAT 100000\r\n")  # without MAIL
        assert talk.drip(b"x") < TOO_LONG
        assert talk.hear().startswith("421 4.4.2")
        assert talk.ended()


def test_lesson_7_an_answer_to_auth_that_drips_in_meets_its_deadline() -> None:
    with mail_server(limits=limits(command_timeout=SHORT)) as server, greeted(server.address("submission")) as talk:
        assert talk.say("AUTH LOGIN").startswith("334")
        assert talk.drip(b"x") < TOO_LONG
        assert talk.hear().startswith("421 4.4.2")


def test_lesson_7_a_pop3_command_that_drips_in_meets_its_deadline() -> None:
    with mail_server(limits=limits(pop3_timeout=SHORT)) as server, Talk.to(server.address("pop3")) as talk:
        talk.line()
        assert talk.drip(b"U") < TOO_LONG
        assert talk.line().startswith("-ERR [SYS/TEMP] Timeout")
        assert talk.ended()


def test_lesson_7_a_client_that_reads_nothing_meets_its_deadline() -> None:
    with mail_server(limits=limits(command_timeout=SHORT)) as server, greeted(server.address("smtp")) as talk:
        talk.sock.settimeout(0.05)
        with pytest.raises(OSError):  # noqa: PT012  # reset, or broken pipe, whichever comes
            while True:
                try:
                    talk.send(b"HELP\r\n" * 10_000)  # its replies fill every buffer on the way
                except TimeoutError:
                    if server.log.matching("session"):
                        raise OSError("the server has given up") from None
        server.wait_for_log("session")


def test_lesson_7_under_stress_a_stranger_has_ten_seconds_for_a_command() -> None:
    clock = FakeClock()
    with mail_server(limits=limits(sessions=5), clock=clock) as server:
        held = [greeted(server.address("smtp")) for _ in range(4)]  # 80 % of the places
        with greeted(server.address("smtp")) as talk:
            began = clock.monotonic()
            talk.drip(b"N", meanwhile=lambda: clock.advance(1))  # each octet wakes the reader, which looks at the clock
            assert talk.hear().startswith("421 4.4.2")
            assert clock.monotonic() - began < 60
        for each in held:
            each.close()


# ------------------------------------------------------------------ what the system cannot give


@contextmanager
def no_more_files() -> Iterator[None]:
    """The next file descriptor is the one too many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as probe:
        highest = probe.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("service", ["smtp", "pop3"])
def test_lesson_7_a_server_without_file_descriptors_goes_on_when_there_are_some(service: Service) -> None:
    with mail_server() as server, socket.socket() as sock:
        sock.settimeout(PATIENCE)
        with no_more_files():
            sock.connect(server.address(service))
            server.wait_for_log("accept_failed", level="warning")
        assert Talk(sock).line()[:3] in {"220", "+OK"}  # it waited in the kernel's queue
        server.send("x@example.net", [ALICE], CONTENT)
        assert len(server.mailbox(ALICE)) == 1


@contextmanager
def no_more_threads() -> Iterator[None]:
    """A stack that no address space holds: starting a thread fails as it does when the system has none left."""
    before = threading.stack_size(1 << 46)
    try:
        yield
    finally:
        threading.stack_size(before)


@pytest.mark.parametrize("service", ["smtp", "pop3"])
def test_lesson_7_a_server_that_can_start_no_thread_says_421_and_goes_on(service: Service) -> None:
    with mail_server() as server:
        with no_more_threads():
            for _ in range(3):
                with Talk.to(server.address(service)) as talk:
                    assert talk.line().startswith(("421 4.3.2", "-ERR [SYS/TEMP]"))
                    assert talk.ended()
        lines = server.wait_for_log("session_refused", count=3)
        assert all("thread" in line["error"] for line in lines)
        with Talk.to(server.address(service)) as talk:
            assert talk.line()[:3] in {"220", "+OK"}


def test_lesson_7_too_few_file_descriptors_are_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "mailserv.toml").write_text(
        'hostname = "mail.example.org"\ndata_dir = "data"\nlocal_domains = ["example.org"]\npostmaster = "a@example.org"\n'
        '[[listen]]\nservice = "smtp"\naddress = "127.0.0.1:0"\n'
    )
    poor = "import resource, runpy; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)); "
    poor += "runpy.run_module('mailserv', run_name='__main__')"
    command = [sys.executable, "-c", poor, "serve", "--config", "mailserv.toml"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            printed = [process.stderr.readline() for _ in range(2)]
        finally:
            process.kill()
    assert "event=few_file_descriptors" in printed[0]
    assert "LimitNOFILE" in printed[0]
    assert printed[1].startswith("ready")


def test_lesson_7_the_limit_of_file_descriptors_is_raised_as_far_as_may_be() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 300), hard))
    try:
        with mail_server() as server:
            settings = server.server.settings
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > settings.limits.sessions + 200
            more = replace(settings.limits, sessions=settings.limits.sessions + 100)
            server.server.reload(replace(settings, limits=more))
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > more.sessions + 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
