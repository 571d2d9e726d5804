"""mailserv_fields: which fields go and come, where, and that a signature is not broken without a word."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from delivering import make_delivery
from policing import make_plugins

from mailserv.errors import ConfigError
from mailserv.mail.message import BytesContent
from mailserv.testing.server import mail_server
from mailserv.testing.sink import ScriptedMX

ALICE = "alice@example.org"
LOGIN = (ALICE, "secret")
SPY = b"X-Spy: one\r\n two\r\n"
MESSAGE = SPY + b"From: a@example.org\r\nx-spy : three\r\nX-Spyglass: stays\r\nSubject: hello\r\n\r\nX-Spy: body\r\n"
SIGNATURE = b"DKIM-Signature: v=1; a=rsa-sha256;\r\n h=From : x-spy:\r\n\tReply-To; b=AAAA; bh=h=X-Spyglass\r\n"


def rewritten(settings: Mapping[str, Any], message: bytes) -> bytes:
    """What a next hop would get."""
    content = BytesContent(message)
    runner = make_plugins("fields", {"outgoing": settings}).runner
    answer = runner.transform("delivery_rewrite", delivery=make_delivery("smtp:far.example"), content=content)
    return b"".join(answer.blocks())


@pytest.mark.parametrize(
    ("settings", "before", "after"),
    [
        (
            {"remove": ["X-Spy"]},
            MESSAGE,
            b"From: a@example.org\r\nX-Spyglass: stays\r\nSubject: hello\r\n\r\nX-Spy: body\r\n",
        ),
        ({"remove": ["X-Other"]}, MESSAGE, MESSAGE),
        ({"add": {"X-New": " yes "}}, b"A: 1\r\n\r\nx\r\n", b"X-New: yes\r\nA: 1\r\n\r\nx\r\n"),
        ({"add": {"A": "2"}}, b"a: 1\r\nB: 1\r\na:\r\n 3\r\n\r\nx\r\n", b"A: 2\r\nB: 1\r\n\r\nx\r\n"),
        ({"remove": ["A"], "add": {"C": "3"}}, b"A: 1\r\n\r\nx\r\n", b"C: 3\r\n\r\nx\r\n"),
        ({"remove": ["A"]}, b"no field\r\nA: 1\r\n\r\nx\r\n", b"no field\r\n\r\nx\r\n"),
        ({"remove": ["A"]}, b"\r\nA: 1\r\n", b"\r\nA: 1\r\n"),
        ({"remove": ["A"]}, b"\xff\xfe: 1\r\nA: \xff\r\n\r\n\xff\r\n", b"\xff\xfe: 1\r\n\r\n\xff\r\n"),
    ],
)
def test_fields_go_and_come_and_nothing_else_is_changed(settings: dict[str, Any], before: bytes, after: bytes) -> None:
    assert rewritten(settings, before) == after


def test_what_a_signature_covers_is_left_alone_and_told() -> None:
    signed = SIGNATURE + MESSAGE
    with mail_server() as server:
        assert rewritten({"remove": ["X-Spy", "X-Spyglass"]}, signed) == signed.replace(b"X-Spyglass: stays\r\n", b"")
        assert rewritten({"add": {"Reply-To": "x@example.org"}}, signed) == signed  # that there is none was signed
        lines = server.wait_for_log("field_is_signed", 2)
        assert [line["fields"] for line in lines] == ["x-spy", "reply-to"]


def test_a_signature_is_broken_only_where_the_operator_says_so() -> None:
    runner = make_plugins("fields", {"signed": True, "outgoing": {"remove": ["X-Spy"]}}).runner
    content = BytesContent(SIGNATURE + MESSAGE)
    answer = runner.transform("delivery_rewrite", delivery=make_delivery("smtp:far.example"), content=content)
    assert b"X-Spy: one" not in answer.data


def test_content_without_lines_is_left_alone() -> None:
    runner = make_plugins("fields", {"outgoing": {"remove": ["X-Spy"]}}).runner
    content = BytesContent(b"X-Spy: 1\r\n\r\n\n\0\r")
    delivery = make_delivery("smtp:far.example", parameters={"BODY": "BinaryMIME"})
    assert runner.transform("delivery_rewrite", delivery=delivery, content=content) is content


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"incoming": {"remove": ["received"]}}, "plugin.fields.incoming: Received fields stay"),
        ({"outgoing": {"add": {"Received": "x"}}}, "plugin.fields.outgoing: Received fields stay"),
        ({"submissions": {"add": {"Received": "x"}}}, "plugin.fields.submissions: Received fields stay"),
        ({"outgoing": {"remove": ["A:"]}}, 'plugin.fields.outgoing: "A:" is no name'),
        ({"outgoing": {"remove": [""]}}, 'plugin.fields.outgoing: "" is no name'),
        ({"outgoing": {"add": {"A": "1\r\nB: 2"}}}, 'plugin.fields.outgoing: the value of "A" is not one line'),
        ({"outgoing": {"add": {"A": "grün"}}}, 'plugin.fields.outgoing: the value of "A" is not one line'),
    ],
)
def test_a_mistake_stops_the_start(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make_plugins("fields", settings)
    assert raised.value.problems[0].startswith(problem)


def test_hook_message_rewrite_submissions_and_strangers_mail_each_have_their_fields() -> None:
    settings = {
        "hide_client": True,
        "submissions": {"remove": ["X-Spy", "Received"], "add": {"Organization": "Example Ltd"}},
        "incoming": {"remove": ["X-Spyglass"]},
    }
    with mail_server(plugins=["fields"], plugin={"fields": settings}) as server:
        server.send(ALICE, [ALICE], b"Received: from home\r\n\tby pc; x\r\n" + MESSAGE, login=LOGIN)
        server.send("x@example.net", [ALICE], MESSAGE)
        ours, theirs = server.wait_for_mail(ALICE, 2)
    assert len(re.findall(rb"^Received:", ours, re.MULTILINE)) == 1
    assert b"\r\nReceived: by mail.example.org with ESMTPA id" in ours
    assert b"127.0.0.1" not in ours
    assert b"Organization: Example Ltd\r\n" in ours
    assert b"X-Spy:" not in ours.partition(b"\r\n\r\n")[0]
    assert b"\r\nReceived: from client.example.net ([127.0.0.1])\r\n" in theirs
    assert b"X-Spy: one\r\n two\r\n" in theirs
    assert b"X-Spyglass" not in theirs


def test_hook_delivery_rewrite_changes_what_leaves_and_not_what_stays() -> None:
    with (
        ScriptedMX() as mx,
        mail_server(
            plugins=["fields"],
            plugin={"fields": {"outgoing": {"remove": ["X-Spy"], "add": {"X-Out": "yes"}}}},
            routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"},
        ) as server,
    ):
        server.send(ALICE, ["carol@far.example", ALICE], MESSAGE, login=LOGIN)
        (taken,) = mx.wait_for_messages(1)
        assert taken.content.startswith(b"X-Out: yes\r\nReceived: from ")
        assert b"X-Spy:" not in taken.content.partition(b"\r\n\r\n")[0]
        (kept,) = server.wait_for_mail(ALICE)
        assert b"X-Spy: one\r\n two\r\n" in kept
        assert b"X-Out" not in kept
