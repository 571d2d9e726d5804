"""mailserv_list: who may post, who gets it, and that nothing goes round."""

from __future__ import annotations

import os
import smtplib
from pathlib import Path
from typing import Any

import pytest
from delivering import CONTENT, Blocks, make_delivery, outcomes
from submitting import Submitted

from mailserv.config import read_section
from mailserv.errors import ConfigError
from mailserv.hooks.host import load_plugins
from mailserv.logging import get_logger
from mailserv.mail.address import parse_mailbox
from mailserv.mail.outcome import Deferred, Delivered, Failed, Outcome
from mailserv.mail.plugin import MemoryTable, Services, StoreError, SubmitError
from mailserv.settings import Plugins
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import mail_server
from mailserv_list import Plugin

LIST, ALICE, BOB, CAROL = "dev@example.org", "alice@example.org", "bob@example.org", "carol@far.example"
FIELDS = (
    b"Delivered-To: dev@example.org\r\n"
    b"List-Id: <dev.example.org>\r\n"
    b"List-Post: <mailto:dev@example.org>\r\n"
    b"List-Owner: <mailto:dev-owner@example.org>\r\n"
    b"List-Unsubscribe: <mailto:dev-request@example.org?subject=unsubscribe>\r\n"
    b"Precedence: list\r\n"
)


def make(submitted: Submitted | None = None, table: MemoryTable | None = None, **settings: Any) -> Plugin:
    values = {"lists": {LIST: {"owner": ALICE, "members": [BOB, CAROL, LIST], **settings}}}
    clock = FakeClock()
    services = Services(
        "list",
        "mail.example.org",
        clock.now,
        get_logger("plugin.list"),
        table=table or MemoryTable(clock.now),
        submit=submitted or Submitted(),
    )
    return Plugin(read_section(Plugin.Settings, values, "list"), services)


def post(plugin: Plugin, reverse_path: str = BOB, route: str = f"list:{LIST}", **delivery: Any) -> Outcome:
    ((_, transport),) = plugin.register_transports()
    (outcome,) = outcomes(transport, make_delivery(route, LIST, reverse_path=reverse_path, **delivery))
    return outcome


def test_a_message_goes_to_the_members_under_the_lists_reverse_path() -> None:
    submitted = Submitted()
    assert isinstance(post(make(submitted)), Delivered)
    assert submitted.messages == [("dev-bounces@example.org", [BOB, CAROL], FIELDS + CONTENT)]


def test_a_list_without_members_takes_its_owners_mail_and_that_is_all() -> None:
    submitted = Submitted()
    assert isinstance(post(make(submitted, members=[]), ALICE), Delivered)
    assert submitted.messages == []


@pytest.mark.parametrize(
    ("reverse_path", "posting", "status"),
    [
        (BOB, "members", ""),
        ("Bob@Example.org", "members", ""),
        (ALICE, "members", ""),
        ("mallory@far.example", "members", "5.7.2"),
        ("mallory@far.example", "anyone", ""),
        ("", "members", "5.7.1"),
        ("", "anyone", "5.7.1"),
    ],
)
def test_who_may_post_is_judged_by_the_reverse_path(reverse_path: str, posting: str, status: str) -> None:
    submitted = Submitted()
    outcome = post(make(submitted, posting=posting), reverse_path)
    assert bool(submitted.messages) == (not status)
    assert isinstance(outcome, Failed if status else Delivered)
    assert outcome.reply.enhanced == status or not status


@pytest.mark.parametrize(
    "fields",
    [
        b"List-Id: <dev.example.org>\r\n",
        b"X: y\r\nLIST-ID: Developers\r\n\t<Dev.Example.org>\r\n",
        b"List-Id: <users.example.org>\r\nDelivered-To: users@example.org\r\nDelivered-To: Dev@example.org\r\n",
    ],
)
def test_what_has_been_on_the_list_before_is_a_loop(fields: bytes) -> None:
    submitted = Submitted()
    outcome = post(make(submitted), content=fields + CONTENT)
    assert isinstance(outcome, Failed)
    assert outcome.reply.enhanced == "5.4.6"
    assert submitted.messages == []


