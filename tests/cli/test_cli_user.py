"""`mailserv user`."""

from __future__ import annotations

import json
import os
import pty
import sys
from pathlib import Path

import pytest
from cli_kit import Command

from mailserv.clock import SystemClock
from mailserv.store.passwords import verify_password
from mailserv.store.sqlite import open_store


def password_is(mailserv: Command, address: str, password: str) -> bool:
    store = open_store(mailserv.data_dir, SystemClock(), exclusive=False)
    stored = store.password_hash(address)
    store.close()
    return verify_password(stored, password)


def add(mailserv: Command, address: str = "alice@example.org") -> None:
    assert mailserv("user", "add", address, "--password-stdin", stdin="wonderland\n").code == 0


def test_an_account_is_added_with_the_password_of_standard_input(mailserv: Command) -> None:
    ran = mailserv("user", "add", "Alice@Example.ORG", "--password-stdin", stdin="wonderland\r\n")
    assert (ran.code, ran.out) == (0, "added alice@example.org\n")
    assert password_is(mailserv, "alice@example.org", "wonderland")


def test_an_account_is_added_with_the_password_of_a_file(mailserv: Command, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("pass word é")
    assert mailserv("user", "add", "bob@example.org", "--password-file", str(tmp_path / "password")).code == 0
    assert password_is(mailserv, "bob@example.org", "pass word é")


def test_an_account_is_there_once(mailserv: Command) -> None:
    add(mailserv)
    ran = mailserv("user", "add", "ALICE@example.org", "--password-stdin", stdin="x")
    assert ran.code == 1
    assert "is there already" in ran.err


def test_an_address_of_another_domain_is_refused(mailserv: Command) -> None:
    ran = mailserv("user", "add", "alice@example.com", "--password-stdin", stdin="x")
    assert (ran.code, ran.err) == (1, "Error: example.com is not ours: local_domains are example.org\n")


def test_a_name_that_needs_quotes_is_refused_with_the_reason(mailserv: Command) -> None:
    ran = mailserv("user", "add", '"a b"@example.org', "--password-stdin", stdin="x")
    assert ran.code == 1
    assert ran.err == 'Error: "a b"@example.org: a name that needs quotes cannot log in; POP3 has no place for them\n'


def test_without_local_domains_there_can_be_no_account(mailserv: Command) -> None:
    mailserv.config.write_text('hostname = "h.example"\nlisten = [{ service = "smtp", address = "127.0.0.1:0" }]\n')
    assert "local_domains is empty" in mailserv("user", "add", "a@h.example", "--password-stdin", stdin="x").err


def test_what_is_no_address_is_wrong_usage(mailserv: Command) -> None:
    ran = mailserv("user", "add", "alice", "--password-stdin", stdin="x")
    assert ran.code == 2
    assert "'alice' is no address" in ran.err


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        ("two\nlines\n", "not one line"),
        ("x" * 1025, "not one line"),
        ("a\0b", "not one line"),
    ],
)
def test_a_password_that_is_none_is_refused(mailserv: Command, password: str, reason: str) -> None:
    ran = mailserv("user", "add", "alice@example.org", "--password-stdin", stdin=password)
    assert ran.code == 1
    assert reason in ran.err
    assert not mailserv.data_dir.exists()


def test_a_password_file_that_cannot_be_read_is_told(mailserv: Command, tmp_path: Path) -> None:
    ran = mailserv("user", "add", "alice@example.org", "--password-file", str(tmp_path / "none"))
    assert (ran.code, ran.err) == (1, f"Error: {tmp_path}/none: No such file or directory\n")
    (tmp_path / "binary").write_bytes(b"\xff")
    assert "not UTF-8" in mailserv("user", "add", "a@example.org", "--password-file", str(tmp_path / "binary")).err


def test_the_password_has_one_source(mailserv: Command) -> None:
    assert mailserv("user", "add", "a@example.org", "--password-stdin", "--password-file", "x").code == 2
    ran = mailserv("user", "add", "a@example.org")
    assert ran.code == 2
    assert "no terminal to ask" in ran.err


