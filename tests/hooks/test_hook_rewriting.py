"""The hooks that change a message: what is accepted, what the next hop is told and gets."""

from __future__ import annotations

import smtplib
from pathlib import Path

import pytest
from live_kit import plugin_server

from mailserv.settings import PluginPolicy
from mailserv.testing.sink import ScriptedMX

ALICE, CAROL = "alice@example.org", "carol@far.example"
TEXT = b"Subject: hello\r\n\r\nHi.\r\n"
LOGIN = (ALICE, "secret")


def test_hook_message_rewrite_changes_what_is_accepted_each_after_the_other(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def message_rewrite(self, content):
        whole = b"".join(content.blocks())
        return BytesContent(whole.replace(b"Hi.", b"x" * 900 + b"\\r\\nHi.") if b"large" not in whole else whole * 3)
    """
    with plugin_server(tmp_path, body) as (server, _):
        server.send(CAROL, [ALICE], TEXT)
        assert server.wait_for_mail(ALICE)[0].endswith(b"x" * 900 + b"\r\nHi.\r\n")
        server.send(CAROL, [ALICE], b"Subject: large\r\n\r\n" + (b"y" * 70 + b"\r\n") * 10_000)
        assert len(server.wait_for_mail(ALICE, 2)[1]) > 3 * 720_000
    assert not list(tmp_path.rglob("spool/*"))


@pytest.mark.parametrize("lie", ['b"no"', 'BytesContent(b"a\\\\nb\\\\r\\\\n")', 'BytesContent(b"no end")'])
def test_hook_message_rewrite_never_brings_in_a_bare_newline(tmp_path: Path, lie: str) -> None:
    body = f"""
    @hookimpl
    def message_rewrite(self):
        return {lie}
    """
    with plugin_server(tmp_path, body) as (server, _):
        server.send(CAROL, [ALICE], TEXT)
        assert server.wait_for_mail(ALICE)[0].endswith(TEXT)
        server.wait_for_log("plugin_lied", plugin="probe")


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        ("whole.replace(CRLF, LF) + CRLF", "a CR or LF stands alone in it"),
        ("whole + b'no end'", "it does not end with CRLF"),
        ("whole.partition(b'Subject')[2]", "our Received is not at its top"),
        ("b'X-Mine: above' + CRLF + whole", "our Received is not at its top"),
    ],
)
def test_hook_message_rewrite_that_lies_is_told_why(tmp_path: Path, lie: str, why: str) -> None:
    body = f"""
    @hookimpl
    def message_rewrite(self, content):
        whole, CRLF, LF = b"".join(content.blocks()), bytes([13, 10]), bytes([10])
        return BytesContent({lie})
    """
    with plugin_server(tmp_path, body) as (server, _):
        server.send(CAROL, [ALICE], TEXT)
        (told,) = server.wait_for_log("plugin_lied", plugin="probe")
        assert (told["answer"], told["why"]) == ("BytesContent", why)
        assert server.wait_for_mail(ALICE)[0].endswith(TEXT)


REWRITER = """
    @hookimpl
    def message_rewrite(self, content):
        return BytesContent(b"".join(content.blocks()) + b"-- seen\\r\\n")
"""


def test_hook_message_rewrite_stands_in_the_trace_with_who_did_it(tmp_path: Path) -> None:
    with plugin_server(tmp_path, REWRITER) as (server, _):
        server.send(CAROL, [ALICE], TEXT)
        (line,) = server.wait_for_log("accepted")
        (entry,) = [each for each in server.trace(line["queue_id"]) if each.event == "rewritten"]
        assert entry.detail == {"by": "probe", "size": line["size"]}


def test_hook_message_rewrite_of_a_plugin_on_trial_changes_nothing(tmp_path: Path) -> None:
    policy = {"probe": PluginPolicy(mode="observe")}
    with plugin_server(tmp_path, REWRITER, policy=policy) as (server, _):
        server.send(CAROL, [ALICE], TEXT)
        (line,) = server.wait_for_log("accepted")
        assert server.wait_for_mail(ALICE)[0].endswith(TEXT)
        assert server.wait_for_log("plugin_observed", plugin="probe", hook="message_rewrite")
        assert "rewritten" not in {each.event for each in server.trace(line["queue_id"])}


def test_hook_message_rewrite_can_be_made_a_must(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def message_rewrite(self):
        raise RuntimeError("boom")
    """
    with (
        plugin_server(tmp_path, body, policy={"probe": PluginPolicy(on_error="tempfail")}) as (server, _),
        pytest.raises(smtplib.SMTPDataError) as raised,
    ):
        server.send(CAROL, [ALICE], TEXT)
    assert raised.value.smtp_code == 451


def test_hook_rewrite_sender_changes_what_the_next_hop_is_told_and_not_where_bounces_go(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def rewrite_sender(self, delivery):
        return parse_mailbox("srs0=x@example.org")
    """
    with (
        ScriptedMX({"RCPT TO:<dave@": "550 5.1.1 No such user"}) as mx,
        plugin_server(tmp_path, body, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as (server, _),
    ):
        server.send(ALICE, [CAROL, "dave@far.example"], TEXT, login=LOGIN)
        (taken,) = mx.wait_for_messages(1)
        assert taken.mail.startswith("<srs0=x@example.org>")
        assert b"dave@far.example" in server.wait_for_mail(ALICE)[0]  # the bounce goes to who sent it
        server.wait_for_empty_queue()


def test_hook_delivery_rewrite_changes_what_the_next_hop_gets_and_knows_the_new_reverse_path(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def rewrite_sender(self, delivery):
        return parse_mailbox("srs0=x@example.org")
    @hookimpl
    def delivery_rewrite(self, delivery, content):
        SEEN.append(str(delivery.reverse_path))
        return BytesContent(b"Signature: " + str(delivery.route).encode() + b"\\r\\n" + b"".join(content.blocks()))
    """
    with (
        ScriptedMX() as mx,
        plugin_server(tmp_path, body, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as (server, told),
    ):
        server.send(ALICE, [CAROL], TEXT, login=LOGIN)
        (taken,) = mx.wait_for_messages(1)
        assert taken.content.startswith(b"Signature: smtp:[")
        assert told == ["srs0=x@example.org"]


@pytest.mark.parametrize(
    ("answer", "is_taken"),
    [
        ("PrefixedContent(b'X-Sealed: yes' + CRLF, content)", True),
        ("PrefixedContent(b'X-Sealed: yes' + CRLF, BytesContent(b'A: b' + CRLF))", True),
        ("PrefixedContent(b'X-Sealed: yes' + CRLF, PrefixedContent(b'X-More: yes' + CRLF, content))", True),
        ("PrefixedContent(b'X-Sealed: yes', content)", False),
        ("PrefixedContent(b'X-Sealed:' + LF + b' yes' + CRLF, content)", False),
        ("PrefixedContent('X-Sealed: yes', content)", False),
        ("PrefixedContent(b'X-Sealed: yes' + CRLF, BytesContent(b'A: b' + LF))", False),
        ("PrefixedContent(b'X-Sealed: yes' + CRLF, None)", False),
        ("PrefixedContent(b'X-Sealed: yes' + CRLF, b'A: b' + CRLF)", False),
    ],
)
def test_hook_delivery_rewrite_may_put_fields_above_what_stays_where_it_is(
    tmp_path: Path, answer: str, is_taken: bool
) -> None:
    body = f"""
    @hookimpl
    def delivery_rewrite(self, content):
        CRLF, LF = bytes([13, 10]), bytes([10])
        return {answer}
    """
    large = TEXT + b"0123456789\r\n" * 50_000
    with (
        ScriptedMX() as mx,
        plugin_server(tmp_path, body, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as (server, _),
    ):
        server.send(ALICE, [CAROL], large, login=LOGIN)
        if is_taken:
            (taken,) = mx.wait_for_messages(1)
            assert taken.content.startswith(b"X-Sealed: yes\r\n")
            assert taken.content.endswith(large) or "BytesContent" in answer
        else:
            server.wait_for_log("plugin_lied", plugin="probe")
            server.wait_for_log("delivery_unfit")
            assert not mx.messages


def lets_nothing_go_as_it_was(folder: Path, hook: str) -> None:
    body = f"""
    @hookimpl
    def {hook}(self, delivery):
        if any("later" in str(row.forward_path) for row in delivery.rows):
            raise RuntimeError("boom")
    """
    with (
        ScriptedMX() as mx,
        plugin_server(folder, body, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as (server, _),
    ):
        server.send(ALICE, ["later@far.example"], TEXT, login=LOGIN)
        server.wait_for_log("delivery_unfit")
        server.send(ALICE, [CAROL], TEXT, login=LOGIN)
        (taken,) = mx.wait_for_messages(1)
        assert taken.rcpts == ("<carol@far.example>",)
        server.wait_for_log("delivery", outcome="delivered")
        (row,) = server.queue()
        assert (row.forward_path, row.attempts) == ("later@far.example", 1)


def test_hook_rewrite_sender_that_fails_lets_nothing_go_as_it_was(tmp_path: Path) -> None:
    lets_nothing_go_as_it_was(tmp_path, "rewrite_sender")


def test_hook_delivery_rewrite_that_fails_lets_nothing_go_as_it_was(tmp_path: Path) -> None:
    lets_nothing_go_as_it_was(tmp_path, "delivery_rewrite")
