"""`mailserv serve` in one process after another, each killed, each begun in a fifth of a second.

python reborn.py CONFIG: for each line of standard input a child that serves until it dies. The parent has read all of
the program from disk once; a child has its own threads, sockets and database, as every `mailserv serve` has. What tells of
lives and deaths begins a line: who is killed while it logs leaves half of one.
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
        self._code = 0
        self.printed: list[str] = []

    def begin(self) -> str:
        """Start a life; the line that says that it is ready."""
        self.start()
        line = self.ready()
        assert line, "".join(self.printed)
        return line

    def start(self) -> int:
        """Start a life; its process id."""
        assert self._parent.stdin
        self._parent.stdin.write("live\n")
        self._child = int(self._line_with("life ").split()[1])
        return self._child

    def ready(self) -> str:
        """The line that says that it is ready; "" when it died before."""
        line = self._line_with("ready ", "died ")
        if line.startswith("ready "):
            return line
        self._ended(line)
        return ""

    def died(self) -> int:
        """Wait for its end; the exit code, as subprocess tells it."""
        if self._child:
            self._ended(self._line_with("died "))
        return self._code

    def kill(self) -> None:
        """kill -9, and wait until it is dead."""
        os.kill(self._child, signal.SIGKILL)
        assert self.died() == -signal.SIGKILL

    def end(self) -> None:
        """An orderly end."""
        os.kill(self._child, signal.SIGTERM)
        assert self.died() == 0

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

    def _ended(self, line: str) -> None:
        self._code = int(line.split()[1])
        self._child = 0

    def _line_with(self, *beginnings: str) -> str:
        assert self._parent.stderr
        for line in self._parent.stderr:
            self.printed.append(line)
            if line.startswith(beginnings):
                return line
        raise AssertionError(f"no {beginnings}:\n{''.join(self.printed)}")


def _live(config: str) -> None:
    """Never returns: `cli` exits."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    print("\nlife", os.getpid(), file=sys.stderr, flush=True)
    cli(["serve", "--config", config])


def main() -> None:
    for _ in sys.stdin:
        alive, held = os.pipe()
        child = os.fork()
        if not child:
            os.close(alive)
            _live(sys.argv[1])
        os.close(held)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.read(alive, 1)  # the end of the pipe: of its processes, too ([limits] processes), none is left
        os.close(alive)
        print("\ndied", code, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
