"""mailserv_maildir: what stands in the folders, what an address may do to a path, and what a fault costs."""

from __future__ import annotations

import errno
import mailbox
import os
import smtplib
from pathlib import Path
from typing import Any

import pytest
from delivering import CONTENT, Blocks, make_delivery, make_transport, outcomes, tried_before
from hypothesis import given
from hypothesis import strategies as st

from mailserv.errors import ConfigError
from mailserv.mail.address import Address
from mailserv.mail.delivery import Transport
from mailserv.mail.message import BLOCK
from mailserv.mail.outcome import Deferred, Delivered, Failed
from mailserv.settings import Plugins
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import mail_server
from mailserv_maildir.template import Template, encode


def maildirs(folder: Path, clock: FakeClock | None = None, **settings: Any) -> Transport:
    return make_transport("maildir", {"path": f"{folder}/{{domain}}/{{local_part}}", "create": True, **settings}, clock)


def files(folder: Path, part: str = "new") -> list[Path]:
    return sorted((folder / part).iterdir())


def test_a_message_is_one_file_in_new_with_its_paths_above_it(tmp_path: Path) -> None:
    (outcome,) = outcomes(maildirs(tmp_path), make_delivery("maildir:"))
    assert isinstance(outcome, Delivered)
    (file,) = files(tmp_path / "example.net" / "bob")
    assert file.read_bytes() == (
        b"Return-Path: <alice@example.org>\nDelivered-To: bob@example.net\n" + CONTENT.replace(b"\r\n", b"\n")
    )
    assert files(tmp_path / "example.net" / "bob", "tmp") == []
    assert files(tmp_path / "example.net" / "bob", "cur") == []
    assert file.stat().st_mtime == 1_767_225_600.0


def test_pythons_own_maildir_reads_it(tmp_path: Path) -> None:
    outcomes(maildirs(tmp_path), make_delivery("maildir:"))
    (message,) = mailbox.Maildir(tmp_path / "example.net" / "bob", create=False)
    assert message["Subject"] == "hello"


def test_crlf_is_kept_where_it_is_wanted(tmp_path: Path) -> None:
    outcomes(maildirs(tmp_path, line_ends="crlf"), make_delivery("maildir:"))
    assert files(tmp_path / "example.net" / "bob")[0].read_bytes().endswith(CONTENT)


def test_large_content_comes_in_blocks_and_a_crlf_may_lie_between_them(tmp_path: Path) -> None:
    parts = (b"a" * (BLOCK - 1) + b"\r", b"\nb\r\n", b"c\r")
    outcomes(maildirs(tmp_path), make_delivery("maildir:", content=Blocks(parts)))
    assert files(tmp_path / "example.net" / "bob")[0].read_bytes().endswith(b"a\nb\nc\r")


def test_permissions_are_those_of_the_setting_whatever_the_umask(tmp_path: Path) -> None:
    outcomes(maildirs(tmp_path, mode="0750"), make_delivery("maildir:"))
    bob = tmp_path / "example.net" / "bob"
    assert [oct(path.stat().st_mode & 0o777) for path in (bob.parent, bob, bob / "cur", files(bob)[0])] == [
        "0o750",
        "0o750",
        "0o750",
        "0o640",
    ]


def test_the_setgid_bit_of_the_base_is_handed_down(tmp_path: Path) -> None:
    tmp_path.chmod(0o2770)
    outcomes(maildirs(tmp_path, mode="0770"), make_delivery("maildir:"))
    bob = tmp_path / "example.net" / "bob"
    assert [oct(path.stat().st_mode & 0o7777) for path in (bob, bob / "new")] == ["0o2770", "0o2770"]


def test_each_recipient_gets_a_file_and_a_subaddress_shares_the_maildir(tmp_path: Path) -> None:
    delivery = make_delivery("maildir:", "bob@example.net", "bob+list@example.net", "Carol@example.net")
    outcomes(maildirs(tmp_path), delivery)
    assert len(files(tmp_path / "example.net" / "bob")) == 2
    assert len(files(tmp_path / "example.net" / "carol")) == 1
    tagged = [file for file in files(tmp_path / "example.net" / "bob") if b"bob+list@" in file.read_bytes()]
    assert len(tagged) == 1


def test_without_a_subaddress_the_tag_has_a_maildir_of_its_own(tmp_path: Path) -> None:
    outcomes(maildirs(tmp_path, subaddress=""), make_delivery("maildir:", "bob+list@example.net"))
    assert len(files(tmp_path / "example.net" / "bob+list")) == 1


def test_the_next_hop_may_say_another_place(tmp_path: Path) -> None:
    outcomes(maildirs(tmp_path / "unused"), make_delivery(f"maildir:{tmp_path}/{{address}}/Maildir"))
    assert len(files(tmp_path / "bob@example.net" / "Maildir")) == 1


# Once is enough.


