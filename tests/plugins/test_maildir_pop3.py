"""POP3 out of a Maildir: the same promises as out of the store, while others move, flag and remove its files."""

from __future__ import annotations

import os
import poplib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mailserv import hookimpl
from mailserv.mail.message import BytesContent, Content
from mailserv.settings import Limits
from mailserv.testing.server import WAIT_SECONDS, MailServer, mail_server
from mailserv_maildir.maildrop import MaildirDrop, unique_id

ALICE = "alice@example.org"
MAIL = b"Subject: one\nTo: alice\n\nHello.\n.a dot\n\xff last line without an end"
CRLF = MAIL.replace(b"\n", b"\r\n") + b"\r\n"


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    folder = tmp_path / "alice"
    for part in ("tmp", "new", "cur"):
        (folder / part).mkdir(parents=True)
    return folder


def serve(maildir: Path, **settings: Any) -> Any:
    chosen = {"path": f"{maildir.parent}/{{local_part}}", "domains": ["example.org"], **settings}
    return mail_server(
        plugins=["maildir"],
        services=("smtp", "pop3"),
        config={"plugin": {"maildir": chosen}},
        limits=Limits(sessions_per_ip=0, connections_per_minute=0),
    )


@pytest.fixture
def server(maildir: Path) -> Iterator[MailServer]:
    with serve(maildir) as running:
        yield running


def put(maildir: Path, name: str, content: bytes = MAIL) -> Path:
    path = maildir / name
    path.write_bytes(content)
    return path


_clients: list[poplib.POP3] = []


@pytest.fixture(autouse=True)
def close_clients() -> Iterator[None]:
    yield
    while _clients:
        _clients.pop().close()


def client(server: MailServer, name: str = ALICE) -> poplib.POP3:
    """Closed at the end of its test."""
    made = poplib.POP3(*server.address("pop3"), timeout=WAIT_SECONDS)
    _clients.append(made)
    made.user(name)
    made.pass_("secret")
    return made


def retrieved(made: poplib.POP3, number: int) -> bytes:
    return b"".join(line + b"\r\n" for line in made.retr(number)[1])


def uidl(made: poplib.POP3) -> list[str]:
    return [line.decode().split()[1] for line in made.uidl()[1]]


def test_hook_open_maildrop_what_came_by_smtp_is_fetched_and_deleted(server: MailServer, maildir: Path) -> None:
    server.send("bob@example.net", [ALICE], b"Subject: x\r\n\r\n.\r\nbody\r\n")
    server.wait_for_empty_queue()
    (file,) = (maildir / "new").iterdir()
    made = client(server)
    content = retrieved(made, 1)
    assert content.startswith(b"Return-Path: <bob@example.net>\r\n")
    assert content.endswith(b"Subject: x\r\n\r\n.\r\nbody\r\n")
    assert made.stat() == (1, len(content))
    assert file.name.endswith(f",W={len(content)}")
    assert made.top(1, 0)[1][-1] == b""
    made.dele(1)
    assert file.exists()
    assert made.quit().startswith(b"+OK")
    assert list((maildir / "new").iterdir()) == []
    assert server.mailbox(ALICE) == []


@pytest.mark.parametrize(
    "content",
    [
        MAIL,
        CRLF,
        b"",
        b"\n",
        b"x",
        b"a\r\nb\nc\r\n",
        b"bare \r in a line\n",
        b"ends in \r",
        b"Subject: large\n\n" + b"line\n" * 200_000,
        b"x" * (256 * 1024 - 1) + b"\r\nafter a border\n",
    ],
    ids=["lf", "crlf", "empty", "an empty line", "no end", "both", "cr", "cr at the end", "large", "border"],
)
def test_octets_are_those_that_retr_sends(server: MailServer, maildir: Path, content: bytes) -> None:
    put(maildir, "new/1.a.host", content)
    with server.connect("pop3") as sock, sock.makefile("rb") as lines:
        sock.sendall(f"USER {ALICE}\r\nPASS secret\r\nSTAT\r\nLIST 1\r\nRETR 1\r\n".encode())
        for _ in range(3):
            assert lines.readline().startswith(b"+OK")
        _, count, octets = lines.readline().split()
        assert lines.readline() == b"+OK 1 %s\r\n" % octets
        assert lines.readline() == b"+OK %s octets\r\n" % octets
        sent = b"".join(line.removeprefix(b".") for line in iter(lines.readline, b".\r\n"))
    assert (int(count), int(octets)) == (1, len(sent))
    expected = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert sent == (expected if expected.endswith(b"\r\n") or not expected else expected + b"\r\n")