def test_what_has_been_on_another_list_is_none() -> None:
    submitted = Submitted()
    post(make(submitted), content=b"List-Id: <users.example.org>\r\nSubject: <dev.example.org>\r\n\r\n")
    assert len(submitted.messages) == 1


@pytest.mark.parametrize("parameters", [{}, {"SMTPUTF8": ""}])
def test_an_internationalised_message_stays_one(parameters: dict[str, str]) -> None:
    gone = SubmitError("<bob@example.org>: no such user", retry_later=False)
    submitted = Submitted(lambda paths: gone if paths == [BOB] or len(paths) > 1 else None)
    post(make(submitted), parameters=parameters)
    assert submitted.smtputf8 == [bool(parameters)]


@pytest.mark.parametrize("size", [0, 400_000])
def test_list_fields_of_others_are_taken_out_so_that_each_is_there_once(size: int) -> None:
    """RFC 2369 §3 and §4, RFC 2919 §3: another list's, or a member's who would like to be unsubscribed from."""
    theirs = (
        b"List-Id: Users\r\n <users.example.org>\r\nLIST-UNSUBSCRIBE: <https://mallory.example>\r\n"
        b"List-Unsubscribe-Post : List-Unsubscribe=One-Click\r\nList-Help: <mailto:x@y>\r\nlist-post: NO\r\n"
    )
    kept = b"Subject: List-Id: no field\r\nList-Archive: <https://users.example.org>\r\n\r\nList-Id: in the body\r\n"
    body = b"x" * size + b"\r\n"
    submitted = Submitted()
    post(make(submitted), content=Blocks((b"From: bob@example.org\r\n" + theirs, kept, body)))
    ((_, _, content),) = submitted.messages
    assert content == FIELDS + b"From: bob@example.org\r\n" + kept + body


def test_a_member_who_is_refused_costs_the_others_nothing() -> None:
    gone = SubmitError("<bob@example.org>: no such user", retry_later=False)
    submitted = Submitted(lambda paths: gone if BOB in paths else None)
    assert isinstance(post(make(submitted)), Delivered)
    assert [paths for _, paths, _ in submitted.messages] == [[CAROL]]


def test_who_can_be_reached_later_only_gets_it_later_and_the_others_get_it_once() -> None:
    answers = {BOB: SubmitError("gone", retry_later=False), CAROL: SubmitError("busy", retry_later=True)}
    members = [BOB, CAROL, "dave@far.example"]
    submitted = Submitted(lambda paths: next((answers[path] for path in paths if path in answers), None))
    plugin = make(submitted, members=members)
    assert isinstance(post(plugin, ALICE), Deferred)
    del answers[CAROL]
    assert isinstance(post(plugin, ALICE), Delivered)
    assert [paths for _, paths, _ in submitted.messages] == [["dave@far.example"], [CAROL]]


def test_a_member_whose_mailbox_is_full_keeps_it_from_nobody_else() -> None:
    """Else all would wait for his room, and the message be given up for all."""
    full = SubmitError("<bob@example.org>: 452 4.2.2 The mailbox is full", retry_later=True)
    submitted = Submitted(lambda paths: full if BOB in paths else None)
    plugin = make(submitted)
    for _ in range(2):
        assert isinstance(post(plugin), Deferred)
        assert [paths for _, paths, _ in submitted.messages] == [[CAROL]]


def test_while_the_store_takes_nothing_the_message_waits_for_all_together() -> None:
    class Full(MemoryTable):
        def put(self, key: str, value: str, expires_at: float) -> None:
            raise StoreError("no room")

    refusals = [SubmitError("the store can't take it", retry_later=True)]
    submitted = Submitted(lambda _: refusals[0] if refusals else None)
    plugin = make(submitted, table=Full(FakeClock().now))
    assert isinstance(post(plugin), Deferred)
    refusals.clear()
    assert isinstance(post(plugin), Delivered)
    assert [paths for _, paths, _ in submitted.messages] == [[BOB, CAROL]]


