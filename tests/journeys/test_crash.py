"""docs/journeys/crash.md: kill -9 while twenty clients send; what got its 250 arrives (invariant 1, invariant 2)."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from crash_kit import (
    ALICE,
    REMOTE,
    Client,
    Fate,
    Lives,
    Parcel,
    WatchedMX,
    numbers_in_mailbox,
    numbers_in_sink,
    parcels,
)

MESSAGES = 500
SESSIONS = 20
KILLS = 20
STEPS = range(30, 3_000)  # of the more than 3,000 that the test has, whoever makes them


def send_all(lives: Lives, sending: list[Parcel], step: Callable[[], None]) -> list[Client]:
    bag: queue.SimpleQueue[Parcel] = queue.SimpleQueue()
    for parcel in sending:
        bag.put(parcel)
    clients = [Client(lives, bag, step) for _ in range(SESSIONS)]
    threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
        assert not thread.is_alive(), "a client was left waiting"
    return clients


def drain(lives: Lives, sink: WatchedMX) -> None:
    """Deliver what is left. After an orderly end the rows tell the truth: each is one more message for the sink."""
    for _ in range(5):
        store = lives.store()
        left = len(store.queue_list())
        store.close()
        if not left:
            return
        already = len(sink.messages)
        with lives.going_on():
            sink.wait_for_messages(already + left)
    raise AssertionError("the queue did not become empty")


@pytest.mark.crash
@pytest.mark.parametrize("processes", [1, 2])
def test_crash_no_acknowledged_message_is_missing_after_twenty_kills_invariant_1(
    tmp_path: Path, record_property: Callable[[str, object], None], processes: int
) -> None:
    began = time.monotonic()
    rng = random.Random(5321)
    sending = parcels(MESSAGES, rng)
    fate = Fate(rng.sample(STEPS, KILLS), lambda: lives.kill())
    with WatchedMX(fate.step) as sink:
        lives = Lives(tmp_path, sink.port, processes)
        with lives.going_on():
            clients = send_all(lives, sending, fate.step)
        assert lives.kills == KILLS
        drain(lives, sink)
        store = lives.store()
        mailbox, remote = numbers_in_mailbox(store), numbers_in_sink(sink)
        store.close()
    acknowledged = [parcel for client in clients for parcel in client.acknowledged]
    assert sorted(parcel.number for parcel in acknowledged) == list(range(MESSAGES))
    assert [answer for client in clients for answer in client.refused] == []
    local = {parcel.number for parcel in acknowledged if ALICE in parcel.recipients}
    away = {parcel.number for parcel in acknowledged if REMOTE in parcel.recipients}
    assert set(mailbox) == local
    assert set(remote) == away
    assert "level=error" not in "".join(lives.printed)
    record_property(
        "figures",
        f"crash test, processes={processes}: {MESSAGES} messages, {SESSIONS} sessions, {lives.kills} kills, "
        f"{sum(client.tries for client in clients)} tries, none missing, duplicates: "
        f"{mailbox.total() - len(local)} in the mailbox, {remote.total() - len(away)} at the remote host, "
        f"{time.monotonic() - began:.1f} s",
    )