def test_a_size_in_the_name_is_believed_and_the_file_not_read(maildir: Path) -> None:
    for number in range(100):
        put(maildir, f"new/{number}.a.host,S=60,W=70", b"")
    opened: list[str] = []

    class Counting(MaildirDrop):
        def _open(self, base: str) -> Any:
            opened.append(base)
            return super()._open(base)

    assert [message.size for message in Counting(maildir).messages] == [70] * 100
    assert opened == []
    put(maildir, "new/100.b.host", b"a\nb\n")
    assert Counting(maildir).messages[-1].size == 6
    assert opened == ["100.b.host"]
    put(maildir, "new/101.c.host", b"a\n")
    sizes = {"100.b.host": 6, "99.gone.host": 5}
    assert [message.size for message in Counting(maildir, sizes).messages][-2:] == [6, 3]
    assert opened == ["100.b.host", "101.c.host"]
    assert sizes == {"100.b.host": 6, "101.c.host": 3}


def test_unique_ids_are_the_names_and_survive_flags_and_restarts(maildir: Path) -> None:
    put(maildir, "new/2.b.host,W=70")
    put(maildir, "cur/1.a.host:2,S")
    put(maildir, "cur/3.c.host,S=64,W=70:2,")
    with serve(maildir) as server:
        assert uidl(client(server)) == ["1.a.host", "2.b.host", "3.c.host"]
    (maildir / "new/2.b.host,W=70").rename(maildir / "cur/2.b.host,S=64,W=70:2,RS")
    (maildir / "cur/1.a.host:2,S").rename(maildir / "cur/1.a.host:2,")
    with serve(maildir) as server:
        assert uidl(client(server)) == ["1.a.host", "2.b.host", "3.c.host"]


@pytest.mark.parametrize("base", ["1.a b.host", "1.ü.host", "1." + "x" * 100, "1.a.host\udcff"])
def test_a_name_that_pop3_cannot_say_becomes_a_digest(base: str) -> None:
    assert len(unique_id(base)) == 64
    assert unique_id(base) == unique_id(f"{base},S=1,W=2")
    assert unique_id(base) != unique_id(f"{base}x")


def test_new_mail_and_readers_beside_it_change_no_number(server: MailServer, maildir: Path) -> None:
    first, second = put(maildir, "new/1.a.host"), put(maildir, "new/2.b.host", b"Subject: two\n\n")
    made = client(server)
    put(maildir, "new/0.old.host", b"comes first by its name\n")
    first.rename(maildir / "cur/1.a.host:2,FS")
    assert retrieved(made, 1) == CRLF
    assert made.stat()[0] == 2
    second.unlink()
    with pytest.raises(poplib.error_proto, match="No such message"):
        made.retr(2)
    made.dele(1)
    made.dele(2)
    assert made.quit().startswith(b"+OK")
    assert [path.name for part in ("new", "cur") for path in (maildir / part).iterdir()] == ["0.old.host"]


def test_nothing_but_messages_is_ever_removed(server: MailServer, maildir: Path) -> None:
    own = put(maildir, "dovecot-uidlist", b"another program's file")
    file = put(maildir, "new/dovecot-uidlist")
    moved = put(maildir, "new/2.b.host")
    made = client(server)
    assert made.stat()[0] == 2
    made.dele(1)
    made.dele(2)
    file.unlink()
    moved.rename(maildir / "cur/2.b.host:2,T")
    assert made.quit().startswith(b"+OK")
    assert own.exists()
    assert list((maildir / "cur").iterdir()) == []


def test_lesson_10_a_lost_connection_deletes_nothing(server: MailServer, maildir: Path) -> None:
    file = put(maildir, "new/1.a.host")
    made = client(server)
    made.dele(1)
    made.close()
    assert server.wait_for_log("pop3_session", deleted=0)
    assert file.exists()


def test_one_session_at_a_time(server: MailServer) -> None:
    first = client(server)
    with pytest.raises(poplib.error_proto, match="IN-USE"):
        client(server)
    first.quit()
    client(server).quit()


