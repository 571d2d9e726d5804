"""One run of a command: content on its standard input, what it prints kept in part, and an end that always comes."""

from __future__ import annotations

import os
import pwd
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

KEPT = 4096  # octets of what the command prints; the rest is read and forgotten
PIPE_SIZE = 65_536  # octets written at once: as much as a pipe holds


@dataclass(frozen=True, slots=True)
class Ran:
    """`code` as `subprocess` has it: negative for a signal; None when the time was over."""

    code: int | None
    output: bytes


def run(
    argv: Sequence[str],
    environment: Mapping[str, str],
    directory: str,
    user: str,
    blocks: Iterator[bytes],
    seconds: float,
) -> Ran:
    """Any thread. Raises OSError (or KeyError for a user who is not there) when it cannot be started.

    Whatever `blocks` raises comes through. Until then, and when the time is over, the command has not seen the end of
    its input: it is killed before that is closed. What it started and left in its process group is killed, too.
    """
    entry = pwd.getpwnam(user) if user else None
    process = subprocess.Popen(
        [argument.encode() for argument in argv],
        env={name.encode(): value.encode() for name, value in environment.items()},
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        start_new_session=True,  # a process group of its own, which can be killed as a whole
        umask=0o077,
        user=entry.pw_uid if entry else None,
        group=entry.pw_gid if entry else None,
        extra_groups=[] if entry else None,
    )
    talk = _Talk(process, blocks)
    try:
        in_time = talk.until(time.monotonic() + seconds)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it is not waited for yet, so its number is still its own
        code = process.wait()
        talk.close()
    return Ran(code if in_time else None, bytes(talk.output))


class _Talk:
    """Feeds and hears a process. Neither side can stop the other: nothing here blocks but the wait for both."""

    def __init__(self, process: subprocess.Popen[bytes], blocks: Iterator[bytes]) -> None:
        assert process.stdin
        assert process.stdout
        self._stdin, self._stdout = process.stdin, process.stdout
        self._blocks = blocks
        self._rest = memoryview(b"")
        self._ended = False
        self.output = bytearray()
        self._process = os.pidfd_open(process.pid)
        self._selector = selectors.DefaultSelector()
        for file in (self._stdin, self._stdout):
            os.set_blocking(file.fileno(), False)
        self._selector.register(self._stdin, selectors.EVENT_WRITE, self._write)
        self._selector.register(self._stdout, selectors.EVENT_READ, self._read)
        self._selector.register(self._process, selectors.EVENT_READ, self._end)

    def until(self, deadline: float) -> bool:
        """Go on until the process has ended; False when `deadline` (monotonic seconds) came first."""
        while not self._ended:
            wait = deadline - time.monotonic()
            if wait <= 0:
                return False
            for key, _ in self._selector.select(wait):
                key.data()
        while self._stdout in self._selector.get_map() and self._read():
            pass  # what it printed last
        return True

    def close(self) -> None:
        """Once the process is gone."""
        self._selector.close()
        self._stdin.close()
        self._stdout.close()
        os.close(self._process)

    def _write(self) -> None:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                self._drop_input()
                return
            self._rest = memoryview(block)
        try:
            self._rest = self._rest[os.write(self._stdin.fileno(), self._rest[:PIPE_SIZE]) :]
        except BlockingIOError:
            pass  # a pipe that is nearly full
        except BrokenPipeError:
            self._drop_input()  # it wants no more: its exit code says whether that is well

    def _drop_input(self) -> None:
        self._selector.unregister(self._stdin)
        self._stdin.close()

    def _read(self) -> bool:
        """Whether something came."""
        try:
            data = os.read(self._stdout.fileno(), PIPE_SIZE)
        except BlockingIOError:
            return False
        if not data:
            self._selector.unregister(self._stdout)
        self.output += data[: KEPT - len(self.output)]
        return bool(data)

    def _end(self) -> None:
        self._ended = True
