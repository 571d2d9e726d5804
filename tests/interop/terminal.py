"""A program that wants a terminal, on one that nobody looks at."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import termios
import time
from pathlib import Path

from interop_kit import PATH, SECONDS


def on_terminal(*command: str | Path, home: Path, end_at: bytes) -> bytes:
    """Run it to its end; what it painted. When that holds `end_at`, the program waits for a person, and is ended."""
    ours, its = pty.openpty()
    try:
        termios.tcsetwinsize(its, (24, 80))
        env = {"PATH": PATH, "HOME": str(home), "LC_ALL": "C.UTF-8", "TERM": "xterm"}
        process = subprocess.Popen(
            command, cwd=home, env=env, stdin=its, stdout=its, stderr=its, start_new_session=True
        )
    finally:
        os.close(its)
    with process:
        try:
            return _painted(ours, end_at)
        finally:
            process.kill()
            os.close(ours)


def _painted(terminal: int, end_at: bytes) -> bytes:
    painted = b""
    end = time.monotonic() + SECONDS
    while end_at not in painted:
        assert select.select([terminal], [], [], end - time.monotonic())[0], painted[-2000:]
        try:
            data = os.read(terminal, 65536)
        except OSError:  # EIO: nobody has the other side any more
            return painted
        painted += data
    return painted
