"""postfix's smtp-sink: the next hop that takes everything and counts."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader

from bench.errors import Failed
from bench.server import PATH
from bench.tree import Tree
from bench.waiting import START_SECONDS, free_port, greeted, wait_until

BACKLOG = 200


class Sink:
    """It runs. `messages` is what it has taken so far."""

    def __init__(self, port: int, tree: Tree, counters: BufferedReader) -> None:
        self.port = port
        self.tree = tree
        self.messages = 0
        self._counters = counters
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        """Each counter overwrites the one before; what was read last is nearest to the truth."""
        while block := self._counters.read1(65536):
            if found := re.findall(rb"mesg=(\d+)\s", block):
                self.messages = int(found[-1])

    def must_have(self, count: int) -> None:
        """Failed when it has taken another number: something came twice."""
        if self.messages != count:
            raise Failed(f"the next hop has taken {self.messages} messages instead of {count}")

    def join(self) -> None:
        self._reader.join(START_SECONDS)


@contextmanager
def smtp_sink() -> Iterator[Sink]:
    port = free_port()
    as_root = ["-u", "nobody"] if os.geteuid() == 0 else []  # it asks for that
    command = ["smtp-sink", "-c", *as_root, "-h", "sink.example.net", f"inet:127.0.0.1:{port}", str(BACKLOG)]
    with tempfile.TemporaryDirectory(prefix="bench-sink-") as folder:
        try:
            process = subprocess.Popen(command, cwd=folder, env={"PATH": PATH}, stdout=subprocess.PIPE)
        except OSError:
            raise Failed("smtp-sink is not installed (Debian: postfix)") from None
        assert isinstance(process.stdout, BufferedReader)
        sink = Sink(port, Tree(process.pid), process.stdout)
        try:
            wait_until(lambda: greeted(port), START_SECONDS, "smtp-sink's greeting")
            yield sink
        finally:
            process.kill()
            process.wait(START_SECONDS)
            sink.join()
            process.stdout.close()