def test_a_list_that_is_not_in_the_settings_any_more_makes_mail_wait() -> None:
    assert isinstance(post(make(), route="list:gone@example.org"), Deferred)


# Members in a file.


def test_members_in_a_file_are_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "members"
    file.write_text("\ufeff# the team\ndave@far.example  # since May\n\nEVE@far.example\n")
    submitted = Submitted()
    plugin = make(submitted, members_file=str(file), members=[])
    post(plugin, "dave@far.example")
    file.write_text("frank@far.example\n")
    os.utime(file, (1.0, 1.0))
    post(plugin, "frank@far.example", queue_id="another")
    assert [paths for _, paths, _ in submitted.messages] == [
        ["dave@far.example", "EVE@far.example"],
        ["frank@far.example"],
    ]


def test_a_file_that_becomes_unusable_makes_mail_wait(tmp_path: Path) -> None:
    file = tmp_path / "members"
    file.write_text("dave@far.example\n")
    plugin = make(members_file=str(file))
    file.write_text("no address\n")
    assert isinstance(post(plugin), Deferred)
    file.unlink()
    assert isinstance(post(plugin), Deferred)


@pytest.mark.parametrize(
    "settings",
    [{"members": ["nonsense"]}, {"members_file": "/not/there"}, {"owner": "nobody"}, {"posting": "everybody"}],
)
def test_settings_that_cannot_be_meant_stop_the_start(settings: dict[str, Any]) -> None:
    values = {"lists": {LIST: {"owner": ALICE, **settings}}}
    with pytest.raises(ConfigError, match=r"plugin\.list\."):
        load_plugins(("list",), (), None, {"list": values}, hostname="mail.example.org", clock=FakeClock())


def test_a_name_that_leaves_no_room_for_its_bounces_stops_the_start() -> None:
    """RFC 5321 §4.5.3.1.1: the next host would refuse MAIL FROM:<…-bounces@example.org>."""
    values = {"lists": {f"{'d' * 60}@example.org": {"owner": ALICE}}}
    with pytest.raises(ConfigError, match="too long"):
        load_plugins(("list",), (), None, {"list": values}, hostname="mail.example.org", clock=FakeClock())


@pytest.mark.parametrize("role", ["owner", "bounces", "request"])
def test_hook_expand_recipient_gives_the_roles_to_the_owner(role: str) -> None:
    plugin = make()
    assert plugin.expand_recipient(parse_mailbox(f"Dev-{role}@example.org")) == [parse_mailbox(ALICE)]
    assert plugin.expand_recipient(parse_mailbox(f"dev-{role}@far.example")) is None


# In the server.


def test_hook_smtp_rcpt_refuses_who_may_not_post_before_anything_is_accepted() -> None:
    settings = {"lists": {LIST: {"owner": ALICE, "members": [BOB, "nobody@example.org", "carol@example.org"]}}}
    accounts = {ALICE: "secret", BOB: "secret", "carol@example.org": "secret"}
    with mail_server(accounts=accounts, plugins=Plugins(enabled=("list",)), plugin={"list": settings}) as server:
        for stranger, status in (("mallory@far.example", r"5\.7\.2"), ("", r"5\.7\.1")):
            with pytest.raises(smtplib.SMTPRecipientsRefused, match=status):
                server.send(stranger, [LIST], b"Subject: spam\r\n\r\n")
        server.send(BOB, [LIST], b"Subject: hello\r\n\r\nHello.\r\n")
        (mail,) = server.wait_for_mail("carol@example.org")
        assert mail.startswith(b"Return-Path: <dev-bounces@example.org>\r\nDelivered-To: carol@example.org\r\n")
        assert FIELDS in mail
        assert mail.endswith(b"Subject: hello\r\n\r\nHello.\r\n")
        server.wait_for_log("list_member_refused", member="nobody@example.org")
        server.wait_for_empty_queue()
        assert len(server.mailbox(BOB)) == 1
        server.send("", ["dev-bounces@example.org"], b"Subject: a bounce\r\n\r\n")
        (bounce,) = server.wait_for_mail(ALICE)
        assert b"Subject: a bounce" in bounce