def test_what_is_no_message_is_not_shown(server: MailServer, maildir: Path) -> None:
    put(maildir, "new/.hidden")
    put(maildir, "tmp/1.a.host")
    (maildir / "new/2.folder").mkdir()
    os.symlink("/etc/hostname", maildir / "new/3.link")
    put(maildir, "new/4.d.host")
    put(maildir, "cur/4.d.host:2,S")  # a reader is moving it
    made = client(server)
    assert uidl(made) == ["4.d.host"]
    made.quit()


def test_while_the_disk_is_away_nobody_gets_an_empty_maildrop(server: MailServer, maildir: Path) -> None:
    maildir.parent.rename(maildir.parent.with_name("away"))
    try:
        with pytest.raises(poplib.error_proto, match="SYS/TEMP"):
            client(server)
    finally:
        maildir.parent.with_name("away").rename(maildir.parent)
    client(server).quit()


def test_who_has_no_maildir_has_the_mailbox_of_the_account(server: MailServer, maildir: Path) -> None:
    server.add_account("carol@example.org")
    server.send("bob@example.net", ["carol@example.org"], b"Subject: in the store\r\n\r\n")
    made = client(server, "carol@example.org")
    assert b"Subject: in the store" in made.retr(1)[1]
    made.quit()


def test_a_file_that_cannot_be_removed_is_told(server: MailServer, maildir: Path) -> None:
    put(maildir, "new/1.a.host")
    made = client(server)
    made.dele(1)
    (maildir / "new/1.a.host").unlink()
    (maildir / "new/1.a.host").mkdir()
    with pytest.raises(poplib.error_proto, match="SYS/TEMP"):
        made.quit()
    assert server.wait_for_log("deletion_failed")


# a plugin that fails


class Message:
    def __init__(self, unique_id: str, size: int = 3) -> None:
        self.unique_id, self.size, self.is_utf8 = unique_id, size, False


class Breaking:
    """Content that ends in an error which must not be taken for the client's."""

    size = 500_000

    def blocks(self) -> Iterator[bytes]:
        yield b"x" * 300_000
        raise BrokenPipeError


class Drop:
    def __init__(self, messages: Iterable[Any]) -> None:
        self.messages = list(messages)

    def read(self, message: Any) -> Content | None:
        match message.unique_id:
            case "raises":
                raise ZeroDivisionError
            case "breaks":
                return Breaking()
            case _:
                return BytesContent(b"x\r\n")

    def delete(self, messages: object) -> None:
        raise ZeroDivisionError

    def close(self) -> None:
        raise ZeroDivisionError


def drops(messages: Iterable[Any]) -> type:
    class Drops:
        def __init__(self, settings: None, services: object) -> None:
            pass

        @hookimpl
        def open_maildrop(self, address: str) -> Any:
            return Drop(messages)

    return Drops


def test_what_fails_of_a_plugin_s_maildrop_costs_one_command() -> None:
    with mail_server(plugins=[drops([Message("good"), Message("raises")])], services=("pop3",)) as server:
        made = client(server)
        assert retrieved(made, 1) == b"x\r\n"
        with pytest.raises(poplib.error_proto, match="SYS/TEMP"):
            made.retr(2)
        made.dele(1)
        with pytest.raises(poplib.error_proto, match="SYS/TEMP"):
            made.quit()
        assert len(server.wait_for_log("plugin_failed", 3, hook="open_maildrop")) == 3  # read, delete, close


def test_what_fails_in_the_middle_of_a_message_ends_the_session() -> None:
    with mail_server(plugins=[drops([Message("breaks", 500_000)])], services=("pop3",)) as server:
        with pytest.raises(poplib.error_proto):
            client(server).retr(1)
        assert server.wait_for_log("retrieval_broke", login=ALICE)


@pytest.mark.parametrize(
    "messages",
    [
        [Message("twice"), Message("twice")],
        [Message("")],
        [Message("a b")],
        [Message("x" * 71)],
        [Message("x", -1)],
        ["no message"],
    ],
    ids=["twice", "empty", "space", "long", "negative", "text"],
)
def test_a_maildrop_that_is_none_is_a_temporary_failure(messages: list[Any]) -> None:
    with mail_server(plugins=[drops(messages)], services=("pop3",)) as server:
        with pytest.raises(poplib.error_proto, match="SYS/TEMP"):
            client(server)
        assert server.wait_for_log("plugin_lied", hook="open_maildrop")
