"""A running server and the signals that steer it: SIGHUP reloads, SIGTERM and SIGINT drain, a second one ends at once."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from mailserv import logging
from mailserv.cli.sd_notify import notify, stopping
from mailserv.server import STOP_WORKERS, Server
from mailserv.settings import Settings

_STOP = (signal.SIGTERM, signal.SIGINT)

SPARE = 15.0  # seconds at the end, for a disk that takes its time

GC_OBJECTS = (
    20_000  # new containers before a collection, not 700: a message makes hundreds, and leaves no cycles behind
)

log = logging.get_logger("cli.serve")


class Signals:
    """The process's signals, one after the other, for the main thread; between them it sleeps in the kernel."""

    def __init__(self) -> None:
        self._stops = 0
        self._waiting: dict[int, None] = {}
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)  # set_wakeup_fd wants it so

    def wait(self) -> signal.Signals:
        """The next kind of signal, however often it came: the end before others, which come in their order."""
        if not self._waiting:
            self._waiting.update(dict.fromkeys(os.read(self._reader, 65536)))
        received = next((number for number in self._waiting if number in _STOP), next(iter(self._waiting)))
        del self._waiting[received]
        return signal.Signals(received)

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)

    @property
    def writer(self) -> int:
        """Where the interpreter writes the number of each signal that comes."""
        return self._writer

    def handle(self, number: int, _: FrameType | None) -> None:
        """After SIGTERM or SIGINT, another one of them ends the process at once with exit code 1; it waits for nothing
        but the log's last lines, and a third one not for those.

        Runs on the main thread between two of its instructions, also while it starts, reloads or waits for the drain.
        """
        if number in _STOP:
            self._stops += 1
            if self._stops == 2:
                logging.flush()
            if self._stops >= 2:
                os._exit(1)


@contextmanager
def signals() -> Iterator[Signals]:
    """Take the signals over; give them back at the end. Main thread only."""
    taken = Signals()
    numbers = (*_STOP, signal.SIGHUP)
    wakeup = signal.set_wakeup_fd(taken.writer)
    before = {number: signal.signal(number, taken.handle) for number in numbers}
    try:
        yield taken
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        taken.close()


def run(server: Server, taken: Signals, reload: Callable[[], None]) -> None:
    """Start the server, say `ready`, and steer it until it is told to end; then drain. Raises what `start` raises."""
    server.start()
    settle_down()
    try:
        logging.flush()
        announce(bound(server))
        while (received := taken.wait()) not in _STOP:
            reload()
        stopping(longest_end(server.settings))
        log.info("stopping", signal=received.name)
    finally:
        server.stop()
    log.info("stopped")


def longest_end(settings: Settings) -> float:
    """Seconds from the signal to the end of the process: sessions drain, then deliveries end, then the store closes."""
    return settings.limits.drain + 2 * STOP_WORKERS + SPARE


def announce(addresses: str) -> None:
    """Mail can come: the line `ready`, and systemd is told. A full disk behind standard error is no reason not to serve:
    only who serves can empty it (docs/decisions/0016)."""
    with suppress(OSError):
        print(f"ready {addresses}", file=sys.stderr, flush=True)
    notify("READY=1")


def settle_down() -> None:
    """After the start: what is there by now stays to the end, and no collection need look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS)


def bound(server: Server) -> str:
    """`smtp=0.0.0.0:25 pop3=[::]:110`: every service with the address it is really bound to."""
    return " ".join(f"{service}={shown(host, port)}" for service, host, port in server.listening)


def shown(host: str, port: int) -> str:
    """An address as [[listen]] writes it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
