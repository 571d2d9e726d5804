"""mpop, fetchmail, getmail, neomutt, curl and Python's poplib fetch from a running server."""

from __future__ import annotations

import poplib
import shlex
import ssl
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fetchers import FETCHERS, Fetcher, FetchFailed, Fetching, Way, every_fetcher, every_program
from interop_kit import SECONDS, Account, Certificates, Mailserv, mailserv, run
from mail_samples import PLAIN, SAMPLES

pytestmark = pytest.mark.interop


@dataclass(frozen=True, slots=True)
class Thousands:
    """A maildrop of a thousand messages for each program."""

    server: Mailserv
    accounts: dict[str, Account]


@pytest.fixture(scope="module")
def thousands(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Thousands]:
    """Takes passwords without TLS, too: it is on this machine."""
    folder = tmp_path_factory.mktemp("thousands")
    with mailserv(folder, certificates, plaintext_auth="loopback") as server:
        accounts = {program: server.add_account(program) for program in FETCHERS}
        small = [sample for sample in SAMPLES.values() if len(sample) < 4096]
        contents = (b"X-Number: %d\r\n" % number + small[number % len(small)] for number in range(1000))
        server.deliver_to_each(list(accounts.values()), *contents)
        yield Thousands(server, accounts)


def lines(mail: bytes) -> bytes:
    """Without the difference between CRLF and LF: a program that puts mail on a disk chooses."""
    return mail.replace(b"\r\n", b"\n")


def subjects(mail: list[bytes]) -> list[bytes]:
    return sorted(message.partition(b"\nSubject: ")[2].split(b"\n", 1)[0].strip() for message in mail)


@every_fetcher
def test_every_octet_is_fetched_and_the_mailbox_is_empty(
    server: Mailserv, tmp_path: Path, fetch: Fetcher, way: Way
) -> None:
    alice = server.add_account()
    server.deliver(alice, *SAMPLES.values())
    there = sorted(map(lines, server.mailbox(alice)))
    fetched = fetch(Fetching(server, tmp_path, alice, way))
    assert sorted(map(lines, fetched)) == there
    assert server.mailbox(alice) == []


@every_fetcher
def test_mail_left_on_the_server_is_fetched_once(server: Mailserv, tmp_path: Path, fetch: Fetcher, way: Way) -> None:
    alice = server.add_account()
    keeping = Fetching(server, tmp_path, alice, way, keep=True)
    server.deliver(alice, SAMPLES["plain"], SAMPLES["dot_lines"])
    assert subjects(fetch(keeping)) == [b"dot_lines", b"plain"]
    assert fetch(keeping) == []
    server.deliver(alice, SAMPLES["eight_bit"])
    assert subjects(fetch(keeping)) == [b"eight_bit"]
    assert fetch(keeping) == []
    assert len(server.mailbox(alice)) == 3


@every_fetcher
def test_a_wrong_password_fetches_nothing(server: Mailserv, tmp_path: Path, fetch: Fetcher, way: Way) -> None:
    alice = server.add_account()
    server.deliver(alice, PLAIN)
    with pytest.raises(FetchFailed):
        fetch(Fetching(server, tmp_path, Account(alice.address, "wrong"), way))
    assert len(server.mailbox(alice)) == 1
    assert server.log.wait_for(f"event=auth_failed .*{alice.address}")


@every_fetcher
def test_an_empty_mailbox_is_no_failure(server: Mailserv, tmp_path: Path, fetch: Fetcher, way: Way) -> None:
    assert fetch(Fetching(server, tmp_path, server.add_account(), way)) == []


@every_program
def test_a_thousand_messages_are_left_over_two_runs_with_tls_and_then_deleted_without(
    thousands: Thousands, tmp_path: Path, program: str
) -> None:
    server, alice = thousands.server, thousands.accounts[program]
    fetch, (way, *_) = FETCHERS[program]
    laptop, desktop = tmp_path / "laptop", tmp_path / "desktop"
    laptop.mkdir()
    desktop.mkdir()
    there = sorted(map(lines, server.mailbox(alice)))
    assert len(set(there)) == 1000
    keeping = Fetching(server, laptop, alice, way, keep=True)
    assert sorted(map(lines, fetch(keeping))) == there
    server.deliver(alice, PLAIN)
    assert subjects(fetch(keeping)) == [b"plain"]
    there = sorted(map(lines, server.mailbox(alice)))
    assert sorted(map(lines, fetch(Fetching(server, desktop, alice, "plain")))) == there
    assert server.mailbox(alice) == []


@pytest.mark.needs("curl")
def test_the_page_s_curl_commands_do_what_it_says(server: Mailserv, tmp_path: Path) -> None:
    alice = server.add_account()
    server.deliver(alice, SAMPLES["dot_lines"], SAMPLES["plain"])
    mailbox = server.mailbox(alice)
    fetching = Fetching(server, tmp_path, alice)
    trust = ["--silent", "--show-error", "--cacert", str(server.certificates.authority)]
    commands = [shlex.split(line) for line in fetching.settings("curl", {}).splitlines()]
    listed, uids, first, top, _, capabilities = [run(*command, *trust, home=tmp_path).out for command in commands]
    assert listed == b"".join(b"%d %d\r\n" % (number, len(mail)) for number, mail in enumerate(mailbox, 1))
    assert [line.split()[0] for line in uids.splitlines()] == [b"1", b"2"]
    assert [first, top] == [mailbox[0], mailbox[0]]
    assert {b"TOP", b"UIDL", b"PIPELINING"} <= set(capabilities.split())
    assert server.mailbox(alice) == mailbox[1:]


def test_the_page_s_python_program_prints_and_deletes(server: Mailserv, tmp_path: Path) -> None:
    alice = server.add_account()
    server.deliver(alice, SAMPLES["dot_lines"], SAMPLES["plain"])
    mailbox = server.mailbox(alice)
    trust = {"create_default_context()": f"create_default_context(cafile={str(server.certificates.authority)!r})"}
    program = Fetching(server, tmp_path, alice).settings("python", trust)
    assert run(sys.executable, "-c", program, home=tmp_path).out == b"".join(map(lines, mailbox))
    assert server.mailbox(alice) == []


@pytest.mark.needs("curl")
def test_a_login_without_tls_is_refused_to_curl(server: Mailserv, tmp_path: Path) -> None:
    alice = server.add_account()
    url = f"pop3://127.0.0.1:{server.ports['pop3']}/"
    run("curl", "-sS", "--user", f"{alice.address}:{alice.password}", url, home=tmp_path, expect=67)


def test_a_second_session_of_a_maildrop_is_refused_to_poplib(server: Mailserv) -> None:
    alice = server.add_account()
    with server.maildrop(alice), pytest.raises(poplib.error_proto, match="IN-USE"), server.maildrop(alice):
        pass


def test_poplib_that_breaks_off_deletes_nothing(server: Mailserv) -> None:
    alice = server.add_account()
    server.deliver(alice, PLAIN)
    context = ssl.create_default_context(cafile=server.certificates.authority)
    client = poplib.POP3_SSL("127.0.0.1", server.ports["pop3s"], timeout=SECONDS, context=context)
    client.user(alice.address)
    client.pass_(alice.password)
    client.dele(1)
    client.close()
    server.log.wait_for(f"event=pop3_session .*{alice.address}")
    assert len(server.mailbox(alice)) == 1