def test_a_password_can_be_changed(mailserv: Command) -> None:
    add(mailserv)
    ran = mailserv("user", "passwd", "alice@example.org", "--password-stdin", stdin="looking-glass\n")
    assert (ran.code, ran.out) == (0, "changed the password of alice@example.org\n")
    assert password_is(mailserv, "alice@example.org", "looking-glass")
    assert not password_is(mailserv, "alice@example.org", "wonderland")


def test_accounts_are_listed_for_people_and_for_programs(mailserv: Command) -> None:
    add(mailserv)
    add(mailserv, "bob@example.org")
    lines = mailserv("user", "list").out.splitlines()
    assert [line.split()[0] for line in lines] == ["ADDRESS", "alice@example.org", "bob@example.org"]
    entries = json.loads(mailserv("user", "list", "--json").out)
    assert [entry["address"] for entry in entries] == ["alice@example.org", "bob@example.org"]


def test_an_account_is_removed(mailserv: Command) -> None:
    add(mailserv)
    ran = mailserv("user", "remove", "alice@example.org")
    assert (ran.code, ran.out) == (0, "removed alice@example.org\n")
    assert json.loads(mailserv("user", "list", "--json").out) == []


@pytest.mark.parametrize("order", [("remove",), ("passwd", "--password-stdin")])
def test_an_account_that_is_not_there_is_told(mailserv: Command, order: tuple[str, ...]) -> None:
    add(mailserv)
    ran = mailserv("user", *order, "carol@example.org", stdin="x")
    assert (ran.code, ran.err) == (1, "Error: there is no account carol@example.org\n")


def verifier_of(mailserv: Command, address: str = "alice@example.org") -> str | None:
    store = open_store(mailserv.data_dir, SystemClock(), exclusive=False)
    found = store.verifier(address, "SCRAM-SHA-256")
    store.close()
    return found


def test_what_an_enabled_mechanism_wants_is_kept_of_each_password(mailserv: Command) -> None:
    mailserv.config.write_text(mailserv.config.read_text() + '[plugins]\nenabled = ["scram"]\n')
    add(mailserv)
    first = verifier_of(mailserv)
    assert first
    assert first.startswith("SCRAM-SHA-256$100000:")
    assert mailserv("user", "passwd", "alice@example.org", "--password-stdin", stdin="looking glass\n").code == 0
    second = verifier_of(mailserv)
    assert second
    assert second != first


def test_without_such_a_mechanism_nothing_is_kept(mailserv: Command) -> None:
    add(mailserv)
    assert verifier_of(mailserv) is None


def on_a_terminal(arguments: list[str], answers: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
    """Run the command on a terminal of its own; give each answer when its question has come."""
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover - the other process
        os.execv(sys.executable, [sys.executable, "-m", "mailserv", *arguments])
    seen = b""
    try:
        for question, answer in answers:
            while question not in seen:
                seen += os.read(terminal, 1024)
            os.write(terminal, answer)
            seen = b""
        while True:
            seen += os.read(terminal, 1024)
    except OSError:  # the terminal's other side is closed
        pass
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), seen


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_on_a_terminal_the_password_is_asked_for_twice_and_not_shown(mailserv: Command) -> None:
    code, seen = on_a_terminal(
        ["user", "add", "alice@example.org"], [(b"Password: ", b"wonderland\n"), (b"Again: ", b"wonderland\n")]
    )
    assert code == 0
    assert b"added alice@example.org" in seen
    assert b"wonderland" not in seen
    assert password_is(mailserv, "alice@example.org", "wonderland")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_on_a_terminal_removing_asks_first(mailserv: Command) -> None:
    add(mailserv)
    assert on_a_terminal(["user", "remove", "alice@example.org"], [(b"[y/N]", b"n\n")])[0] == 1
    assert len(json.loads(mailserv("user", "list", "--json").out)) == 1
    assert on_a_terminal(["user", "remove", "alice@example.org"], [(b"[y/N]", b"y\n")])[0] == 0
    assert on_a_terminal(["user", "remove", "alice@example.org", "--yes"], [])[0] == 1
