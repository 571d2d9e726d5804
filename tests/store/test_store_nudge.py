"""A running server hears of what another process changed, without polling, and nobody minds when no server runs."""

from __future__ import annotations

import os
import queue
import time
from pathlib import Path

import pytest
from store_kit import ALICE, HOP, to_queue

from mailserv.errors import StoreUnavailable
from mailserv.mail.route import Route
from mailserv.store.interface import Store
from mailserv.store.nudge import Listener, nudge
from mailserv.store.sqlite import open_store
from mailserv.testing.clock import FakeClock

WAIT = 10.0  # seconds; what is waited for comes at once


def test_an_operator_s_release_in_another_process_wakes_the_queue(
    store: Store, data_dir: Path, clock: FakeClock
) -> None:
    store.accept(to_queue("Q1"))
    store.queue_hold([])
    heard: queue.SimpleQueue[frozenset[Route]] = queue.SimpleQueue()
    store.on_queued(heard.put)
    command = open_store(data_dir, clock, exclusive=False)
    command.queue_release([], clock.now())
    assert heard.get(timeout=WAIT) == frozenset({HOP})
    command.close()


def test_an_account_removed_in_another_process_is_forgotten(store: Store, data_dir: Path, clock: FakeClock) -> None:
    command = open_store(data_dir, clock, exclusive=False)
    command.remove_account(ALICE)
    command.close()
    deadline = time.monotonic() + WAIT
    while store.has_account(ALICE) and time.monotonic() < deadline:
        os.sched_yield()
    assert not store.has_account(ALICE)


def test_rows_that_are_not_due_wake_nobody(store: Store, data_dir: Path, clock: FakeClock) -> None:
    heard: queue.SimpleQueue[frozenset[Route]] = queue.SimpleQueue()
    store.on_queued(heard.put)
    command = open_store(data_dir, clock, exclusive=False)
    command.accept(to_queue("Q1", at=clock.now() + 1000))
    command.accept(to_queue("Q2", route=Route("lmtp", "box"), at=clock.now()))
    command.close()
    assert heard.get(timeout=WAIT) == frozenset({Route("lmtp", "box")})


def test_every_nudge_is_followed_by_a_look(tmp_path: Path) -> None:
    looks: queue.SimpleQueue[None] = queue.SimpleQueue()
    listener = Listener(tmp_path / "nudge", lambda: looks.put(None), lambda _: None)
    for _ in range(3):
        assert nudge(tmp_path / "nudge")
        looks.get(timeout=WAIT)
    listener.close()
    listener.close()


def test_a_flood_of_nudges_blocks_nobody(tmp_path: Path) -> None:
    looking, go_on, looks = queue.SimpleQueue[None](), queue.SimpleQueue[None](), []

    def look() -> None:
        looks.append(1)
        looking.put(None)
        go_on.get(timeout=WAIT)

    listener = Listener(tmp_path / "nudge", look, lambda _: None)
    assert nudge(tmp_path / "nudge")
    looking.get(timeout=WAIT)
    assert all(nudge(tmp_path / "nudge") for _ in range(70_000))  # more than a FIFO holds
    for _ in range(100):
        go_on.put(None)
    looking.get(timeout=WAIT)  # what came meanwhile is looked at, if only once or a few times
    listener.close()
    assert len(looks) < 100


def test_a_look_that_fails_is_logged_and_the_next_one_is_made(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    looks: queue.SimpleQueue[None] = queue.SimpleQueue()

    def look() -> None:
        looks.put(None)
        raise StoreUnavailable("busy")

    listener = Listener(tmp_path / "nudge", look, lambda _: None)
    for _ in range(2):
        nudge(tmp_path / "nudge")
        looks.get(timeout=WAIT)
    listener.close()
    assert "store_nudge_failed" in capfd.readouterr().err


def test_without_a_server_a_nudge_says_so(tmp_path: Path) -> None:
    path = tmp_path / "nudge"
    assert not nudge(path)
    listener = Listener(path, lambda: None, lambda _: None)
    listener.close()
    assert path.is_fifo()
    assert not nudge(path)
    path.unlink()
    path.write_text("a file that somebody left")
    assert not nudge(path)
    assert path.read_text() == "a file that somebody left"
    listener = Listener(path, lambda: None, lambda _: None)
    assert nudge(path)
    listener.close()


def test_a_server_works_where_no_fifo_can_be_made(
    data_dir: Path, clock: FakeClock, capfd: pytest.CaptureFixture[str]
) -> None:
    data_dir.mkdir()
    (data_dir / "nudge").mkdir()
    (data_dir / "nudge" / "full").touch()
    store = open_store(data_dir, clock)
    store.add_account(ALICE, "hash", 1.0)
    assert store.has_account(ALICE)
    assert "store_no_nudge" in capfd.readouterr().err
    store.close()


def test_the_path_may_be_longer_than_a_socket_s(tmp_path: Path, clock: FakeClock) -> None:
    data_dir = tmp_path / ("x" * 100) / ("y" * 100)
    assert len(str(data_dir / "nudge")) > 108
    store = open_store(data_dir, clock)
    assert nudge(data_dir / "nudge")
    store.close()


def test_a_server_that_leaves_in_the_middle_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "nudge"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    assert nudge(path)
    os.close(reader)
    assert not nudge(path)
