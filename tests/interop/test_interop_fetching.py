"""mpop, fetchmail, getmail, curl and Python's poplib fetch from a running server."""

from __future__ import annotations

import poplib
import ssl
from pathlib import Path
from typing import Literal

import pytest
from fetchers import Fetcher, FetchFailed, Fetching, every_fetcher
from interop_kit import SECONDS, Account, Mailserv, run
from mail_samples import PLAIN, SAMPLES

pytestmark = pytest.mark.interop

Way = Literal["stls", "pop3s"]
UNSTUFFABLE = [sample for name, sample in SAMPLES.items() if name != "five_megabytes"]


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


@every_fetcher
def test_a_hundred_messages_are_fetched_in_one_session(
    server: Mailserv, tmp_path: Path, fetch: Fetcher, way: Way
) -> None:
    alice = server.add_account()
    server.deliver(alice, *(f"Subject: {number:03}\r\n\r\n.{number}\r\n".encode() for number in range(100)))
    fetched = fetch(Fetching(server, tmp_path, alice, way, keep=True))
    assert subjects(fetched) == [f"{number:03}".encode() for number in range(100)]


@pytest.mark.needs("curl")
def test_curl_lists_and_looks_into_a_mailbox(server: Mailserv, tmp_path: Path) -> None:
    alice = server.add_account()
    server.deliver(alice, SAMPLES["plain"], SAMPLES["dot_lines"])
    sizes = [len(mail) for mail in server.mailbox(alice)]
    url = f"pop3s://127.0.0.1:{server.ports['pop3s']}/"
    login = ["--cacert", str(server.certificates.authority), "--user", f"{alice.address}:{alice.password}"]
    listed = run("curl", "-sS", *login, url, home=tmp_path).out
    assert listed == f"1 {sizes[0]}\r\n2 {sizes[1]}\r\n".encode()
    top = run("curl", "-sS", *login, url, "--request", "TOP 2 3", home=tmp_path).out
    assert top.endswith(b"Subject: dot_lines\r\n\r\n.\r\n..\r\n...\r\n")
    capabilities = run("curl", "-sS", *login, url, "--request", "CAPA", home=tmp_path).out.split()
    assert {b"TOP", b"UIDL", b"PIPELINING"} <= set(capabilities)


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
