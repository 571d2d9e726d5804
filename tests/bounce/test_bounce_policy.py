"""Who is told what when an attempt has ended."""

from __future__ import annotations

import pytest
from bouncing import BOB, BUSY, NO_USER, NOW, bouncer, data, delayed, delivery, failed, parsed, row, words

from mailserv.mail.address import NULL_REVERSE_PATH, Address
from mailserv.mail.message import Acceptance
from mailserv.mail.outcome import Delivered
from mailserv.mail.reply import NO_POSTMASTER, OK
from mailserv.mail.resolution import Resolution
from mailserv.mail.route import Route

ROOT = "root@example.org"
NULL = delivery(reverse_path=NULL_REVERSE_PATH)
GONE = delivery(reverse_path=Address("gone", "example.org"))
POSTMASTER = Address("postmaster", "mx.example.org")


def accounts(acceptance: Acceptance) -> list[str]:
    return [mailbox.account for mailbox in acceptance.mailboxes]


# Failures.


def test_a_failure_is_told_to_a_local_sender_in_his_mailbox() -> None:
    notice = failed()
    [mailbox] = notice.mailboxes
    assert mailbox.account == mailbox.recipient == "alice@example.org"
    assert mailbox.prefix == b"Return-Path: <>\r\nDelivered-To: alice@example.org\r\n"
    assert notice.queued == ()
    assert parsed(notice)["To"] == "alice@example.org"


def test_a_failure_is_told_to_a_remote_sender_through_the_queue() -> None:
    notice = failed(about=delivery(reverse_path=BOB))
    [queued] = notice.queued
    assert (queued.forward_path, queued.original, queued.route) == (BOB, BOB, Route("smtp", "example.net"))
    assert notice.mailboxes == ()


def test_a_failure_follows_the_aliases_of_the_reverse_path() -> None:
    info = Address("info", "example.org")
    notice = failed(about=delivery(reverse_path=info))
    assert accounts(notice) == ["alice@example.org"]
    assert [(str(q.forward_path), q.original) for q in notice.queued] == [("dave@example.com", info)]


def test_invariant_3_a_notice_comes_from_the_null_reverse_path() -> None:
    for notice in (failed(), delayed(), failed(about=NULL), failed(about=GONE)):
        assert notice.reverse_path == NULL_REVERSE_PATH
        assert notice.login == notice.peer_ip == ""


def test_a_notice_has_a_queue_id_of_its_own_and_begins_its_own_trace() -> None:
    notice = failed()
    assert notice.queue_id != "ORIGINALQID00001"
    assert notice.received_at == NOW
    accepted, routed = notice.trace
    assert (accepted.event, accepted.at) == ("accepted", NOW)
    assert accepted.detail == {
        "notice": "failed",
        "about": "ORIGINALQID00001",
        "reverse_path": "",
        "size": notice.content.size,
    }
    assert (routed.event, routed.recipient) == ("routed", "alice@example.org")
    assert routed.detail == {"to": "mailbox:alice@example.org", "steps": "mailbox"}


def test_all_failed_recipients_of_one_delivery_are_in_one_notice() -> None:
    notice = failed((row("bob@example.net"), NO_USER), (row("carol@example.net"), NO_USER))
    assert "<bob@example.net>" in words(notice)
    assert "<carol@example.net>" in words(notice)


def test_what_was_delivered_is_not_told_as_a_failure() -> None:
    assert bouncer().failed(delivery(), [(row(), Delivered(OK))], NOW) == ()
    notice = failed((row("bob@example.net"), NO_USER), (row("carol@example.net"), Delivered(OK)))
    assert "carol" not in words(notice)


def test_nothing_failed_is_nothing_told() -> None:
    assert bouncer().failed(delivery(), [], NOW) == ()
    assert bouncer().failed(NULL, [], NOW) == ()
    assert bouncer().delayed(delivery(), [], NOW, NOW) == ()


@pytest.mark.parametrize(
    ("notify", "told"),
    [
        (None, True),
        ("FAILURE", True),
        ("failure", True),
        ("SUCCESS,FAILURE,DELAY", True),
        ("DELAY, FAILURE", True),
        ("NEVER", False),
        ("never", False),
        ("SUCCESS", False),
        ("SUCCESS,DELAY", False),
        ("", True),
    ],
)
@pytest.mark.parametrize("about", [delivery(), NULL, GONE], ids=["sender", "null", "gone"])
def test_notify_says_whether_a_failure_is_told(notify: str | None, told: bool, about: object) -> None:
    parameters = {} if notify is None else {"NOTIFY": notify}
    made = bouncer().failed(about, [(row(parameters=parameters), NO_USER)], NOW)  # type: ignore[arg-type]
    assert len(made) == told


def test_notify_is_asked_for_each_recipient() -> None:
    notice = failed(
        (row("bob@example.net"), NO_USER), (row("carol@example.net", parameters={"NOTIFY": "NEVER"}), NO_USER)
    )
    assert "carol" not in words(notice)


# Double bounces.