@pytest.mark.parametrize("moved", ["", "cur", "cur with flags"])
def test_a_repeat_makes_no_second_copy_while_the_first_is_there(tmp_path: Path, moved: str) -> None:
    transport = maildirs(tmp_path)
    delivery = make_delivery("maildir:")
    outcomes(transport, delivery)
    bob = tmp_path / "example.net" / "bob"
    if moved:
        (file,) = files(bob)
        file.rename(bob / "cur" / (file.name + (":2,FS" if "flags" in moved else "")))
    (outcome,) = outcomes(transport, tried_before(delivery))
    assert isinstance(outcome, Delivered)
    assert len(files(bob) + files(bob, "cur")) == 1


def test_a_repeat_after_a_crash_is_known_by_the_age_of_the_message(tmp_path: Path) -> None:
    """A crash between the rename and the commit leaves no attempt behind."""
    clock = FakeClock()
    delivery = make_delivery("maildir:", received_at=clock.now())
    outcomes(maildirs(tmp_path, clock), delivery)
    bob = tmp_path / "example.net" / "bob"
    (file,) = files(bob)
    file.rename(bob / "cur" / f"{file.name}:2,S")
    clock.advance(1.0)
    outcomes(maildirs(tmp_path, clock), delivery)  # the next life of the server
    assert files(bob) == []


def test_another_message_to_the_same_recipient_is_no_repeat(tmp_path: Path) -> None:
    transport = maildirs(tmp_path)
    outcomes(transport, make_delivery("maildir:"), tried_before(make_delivery("maildir:", queue_id="ANOTHER")))
    assert len(files(tmp_path / "example.net" / "bob")) == 2


def test_what_a_crash_left_in_tmp_is_in_nobodys_way(tmp_path: Path) -> None:
    transport = maildirs(tmp_path)
    delivery = make_delivery("maildir:")
    outcomes(transport, delivery)
    bob = tmp_path / "example.net" / "bob"
    (file,) = files(bob)
    (bob / "tmp" / file.name).write_bytes(b"half of i")
    file.unlink()
    outcomes(transport, tried_before(delivery))
    assert len(files(bob)) == 1


# Who has no Maildir.


def test_without_create_a_recipient_without_a_maildir_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "example.net" / "bob").mkdir(parents=True)
    known, unknown = outcomes(
        maildirs(tmp_path, create=False), make_delivery("maildir:", "bob@example.net", "nobody@example.net")
    )
    assert isinstance(known, Delivered)
    assert isinstance(unknown, Failed)
    assert str(unknown.reply).startswith("550 5.1.1")
    assert not (tmp_path / "example.net" / "nobody").exists()


@pytest.mark.parametrize("create", [True, False])
def test_a_disk_that_is_not_mounted_makes_mail_wait(tmp_path: Path, create: bool) -> None:
    (outcome,) = outcomes(maildirs(tmp_path / "mnt", create=create), make_delivery("maildir:"))
    assert isinstance(outcome, Deferred)
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_should_be_makes_mail_wait_and_tells_the_sender_no_path(tmp_path: Path) -> None:
    (tmp_path / "example.net").write_text("no folder")
    (outcome,) = outcomes(maildirs(tmp_path), make_delivery("maildir:"))
    assert isinstance(outcome, Deferred)
    assert str(tmp_path) not in str(outcome.reply)
    assert outcome.reply.code == 451


def test_a_next_hop_that_is_no_path_makes_mail_wait(tmp_path: Path) -> None:
    (outcome,) = outcomes(maildirs(tmp_path), make_delivery("maildir:relative/{local_part}"))
    assert isinstance(outcome, Deferred)


