"""A command beside the server leaves it its turn."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from store_kit import ALICE, HOP, behind, count, to_mailbox, to_queue

from mailserv.clock import SystemClock
from mailserv.mail.address import Address
from mailserv.store.beside import Beside
from mailserv.store.interface import Store
from mailserv.store.nudge import Listener
from mailserv.store.sqlite import open_store
from mailserv.testing.clock import FakeClock


class Stepping:
    """A clock that takes a step at each reading."""

    def __init__(self, step: float) -> None:
        self.step, self.at = step, 0.0

    def now(self) -> float:
        return self.monotonic()

    def monotonic(self) -> float:
        self.at += self.step
        return self.at


class Waits:
    """Stands in for the event that never comes, and remembers how long it was waited for."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def wait(self, timeout: float) -> bool:
        self.seconds.append(timeout)
        return False


@pytest.mark.parametrize(("took", "rest"), [(0.0, 0.0), (0.03, 0.03), (5.0, 0.1)])
def test_it_rests_as_long_as_it_worked_within_bounds(tmp_path: Path, took: float, rest: float) -> None:
    waits = Waits()
    beside = Beside(tmp_path, Stepping(took), never=waits)
    beside.tell()
    beside.rest()
    assert waits.seconds == []  # no server runs: no reason to rest
    listener = Listener(tmp_path / "nudge", lambda: None, lambda _: None)
    beside.tell()
    beside.rest()
    assert waits.seconds == [pytest.approx(rest)]
    listener.close()


def test_a_server_s_mail_comes_through_while_a_command_drops_a_long_queue(store: Store, data_dir: Path) -> None:
    recipients = [Address(f"user{number}", "example.com") for number in range(100)]
    with behind(data_dir) as connection:
        connection.execute("BEGIN")
        for number in range(3):
            connection.execute(
                """INSERT INTO message (queue_id, reverse_path, parameters, received_at, login, peer_ip, size, content)
                VALUES (?, '', '{}', 1, '', '', 0, x'')""",
                (f"Q{number}",),
            )
            message_id = connection.execute("SELECT max(id) FROM message").fetchone()[0]
            connection.executemany(
                """INSERT INTO queue (message_id, state, transport, next_hop, not_before, forward_path, original, parameters)
                VALUES (?, 'ready', 'smtp', 'example.com', 1, ?, '', '{}')""",
                [(message_id, str(recipient)) for recipient in recipients],
            )
        connection.execute("COMMIT")
    command = open_store(data_dir, SystemClock(), exclusive=False)
    dropped: list[int] = []
    thread = threading.Thread(target=lambda: dropped.append(command.queue_drop([], 1.0)))
    thread.start()
    accepted = 0
    while thread.is_alive():
        store.accept(to_mailbox(f"M{accepted}"))
        accepted += 1
    thread.join()
    command.close()
    assert dropped == [300]
    assert count(data_dir, "queue") == 0
    assert len(store.maildrop(ALICE)) == accepted > 0


def test_a_command_s_callbacks_work_like_the_server_s(data_dir: Path, clock: FakeClock) -> None:
    command = open_store(data_dir, clock, exclusive=False)
    heard: list[object] = []
    command.on_queued(heard.append)
    command.accept(to_queue("Q1"))
    command.close()
    assert heard == [frozenset({HOP})]