def test_invariant_3_a_message_from_null_is_not_answered_but_told_to_postmaster() -> None:
    notice = failed(about=NULL)
    assert accounts(notice) == [ROOT]
    assert parsed(notice)["To"] == "postmaster@mx.example.org"
    assert "from <> could not be delivered" in words(notice)
    assert "never answered" in words(notice)
    assert notice.trace[0].detail["notice"] == "untold"


def test_a_reverse_path_that_is_refused_here_sends_the_notice_to_postmaster() -> None:
    notice = failed(about=GONE)
    assert accounts(notice) == [ROOT]
    assert "from <gone@example.org>" in words(notice)
    assert "its sender can't be told: 550 5.1.1 No such user here" in words(notice)
    assert "<bob@example.net>" in words(notice)


def test_a_postmaster_elsewhere_can_be_named() -> None:
    boss = Address("boss", "example.com")
    notice = failed(about=NULL, postmaster=boss)
    assert [q.forward_path for q in notice.queued] == [boss]
    assert parsed(notice)["To"] == "boss@example.com"


@pytest.mark.parametrize(
    "original",
    [POSTMASTER, Address("PostMaster", ""), Address("postmaster", "example.org"), Address("boss", "example.com")],
)
def test_a_failure_of_what_was_told_to_postmaster_is_told_nobody(original: Address) -> None:
    lost = row("root@example.com", original=original)
    made = bouncer(postmaster=Address("boss", "example.com")).failed(NULL, [(lost, NO_USER)], NOW)
    assert made == ()


def test_every_chain_of_notices_ends() -> None:
    """Each notice fails in its turn: the sender's, then postmaster's, then silence."""
    elsewhere = Address("boss", "example.com")

    def all_remote(address: Address) -> Resolution:
        return Resolution(remotes=((elsewhere, Route("smtp", "example.com")),), is_local=True)

    made = bouncer(resolve=all_remote)
    [notice] = made.failed(delivery(), [(row(), NO_USER)], NOW)
    chain = [notice]
    for _ in range(10):
        queued = chain[-1].queued[0]
        about = delivery(data(chain[-1]), queue_id=chain[-1].queue_id, reverse_path=chain[-1].reverse_path)
        lost = row(str(queued.forward_path), original=queued.original)
        chain += made.failed(about, [(lost, NO_USER)], NOW)
        if len(chain) > 2:
            break
    about = delivery(data(chain[-1]), queue_id=chain[-1].queue_id, reverse_path=NULL_REVERSE_PATH)
    lost = row("boss@example.com", original=chain[-1].queued[0].original)
    assert [notice.trace[0].detail["notice"] for notice in chain] == ["failed", "untold"]
    assert made.failed(about, [(lost, NO_USER)], NOW) == ()


def test_mail_from_a_sender_to_postmaster_that_fails_is_told_to_that_sender() -> None:
    assert accounts(failed((row("postmaster@example.net"), NO_USER))) == ["alice@example.org"]


def test_without_a_postmaster_mailbox_there_is_nobody_to_tell() -> None:
    made = bouncer(resolve=lambda _: Resolution(refusal=NO_POSTMASTER))
    assert made.failed(NULL, [(row(), NO_USER)], NOW) == ()
    assert made.failed(delivery(), [(row(), NO_USER)], NOW) == ()


# Delays.


def test_a_delay_is_told_to_our_own_senders() -> None:
    assert accounts(delayed()) == ["alice@example.org"]
    assert [q.forward_path for q in delayed(about=delivery(reverse_path=BOB, login="alice@example.org")).queued] == [
        BOB
    ]


@pytest.mark.parametrize(
    ("about", "more"),
    [
        (delivery(reverse_path=BOB), {}),
        (NULL, {}),
        (delivery(reverse_path=NULL_REVERSE_PATH, login="alice@example.org"), {"parameters": {"NOTIFY": "DELAY"}}),
        (GONE, {}),
        (delivery(), {"delay_notified": True}),
        (delivery(), {"parameters": {"NOTIFY": "NEVER"}}),
        (delivery(), {"parameters": {"NOTIFY": "FAILURE"}}),
        (delivery(), {"delay_notified": True, "parameters": {"NOTIFY": "DELAY"}}),
    ],
    ids=["stranger", "null", "null with NOTIFY", "gone", "told already", "NEVER", "FAILURE only", "told as asked"],
)
def test_a_delay_is_told_nobody_else_and_not_twice(about: object, more: dict[str, object]) -> None:
    assert bouncer().delayed(about, [(row(**more), BUSY)], NOW, NOW + 1) == ()  # type: ignore[arg-type]


def test_a_delay_is_told_to_whoever_asked_for_it() -> None:
    asked = row(parameters={"NOTIFY": "FAILURE,DELAY"})
    notice = delayed((asked, BUSY), about=delivery(reverse_path=BOB))
    assert [q.forward_path for q in notice.queued] == [BOB]


def test_a_delay_is_told_for_those_rows_only_that_have_not_been_told() -> None:
    notice = delayed((row("bob@example.net"), BUSY), (row("carol@example.net", delay_notified=True), BUSY))
    assert "bob@example.net" in words(notice)
    assert "carol" not in words(notice)
