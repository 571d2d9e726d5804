"""Which hooks rest, for `mailserv plugin list`: a small file in data_dir for each process that has some, while they do."""

from __future__ import annotations

import os
import threading
from itertools import chain
from pathlib import Path

import msgspec

from mailserv.clock import Clock
from mailserv.hooks.implementation import Implementation
from mailserv.logging import get_logger

_log = get_logger("hooks")
FILE = "paused.json"


class Paused(msgspec.Struct, frozen=True):
    """One plugin's hook whose breaker is open; `since`: epoch seconds."""

    plugin: str
    hook: str
    since: float


def file_of(data_dir: Path, process: int) -> Path:
    """Each process has breakers of its own (docs/decisions/0021)."""
    return data_dir / (f"paused.{process}.json" if process else FILE)


class PausedFile:
    """The server's side. Any thread. That it cannot be written costs a line in the log and nothing else."""

    def __init__(self, data_dir: Path, clock: Clock, process: int = 0) -> None:
        self._path = file_of(data_dir, process)
        self._clock = clock
        self._lock = threading.Lock()
        self._paused: dict[tuple[str, str], Paused] = {}

    def tell(self, hook: Implementation) -> None:
        """Its breaker has opened or closed."""
        with self._lock:
            key = (hook.plugin, hook.hook)
            if hook.breaker.is_open:
                self._paused.setdefault(key, Paused(*key, self._clock.now()))
            else:
                self._paused.pop(key, None)
            try:
                self._write()
            except OSError as error:
                _log.warning("paused_not_told", file=str(self._path), error=str(error))

    def clear(self) -> None:
        """Nothing rests: the server begins, or ends. One that was killed leaves its file behind."""
        with self._lock:
            self._paused.clear()
            self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        """Whole or not at all: a command may read at any moment."""
        if not self._paused:
            self._path.unlink(missing_ok=True)
            return
        new = self._path.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(list(self._paused.values())))
        os.replace(new, self._path)


def read_paused(data_dir: Path, processes: int = 1) -> list[Paused]:
    """What the server of this data_dir has told; whether it still runs is another question. A hook that rests in several
    processes is one, since the first of them. Raises OSError, ValueError."""
    found: dict[tuple[str, str], Paused] = {}
    told = chain.from_iterable(_told(file_of(data_dir, number)) for number in range(processes))
    for each in sorted(told, key=lambda each: each.since):
        found.setdefault((each.plugin, each.hook), each)
    return list(found.values())


def _told(path: Path) -> list[Paused]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Paused])
    except FileNotFoundError:
        return []