@pytest.mark.parametrize("kind", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_write_that_fails_makes_mail_wait_and_leaves_nothing(tmp_path: Path, kind: int) -> None:
    class Failing(Blocks):
        def blocks(self) -> Any:
            yield b"Subject: half\r\n"
            raise OSError(kind, "as told")

    (outcome,) = outcomes(maildirs(tmp_path), make_delivery("maildir:", content=Failing(())))
    assert isinstance(outcome, Deferred)
    assert outcome.reply.code == (451 if kind == errno.EIO else 452)
    bob = tmp_path / "example.net" / "bob"
    assert files(bob) + files(bob, "tmp") == []


# An address is never part of a path.


@pytest.mark.parametrize(
    ("local_part", "name"),
    [
        ("bob", "bob"),
        ("Bob.Smith+x", "bob.smith+x"),
        ("..", "%2E."),
        (".hidden", "%2Ehidden"),
        ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
        ("a b", "a%20b"),
        ("100%", "100%25"),
        ("grüße", "gr%C3%BC%C3%9Fe"),
        ("x\0y\n", "x%00y%0A"),
        ("$(id)`id`", "%24%28id%29%60id%60"),
    ],
)
def test_an_address_becomes_one_plain_name(local_part: str, name: str) -> None:
    assert encode(local_part.lower()) == name


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_two_names_stay_two_and_none_is_a_path(one: str, other: str) -> None:
    first, second = encode(one), encode(other)
    assert (first == second) == (one == other)
    assert "/" not in first
    assert first not in {"", ".", ".."}
    assert len(first.encode()) <= 255
    assert first.isascii()


@given(st.text(max_size=64), st.text(max_size=200))
def test_any_address_stays_below_the_base(local_part: str, domain: str) -> None:
    template = Template.parse("/srv/mail/{domain}/{local_part}/Maildir")
    folder = template.folder(Address(local_part, domain))
    assert os.path.normpath(folder) == str(folder)
    assert template.base == Path("/srv/mail")
    assert folder.parents[2] == template.base


@pytest.mark.parametrize(
    "path",
    ["relative/{local_part}", "/var/mail/{user}", "/var/mail/../{domain}", "/var/mail/{local_part", "", "/a/}b{"],
)
def test_a_path_that_cannot_be_meant_stops_the_start(path: str) -> None:
    with pytest.raises(ConfigError, match=r"plugin\.maildir\."):
        make_transport("maildir", {"path": path})


def test_users_who_would_share_a_maildir_stop_the_start() -> None:
    settings = {"domains": ["example.org"], "path": "/var/mail/{domain}"}
    with pytest.raises(ConfigError, match=r"^plugin\.maildir\.path: all who are in `domains` would have one Maildir"):
        make_transport("maildir", settings)


# In the server.


def test_mail_that_is_routed_there_is_in_the_maildir(tmp_path: Path) -> None:
    (tmp_path / "bob").mkdir()
    with mail_server(
        plugins=Plugins(enabled=("maildir",)),
        plugin={"maildir": {"path": f"{tmp_path}/{{local_part}}"}},
        routes={"far.example": "maildir:"},
        aliases={"robert@example.org": ("bob@far.example",)},
    ) as server:
        server.send("carol@example.net", ["robert@example.org"], b"Subject: hi\r\n\r\nHi.\r\n")
        server.wait_for_log("delivery", outcome="delivered", route="maildir:")
        server.wait_for_empty_queue()
    (file,) = files(tmp_path / "bob")
    text = file.read_bytes()
    assert text.startswith(b"Return-Path: <carol@example.net>\nDelivered-To: bob@far.example\nReceived: ")
    assert text.endswith(b"Subject: hi\n\nHi.\n")


def test_an_unknown_maildir_bounces_and_the_log_names_a_fault(tmp_path: Path) -> None:
    with mail_server(
        plugins=Plugins(enabled=("maildir",)),
        plugin={"maildir": {"path": f"{tmp_path}/{{local_part}}"}},
        routes={"far.example": "maildir:", "near.example": f"maildir:{tmp_path}/missing/{{address}}"},
    ) as server:
        server.send("alice@example.org", ["bob@far.example"], b"Hi.\r\n", login=("alice@example.org", "secret"))
        (bounce,) = server.wait_for_mail("alice@example.org")
        assert b"5.1.1" in bounce
        server.send("alice@example.org", ["bob@near.example"], b"Hi.\r\n", login=("alice@example.org", "secret"))
        (line,) = server.wait_for_log("maildir_failed")
        assert line["recipient"] == "bob@near.example"


def test_hook_resolve_recipient_takes_mail_from_strangers_for_whoever_has_a_maildir(tmp_path: Path) -> None:
    for name in ("bob", "postmaster"):
        (tmp_path / "example.org" / name).mkdir(parents=True)
    with mail_server(
        plugins=Plugins(enabled=("maildir",)),
        plugin={"maildir": {"path": f"{tmp_path}/{{domain}}/{{local_part}}", "domains": ["Example.ORG"]}},
        aliases={"info@example.org": ("bob@example.org", "alice@example.org")},
    ) as server:
        for name in ("bob+tag", "info", "postmaster"):
            server.send("carol@example.net", [f"{name}@example.org"], b"Hi.\r\n")
        with pytest.raises(smtplib.SMTPRecipientsRefused, match=r"5\.1\.1"):
            server.send("carol@example.net", ["nobody@example.org"], b"Hi.\r\n")
        with pytest.raises(smtplib.SMTPRecipientsRefused, match=r"5\.7\.1"):
            server.send("carol@example.net", ["bob@far.example"], b"Hi.\r\n")
        server.wait_for_empty_queue()
        assert len(files(tmp_path / "example.org" / "bob")) == 2
        assert len(files(tmp_path / "example.org" / "postmaster")) == 1
        assert len(server.mailbox("alice@example.org")) == 1


def test_while_the_disk_is_not_there_recipients_are_told_to_come_again(tmp_path: Path) -> None:
    with (
        mail_server(
            plugins=Plugins(enabled=("maildir",)),
            plugin={"maildir": {"path": f"{tmp_path}/mnt/{{local_part}}", "domains": ["example.org"]}},
        ) as server,
        pytest.raises(smtplib.SMTPRecipientsRefused, match=r"451"),
    ):
        server.send("carol@example.net", ["bob@example.org"], b"Hi.\r\n")
