"""Which hooks rest, for `mailserv plugin list`: a small file in data_dir, there while the server runs and one of them does."""

from __future__ import annotations

import os
import threading
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


class PausedFile:
    """The server's side. Any thread. That it cannot be written costs a line in the log and nothing else."""

    def __init__(self, data_dir: Path, clock: Clock) -> None:
        self._path = data_dir / FILE
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


def read_paused(data_dir: Path) -> list[Paused]:
    """What the server of this data_dir has told; whether it still runs is another question. Raises OSError, ValueError."""
    try:
        return msgspec.json.decode((data_dir / FILE).read_bytes(), type=list[Paused])
    except FileNotFoundError:
        return []
