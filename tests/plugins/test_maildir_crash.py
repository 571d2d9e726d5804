"""A server that is killed again and again while it delivers into a Maildir that somebody reads."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import time
from collections import Counter
from pathlib import Path

import pytest
from serving import port_of, running

from mailserv.clock import SystemClock
from mailserv.store.sqlite import open_store

READY = r"^ready "
DELIVERED = "event=delivery .*outcome=delivered"
LIVES = 8
MESSAGES = 5  # of one life
CONFIG = """hostname = "mail.example.org"
data_dir = "data"
local_domains = ["example.org"]
postmaster = "bob@example.org"
limits = {{ sessions_per_ip = 0, connections_per_minute = 0 }}
[[listen]]
service = "smtp"
address = "127.0.0.1:0"
[plugins]
enabled = ["maildir"]
[plugin.maildir]
path = "{folder}/{{local_part}}"
domains = ["example.org"]
"""


def waiting(folder: Path) -> int:
    """Rows of the queue, while no server runs."""
    store = open_store(folder / "data", SystemClock(), exclusive=False)
    try:
        return len(store.queue_list())
    finally:
        store.close()


def read_all(maildir: Path, flag: str) -> None:
    """What a mail reader does: it moves new mail to cur, and flags it. Each life's flag is another: no copy hides one."""
    for file in list((maildir / "new").iterdir()):
        file.rename(maildir / "cur" / f"{file.name}:2,{flag}")


def wait_for(count: int, folder: Path) -> None:
    """Return at the very moment when the last of so many files is there: its outcome cannot be committed yet."""
    end = time.monotonic() + 30
    while not folder.exists() or len(os.listdir(folder)) < count:
        assert time.monotonic() < end


@pytest.mark.crash
def test_no_message_is_missing_and_none_is_there_twice_invariant_2(tmp_path: Path) -> None:
    """The kill falls between a rename and the commit of its outcome, and a reader has moved the file by the next life."""
    maildir = tmp_path / "mail" / "bob"
    maildir.mkdir(parents=True)
    (tmp_path / "mailserv.toml").write_text(CONFIG.format(folder=tmp_path / "mail"))
    for life in range(LIVES):
        with running("serve", "--config", "mailserv.toml", cwd=tmp_path) as process:
            port = port_of(process.until(READY), "smtp")
            client = smtplib.SMTP("127.0.0.1", port, "client.example.net", timeout=30)
            for number in range(life * MESSAGES, (life + 1) * MESSAGES):
                client.sendmail("carol@far.example", ["bob@example.org"], b"X-Number: %d\r\n\r\nHello.\r\n" % number)
            wait_for(MESSAGES, maildir / "new")
            process.signal(signal.SIGKILL)
            client.close()
        read_all(maildir, "DFPRSTab"[life])
    left = waiting(tmp_path)
    with running("serve", "--config", "mailserv.toml", cwd=tmp_path) as process:
        process.until(READY)
        already = sum(
            bool(re.search(DELIVERED, line)) for line in process.seen
        )  # the queue starts before the line "ready"
        for _ in range(left - already):
            process.until(DELIVERED)
        assert process.stop()[0] == 0
    assert waiting(tmp_path) == 0
    texts = [path.read_bytes() for part in ("new", "cur") for path in (maildir / part).iterdir()]
    copies = Counter(int(found[1]) for text in texts if (found := re.search(rb"^X-Number: (\d+)$", text, re.MULTILINE)))
    assert copies == dict.fromkeys(range(LIVES * MESSAGES), 1)
