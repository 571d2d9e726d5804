"""What plugins submit goes the way of all mail: routed, committed, delivered; what is refused leaves nothing behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailserv.mail.address import NULL_REVERSE_PATH, Address, parse_mailbox
from mailserv.mail.message import BytesContent
from mailserv.mail.plugin import Services, SubmitError
from mailserv.settings import Plugins
from mailserv.testing.server import MailServer, mail_server
from mailserv.testing.sink import ScriptedMX

SOURCE = """
class Plugin:
    def __init__(self, settings, services):
        global SERVICES
        SERVICES = services
"""
ALICE, CAROL = parse_mailbox("alice@example.org"), parse_mailbox("carol@far.example")
TEXT = BytesContent(b"Subject: hello\r\n\r\nHi.\r\n")


@pytest.fixture
def mx() -> Iterator[ScriptedMX]:
    with ScriptedMX() as started:
        yield started


@pytest.fixture
def server(tmp_path: Path, mx: ScriptedMX) -> Iterator[MailServer]:
    (tmp_path / "submitter.py").write_text(SOURCE)
    plugins = Plugins(enabled=("submitter",), path=tmp_path)
    with mail_server(plugins=plugins, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as running:
        yield running


def services() -> Services:
    module: Any = sys.modules["mailserv_plugin_file_submitter"]
    found: Services = module.SERVICES
    return found


def test_it_reaches_mailboxes_and_next_hops_and_tells_its_way(server: MailServer, mx: ScriptedMX) -> None:
    queue_id = services().submit(ALICE, [ALICE, CAROL], TEXT)
    (mail,) = server.wait_for_mail("alice@example.org")
    assert mail.startswith(b"Return-Path: <alice@example.org>\r\nDelivered-To: alice@example.org\r\nReceived: by mail")
    assert mail.endswith(b"\r\nSubject: hello\r\n\r\nHi.\r\n")
    (taken,) = mx.wait_for_messages(1)
    assert taken.rcpts == ("<carol@far.example>",)
    assert [entry.event for entry in server.trace(queue_id)][:3] == ["accepted", "routed", "routed"]
    server.wait_for_log("submitted", queue_id=queue_id, recipients=2)


@pytest.mark.parametrize(
    "content", [b"Subject: x\r\n\r\n\n.\n+OK ", b"Subject: x\r\n\r\nx\ry\r\n", b"Subject: x\r\n\r\nx\r"]
)
def test_what_is_no_lines_gets_into_no_mailbox(server: MailServer, content: bytes) -> None:
    """It came with BODY=BINARYMIME for a list, perhaps; POP3 can't carry it (RFC 3030 §3)."""
    with pytest.raises(SubmitError, match=r"5\.6\.3") as refused:
        services().submit(ALICE, [CAROL, ALICE], BytesContent(content))
    assert not refused.value.retry_later
    assert server.mailbox("alice@example.org") == []


def test_what_is_no_lines_goes_on_as_binary_content_only(server: MailServer, mx: ScriptedMX) -> None:
    """By BDAT, or not at all: DATA can't carry it, nor can LMTP."""
    queue_id = services().submit(ALICE, [CAROL], BytesContent(b"Subject: x\r\n\r\n\n.\nMAIL FROM:<x@y>\n"))
    (bounce,) = server.wait_for_mail("alice@example.org")
    assert b"BINARYMIME" in bounce
    assert mx.messages == []
    assert "failed" in [entry.event for entry in server.trace(queue_id)]


def test_a_last_line_without_an_end_gets_one_in_a_mailbox(server: MailServer) -> None:
    services().submit(ALICE, [ALICE], BytesContent(b"Subject: x\r\n\r\nno line end"))
    (mail,) = server.wait_for_mail("alice@example.org")
    assert mail.endswith(b"\r\n\r\nno line end\r\n")


def test_with_a_key_it_is_accepted_once_and_says_so_again(server: MailServer) -> None:
    submit = services().submit
    first = submit(ALICE, [ALICE], TEXT, key="Q1 alice")
    assert submit(ALICE, [ALICE], TEXT, key="Q1 alice") == first
    assert submit(ALICE, [parse_mailbox("nobody@example.org")], TEXT, key="Q1 alice") == first
    assert submit(ALICE, [ALICE], TEXT, key="Q2 alice") != first
    assert submit(ALICE, [ALICE], TEXT) != submit(ALICE, [ALICE], TEXT)
    assert len(server.wait_for_mail("alice@example.org", 4)) == 4
    assert len(server.wait_for_log("submitted", 4)) == 4


def test_a_key_whose_message_was_refused_is_free(server: MailServer) -> None:
    submit = services().submit
    with pytest.raises(SubmitError):
        submit(ALICE, [parse_mailbox("nobody@example.org")], TEXT, key="Q1")
    submit(ALICE, [ALICE], TEXT, key="Q1")
    assert len(server.wait_for_mail("alice@example.org")) == 1


def test_the_null_reverse_path_is_one_to_submit_from(server: MailServer) -> None:
    services().submit(NULL_REVERSE_PATH, [ALICE], TEXT)
    assert server.wait_for_mail("alice@example.org")[0].startswith(b"Return-Path: <>\r\n")


def test_large_content_goes_through_a_file(server: MailServer) -> None:
    services().submit(ALICE, [ALICE], BytesContent(b"Subject: large\r\n\r\n" + b"x" * 70 * 10_000 + b"\r\n"))
    assert len(server.wait_for_mail("alice@example.org")[0]) > 700_000


@pytest.mark.parametrize(
    ("path", "head", "said", "later"),
    [
        (parse_mailbox("who@example.org"), b"", "550 5.1.1", False),
        (Address("", ""), b"", "501", False),
        (Address("alice", "example.org\r\nSubject: forged"), b"", "is none", False),
        (ALICE, b"Received: x\r\n" * 100, "too many Received", False),
        (ALICE, b"Delivered-To: alice@example.org\r\n" * 2, "gone round", False),
    ],
)
def test_what_is_refused_is_refused_whole(
    server: MailServer, path: Address, head: bytes, said: str, later: bool
) -> None:
    with pytest.raises(SubmitError, match=said) as raised:
        services().submit(ALICE, [ALICE, path], BytesContent(head + TEXT.data))
    assert raised.value.retry_later is later
    assert server.mailbox("alice@example.org") == []


def test_a_store_that_cannot_take_it_is_asked_again_later(server: MailServer) -> None:
    submit = services().submit
    server.server.stop()
    with pytest.raises(SubmitError, match="the store can't take it") as raised:
        submit(ALICE, [ALICE], TEXT)
    assert raised.value.retry_later
