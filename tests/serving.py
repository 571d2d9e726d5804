"""A `mailserv` that runs in a process of its own, as an operator starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class Process:
    """A running command. Its standard error is read line by line; nothing waits by the clock."""

    def __init__(self, arguments: list[str], cwd: Path, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mailserv", *arguments],
            cwd=cwd,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.seen: list[str] = []

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stderr(self) -> IO[str]:
        assert self._process.stderr
        return self._process.stderr

    def until(self, pattern: str) -> re.Match[str]:
        """Read standard error up to a line that has the pattern. Fails when the process ends before."""
        assert self._process.stderr
        for line in self._process.stderr:
            self.seen.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"ended without {pattern!r}:\n{''.join(self.seen)}")

    def printed(self, end: str) -> str:
        """Standard output up to a line that holds `end`."""
        assert self._process.stdout
        text = ""
        for line in self._process.stdout:
            text += line
            if end in line:
                return text
        raise AssertionError(f"ended without {end!r}:\n{text}")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end: exit code, standard output, all of standard error."""
        out, err = self._process.communicate(timeout=30)
        return self._process.returncode, out, "".join(self.seen) + err

    def stop(self) -> tuple[int, str, str]:
        """SIGTERM, then `end`."""
        self.signal(signal.SIGTERM)
        return self.end()

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


@contextmanager
def running(*arguments: str, cwd: Path, **env: str) -> Iterator[Process]:
    process = Process(list(arguments), cwd, env)
    try:
        yield process
    finally:
        process.kill()


def port_of(ready: re.Match[str], service: str) -> int:
    found = re.search(rf"\b{service}=\S+:(\d+)", ready.string)
    assert found, ready.string
    return int(found[1])
