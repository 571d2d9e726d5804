"""kill -9 while mail comes in: whatever was acknowledged is there afterwards (invariant_1)."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from store_kit import ALICE, LARGE, PREFIX, behind, spooled, text_of

from mailserv.store.sqlite import open_store
from mailserv.testing.clock import FakeClock

CHILD = """
import sys, threading
from pathlib import Path
from mailserv.clock import SystemClock
from mailserv.store.sqlite import open_store
from store_kit import LARGE, to_mailbox

life = sys.argv[2]
store = open_store(Path(sys.argv[1]), SystemClock())
def work(thread):
    for number in range(100000):
        queue_id = f"L{life}-{thread}-{number}"
        writer = store.spool(queue_id)
        writer.write(queue_id.encode() * (LARGE // 5 if number % 10 == 9 else 1))
        store.accept(to_mailbox(queue_id, content=writer.finish()))
        sys.stdout.write(queue_id + chr(10)); sys.stdout.flush()
for thread in range(8):
    threading.Thread(target=work, args=(thread,), daemon=True).start()
threading.Event().wait()
"""


@pytest.mark.crash
def test_what_was_acknowledged_survives_a_kill_at_any_moment_invariant_1(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    clock = FakeClock()
    rng = random.Random(5321)
    store = open_store(data_dir, clock)
    store.add_account(ALICE, "hash", 1.0)
    store.close()
    acknowledged: set[str] = set()
    for life in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(data_dir), str(life)],
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(Path(__file__).parent)},
        ) as child:
            assert child.stdout is not None
            for _ in range(rng.randrange(1, 400)):
                acknowledged.add(child.stdout.readline().strip())
            child.kill()
            acknowledged |= {line.strip() for line in child.stdout if line.endswith("\n")}
    store = open_store(data_dir, clock)
    mailbox = {message.unique_id.removesuffix(".0"): message for message in store.maildrop(ALICE)}
    assert acknowledged - set(mailbox) == set()
    assert len(acknowledged) > 100
    for queue_id, message in mailbox.items():
        content = store.read(message)
        assert content is not None
        number = int(queue_id.rsplit("-", 1)[1])
        assert text_of(content) == PREFIX + queue_id.encode() * (LARGE // 5 if number % 10 == 9 else 1)
    with behind(data_dir) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        named = [row[0] for row in connection.execute("SELECT file FROM message WHERE file IS NOT NULL ORDER BY file")]
    assert spooled(data_dir) == named
    assert named
    assert all(re.fullmatch(r"L\d-\d-\d*9", name) for name in named)
    store.close()
