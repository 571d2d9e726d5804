"""`mailserv serve` in one process after another, each killed, each begun in a fifth of a second.

python reborn.py CONFIG: for each line of standard input a child that serves until it dies. The parent has read all of
the program from disk once; a child has its own threads, sockets and database, as every `mailserv serve` has.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from mailserv.cli.main import cli


class Reborn:
    """The test's side. One thread."""

    def __init__(self, config: Path) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, __file__, str(config)],
            cwd=config.parent,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._child = 0
        self.printed: list[str] = []

    def begin(self) -> str:
        """Start a life; the line that says that it is ready."""
        assert self._parent.stdin
        self._parent.stdin.write("live\n")
        self._child = int(self._line_with("life ").split()[1])
        return self._line_with("ready ")

    def kill(self) -> None:
        """kill -9, and wait until it is dead."""
        os.kill(self._child, signal.SIGKILL)
        assert self._died() == -signal.SIGKILL

    def end(self) -> None:
        """An orderly end."""
        os.kill(self._child, signal.SIGTERM)
        assert self._died() == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._parent as parent:
            if self._child:
                os.kill(self._child, signal.SIGKILL)
            assert parent.stdin
            parent.stdin.close()

    def _died(self) -> int:
        code = int(self._line_with("died ").split()[1])
        self._child = 0
        return code

    def _line_with(self, beginning: str) -> str:
        assert self._parent.stderr
        for line in self._parent.stderr:
            self.printed.append(line)
            if line.startswith(beginning):
                return line
        raise AssertionError(f"no {beginning!r}:\n{''.join(self.printed)}")


def _live(config: str) -> None:
    """Never returns: `cli` exits."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    print("life", os.getpid(), file=sys.stderr, flush=True)
    cli(["serve", "--config", config])


if __name__ == "__main__":
    for _ in sys.stdin:
        child = os.fork()
        if not child:
            _live(sys.argv[1])
        print("died", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=sys.stderr, flush=True)
