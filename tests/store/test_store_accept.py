"""Acceptance: a message is committed whole, once, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_kit import ALICE, BOB, BODY, CAROL, HOP, LARGE, PREFIX, count, spooled, text_of, to_mailbox, to_queue

from mailserv.errors import DuplicateError, StoreError
from mailserv.mail.address import NULL_REVERSE_PATH, Address
from mailserv.mail.message import Acceptance, BytesContent, Content, MailboxDelivery, Once, QueuedRecipient
from mailserv.mail.route import Route
from mailserv.mail.trace import TraceEntry
from mailserv.mail.value import replace
from mailserv.store.interface import Store
from mailserv.store.spool import FileContent
from mailserv.testing.clock import FakeClock


def fill(store: Store, queue_id: str, data: bytes) -> Content:
    writer = store.spool(queue_id)
    writer.write(data)
    return writer.finish()


def test_what_is_accepted_once_is_there_once_until_its_time_is_over(
    store: Store, clock: FakeClock, data_dir: Path
) -> None:
    once = Once("list Q0", clock.now() + 100.0)
    first = replace(to_queue("Q1", content=BytesContent(b"x" * LARGE), at=clock.now()), once=once)
    assert store.accept(first) == "Q1"
    assert store.accept(replace(first, queue_id="Q2")) == "Q1"
    assert len(spooled(data_dir)) == 1
    assert store.accepted_once("list Q0") == "Q1"
    assert store.accepted_once("list") is None
    assert [entry.queue_id for entry in store.queue_list()] == ["Q1"]
    clock.advance(100.0)
    assert store.accepted_once("list Q0") is None
    assert store.accept(replace(first, queue_id="Q3", received_at=clock.now())) == "Q3"


def test_what_is_refused_is_not_remembered(store: Store, clock: FakeClock) -> None:
    once = Once("list Q0", clock.now() + 100.0)
    with pytest.raises(StoreError):
        store.accept(replace(to_mailbox("Q1", "gone@example.org"), once=once))
    assert store.accepted_once("list Q0") is None


def test_one_acceptance_fills_mailboxes_queue_and_trace(store: Store, data_dir: Path) -> None:
    store.accept(
        Acceptance(
            queue_id="Q1",
            reverse_path=BOB,
            content=BytesContent(BODY),
            received_at=100.0,
            parameters={"BODY": "8BITMIME", "SMTPUTF8": ""},
            login=ALICE,
            mailboxes=(MailboxDelivery(ALICE, ALICE, PREFIX),),
            queued=(
                QueuedRecipient(CAROL, Address("list", "example.org"), HOP, {"NOTIFY": "NEVER"}),
                QueuedRecipient(Address("dave", "example.net"), CAROL, Route("lmtp", "box")),
            ),
            trace=(TraceEntry(100.0, "accepted"), TraceEntry(100.0, "routed", str(CAROL), {"n": 1, "f": 0.5})),
        )
    )
    (message,) = store.maildrop(ALICE)
    content = store.read(message)
    assert content is not None
    assert text_of(content) == PREFIX + BODY
    assert message.size == content.size == len(PREFIX + BODY)
    (delivery,), _ = store.claim(HOP, "node", 100.0, 200.0, 10)
    assert (delivery.queue_id, delivery.reverse_path, delivery.received_at) == ("Q1", BOB, 100.0)
    assert (delivery.parameters, delivery.login) == ({"BODY": "8BITMIME", "SMTPUTF8": ""}, ALICE)
    (row,) = delivery.rows
    assert (row.forward_path, row.original, row.parameters) == (
        CAROL,
        Address("list", "example.org"),
        {"NOTIFY": "NEVER"},
    )
    assert (row.attempts, row.delay_notified) == (0, False)
    assert [(e.event, e.recipient, dict(e.detail)) for e in store.trace("Q1")] == [
        ("accepted", "", {}),
        ("routed", str(CAROL), {"n": 1, "f": 0.5}),
    ]
    assert count(data_dir, "message") == 1


def test_the_null_reverse_path_comes_back_as_itself(store: Store) -> None:
    store.accept(
        Acceptance("Q1", NULL_REVERSE_PATH, BytesContent(b""), 1.0, queued=(QueuedRecipient(CAROL, CAROL, HOP),))
    )
    (delivery,), _ = store.claim(HOP, "node", 1.0, 2.0, 1)
    assert delivery.reverse_path.is_null
    assert text_of(delivery.content) == b""


@pytest.mark.parametrize("size", [0, 1, 4096, 64 * 1024, 64 * 1024 + 1, 256 * 1024, 256 * 1024 + 1, 2_000_000])
def test_content_of_any_size_comes_back_as_it_was(store: Store, data_dir: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    store.accept(
        Acceptance(
            "Q1",
            BOB,
            fill(store, "Q1", data),
            1.0,
            mailboxes=(MailboxDelivery(ALICE, ALICE, PREFIX),),
            queued=(QueuedRecipient(CAROL, CAROL, HOP),),
        )
    )
    (delivery,), _ = store.claim(HOP, "node", 1.0, 2.0, 1)
    copy = store.read(store.maildrop(ALICE)[0])
    assert copy is not None
    for _ in range(2):  # each reading starts anew
        assert text_of(delivery.content) == data
        assert text_of(copy) == PREFIX + data
    assert (delivery.content.size, copy.size) == (size, size + len(PREFIX))
    assert spooled(data_dir) == (["Q1"] if size > 256 * 1024 else [])


def test_large_content_that_no_writer_spooled_is_spooled_by_accept(store: Store, data_dir: Path) -> None:
    store.accept(to_mailbox("Q1", content=BytesContent(b"x" * LARGE)))
    assert spooled(data_dir) == ["Q1"]
    copy = store.read(store.maildrop(ALICE)[0])
    assert copy is not None
    assert text_of(copy) == PREFIX + b"x" * LARGE


def test_content_made_from_a_spooled_one_gets_a_file_of_its_own(store: Store, data_dir: Path) -> None:
    writer = store.spool("Q1")
    writer.write(b"x" * LARGE)
    original = writer.finish()
    assert isinstance(original, FileContent)

    class Edited:
        size = LARGE + 5

        def blocks(self):  # type: ignore[no-untyped-def]
            yield b"Head:"
            yield from original.blocks()

    store.accept(to_mailbox("Q1", content=Edited()))
    writer.discard()
    assert spooled(data_dir) == ["Q1.1"]
    copy = store.read(store.maildrop(ALICE)[0])
    assert copy is not None
    assert text_of(copy) == PREFIX + b"Head:" + b"x" * LARGE


def test_discarding_after_acceptance_does_no_harm(store: Store, data_dir: Path) -> None:
    writer = store.spool("Q1")
    writer.write(b"x" * LARGE)
    store.accept(to_mailbox("Q1", content=writer.finish()))
    writer.discard()
    assert spooled(data_dir) == ["Q1"]


def test_a_queue_id_is_accepted_once(store: Store, data_dir: Path) -> None:
    store.accept(to_mailbox("Q1"))
    with pytest.raises(DuplicateError, match="Q1"):
        store.accept(to_mailbox("Q1"))
    assert len(store.maildrop(ALICE)) == count(data_dir, "message") == count(data_dir, "trace") == 1


@pytest.mark.parametrize("queue_id", ["", "../etc/passwd", "a b", "a.b", "x" * 61, "q\n", "ü"])
def test_a_queue_id_that_could_be_no_file_name_is_refused(store: Store, queue_id: str) -> None:
    with pytest.raises(ValueError, match="queue id"):
        store.accept(to_mailbox(queue_id))
    with pytest.raises(ValueError, match="queue id"):
        store.spool(queue_id)


def test_local_delivery_is_idempotent_per_account_and_recipient(store: Store) -> None:
    store.add_account("bob@example.org", "hash", 1.0)
    twice = MailboxDelivery(ALICE, "all@example.org", PREFIX)
    store.accept(
        Acceptance(
            "Q1",
            BOB,
            BytesContent(BODY),
            1.0,
            mailboxes=(twice, twice, MailboxDelivery("bob@example.org", "all@example.org", PREFIX)),
        )
    )
    assert len(store.maildrop(ALICE)) == 1
    assert len(store.maildrop("bob@example.org")) == 1


def test_a_mailbox_whose_account_is_gone_refuses_the_whole_message(store: Store, data_dir: Path) -> None:
    writer = store.spool("Q1")
    writer.write(b"x" * LARGE)
    content = writer.finish()
    with pytest.raises(StoreError, match=r"nobody@example\.org"):
        store.accept(to_mailbox("Q1", ALICE, "nobody@example.org", content=content))
    assert store.maildrop(ALICE) == []
    assert store.trace("Q1") == []
    assert spooled(data_dir) == []
    assert count(data_dir, "message") == 0


def test_a_message_for_nobody_leaves_its_trace_only(store: Store, data_dir: Path) -> None:
    writer = store.spool("Q1")
    writer.write(b"x" * LARGE)
    store.accept(Acceptance("Q1", BOB, writer.finish(), 1.0, trace=(TraceEntry(1.0, "accepted"),)))
    assert [entry.event for entry in store.trace("Q1")] == ["accepted"]
    assert count(data_dir, "message") == 0
    assert spooled(data_dir) == []


def test_destinations_with_due_rows_are_called_back_once_for_each_commit_before_accept_returns(store: Store) -> None:
    calls: list[frozenset[Route]] = []
    store.on_queued(calls.append)
    store.accept(to_mailbox("Q1"))
    assert calls == []
    other = Route("smtp", "example.net")
    store.accept(
        Acceptance(
            "Q2",
            BOB,
            BytesContent(BODY),
            1.0,
            queued=(
                QueuedRecipient(CAROL, CAROL, HOP),
                QueuedRecipient(BOB, BOB, HOP),
                QueuedRecipient(BOB, BOB, other),
            ),
        )
    )
    assert calls == [frozenset({HOP, other})]


def test_a_callback_that_raises_harms_neither_the_writer_nor_the_acceptance(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(routes: frozenset[Route]) -> None:
        raise RuntimeError("listener's mistake")

    store.on_queued(broken)
    store.accept(to_queue("Q1"))
    store.accept(to_queue("Q2"))
    assert len(store.queue_list()) == 2
    assert "store_callback_failed" in capfd.readouterr().err


def test_a_callback_that_would_wait_for_the_writer_is_told_so(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    store.on_queued(lambda routes: store.renew("node", 1.0))
    store.accept(to_queue("Q1"))
    assert "may only signal" in capfd.readouterr().err


def test_text_that_is_no_text_fails_its_own_message_only(store: Store) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        store.accept(to_queue("Q1", Address("\ud800", "example.net")))
    store.accept(to_queue("Q2"))
    assert [entry.queue_id for entry in store.queue_list()] == ["Q2"]
