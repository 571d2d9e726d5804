"""`mailserv serve` with `[limits] processes`: several servers on one store and the same sockets, and who looks after them.

The supervisor binds every address, has the data directory's lock, and starts each process by fork, so it never has a
thread. To a process it says one letter through a pipe; when the pipe ends the supervisor is gone, and the process goes
at once, as by a crash. docs/decisions/0021.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

import msgspec

from mailserv import logging
from mailserv.cli.running import Signals, announce, bound, longest_end, settle_down
from mailserv.cli.sd_notify import be_silent, reloading, stopping
from mailserv.clock import SystemClock
from mailserv.cores import stay_on_one_core
from mailserv.errors import ConfigError, MailservError
from mailserv.net.census import Census
from mailserv.server import Server, bind
from mailserv.settings import Settings
from mailserv.store.directory import reserve
from mailserv.store.part import Part

RELOAD, STOP = b"R", b"S"
SHORT_LIFE = 5.0  # seconds: a process that ended sooner is started again only after a pause
PAUSE = 1.0  # seconds

log = logging.get_logger("cli.processes")

Work = Callable[[Server], None]


class Started(msgspec.Struct):
    """What a process says of its start: where it is bound, or what went wrong."""

    bound: str = ""
    problems: tuple[str, ...] = ()


@dataclass(slots=True)
class _Process:
    """One that runs. `control`: the pipe's end through which it is told what to do."""

    pid: int
    control: int
    since: float
    bound: str


class Supervisor:
    """Starts the processes, starts again what ended, ends all. Main thread of a process without any other thread.

    `prepare()` gives the settings of a process that starts now, and `reload(server)` has one read the file again; both
    run in the new process, the first one before its server is made.
    """

    def __init__(self, settings: Settings, prepare: Callable[[], Settings], reload: Work) -> None:
        self._settings = settings
        self._prepare = prepare
        self._reload = reload
        self._clock = SystemClock()
        self._count = settings.limits.processes
        self._census = Census(self._count)
        self._processes: dict[int, _Process] = {}
        self._sockets: Sequence[socket.socket | None] = ()

    def run(self, taken: Signals, reload: Callable[[], bool]) -> None:
        """Serve until a signal ends it. `reload()` says whether the new file is good; then every process reads it."""
        lock = reserve(self._settings.data_dir)
        try:
            self._sockets = bind(self._settings)
            with _hears(signal.SIGCHLD), _hears(signal.SIGALRM):
                self._run(taken, reload)
        finally:
            for listening in self._sockets:
                if listening is not None:
                    listening.close()
            os.close(lock)

    def _run(self, taken: Signals, reload: Callable[[], bool]) -> None:
        try:
            for index in range(self._count):
                self._start(index)
            self._announce()
            while (received := taken.wait()) not in (signal.SIGTERM, signal.SIGINT):
                if received is signal.SIGHUP:
                    self._have_reloaded(reload)
                self._look_after()
            stopping(longest_end(self._settings))
            log.info("stopping", signal=received.name)
        finally:
            self._stop()

    def _have_reloaded(self, reload: Callable[[], bool]) -> None:
        with reloading():
            if reload():
                self._tell(RELOAD)

    def _announce(self) -> None:
        """One line, as a single process prints it: what all of them are bound to, each address once."""
        addresses = dict.fromkeys(word for each in self._processes.values() for word in each.bound.split())
        announce(" ".join(addresses))

    def _start(self, index: int) -> None:
        """Start one and wait until it serves. Raises ConfigError with what it says when it does not."""
        control, told = os.pipe()
        answer, said = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(told)
            os.close(answer)
            for other in self._processes.values():
                os.close(other.control)
            self._work(index, control, said)
        os.close(control)
        os.close(said)
        started = _read_start(answer)
        if started.problems:
            os.close(told)
            os.waitpid(pid, 0)
            raise ConfigError(list(started.problems))
        self._processes[index] = _Process(pid, told, self._clock.monotonic(), started.bound)

    def _look_after(self) -> None:
        """Start again what has ended: now, or after a pause when it had only just been started."""
        for index, process in list(self._processes.items()):
            pid, status = os.waitpid(process.pid, os.WNOHANG)
            if pid:
                os.close(process.control)
                del self._processes[index]
                self._census.clear(index)
                log.error("process_ended", process=index, pid=pid, status=os.waitstatus_to_exitcode(status))
                if self._clock.monotonic() - process.since < SHORT_LIFE:
                    signal.setitimer(signal.ITIMER_REAL, PAUSE)
                    return
        for index in range(self._count):
            if index not in self._processes and not signal.getitimer(signal.ITIMER_REAL)[0]:
                self._start_again(index)

    def _start_again(self, index: int) -> None:
        try:
            self._start(index)
        except (ConfigError, OSError) as error:
            log.error("process_not_started", process=index, error=str(error))
            signal.setitimer(signal.ITIMER_REAL, PAUSE)
        else:
            log.warning("process_started", process=index, pid=self._processes[index].pid)

    def _tell(self, letter: bytes) -> None:
        for process in self._processes.values():
            with suppress(BrokenPipeError):  # it has ended: SIGCHLD tells
                os.write(process.control, letter)

    def _stop(self) -> None:
        """All drain at the same time."""
        self._tell(STOP)
        for index, process in self._processes.items():
            _, status = os.waitpid(process.pid, 0)
            os.close(process.control)
            if status:
                log.error("process_ended", process=index, pid=process.pid, status=os.waitstatus_to_exitcode(status))
        self._processes.clear()

    # From here on: the new process.

    def _work(self, index: int, control: int, said: int) -> NoReturn:
        code = 1
        try:
            be_silent()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM):
                signal.signal(number, _nothing)  # not SIG_IGN, which programs that a plugin starts would inherit
            self._serve(index, control, said)
            code = 0
        except BaseException:  # noqa: BLE001 - nothing of the supervisor's may run here
            traceback.print_exc()
        finally:
            logging.close()
            with suppress(OSError):  # a full disk behind it
                sys.stderr.flush()
            os._exit(code)

    def _serve(self, index: int, control: int, said: int) -> None:
        try:
            settings = self._prepare()
            if settings.limits.one_core:
                stay_on_one_core(os.getppid() + index)  # each on another one
            server = Server(settings, part=Part(index, self._count), census=self._census, sockets=self._sockets)
            server.start()
        except MailservError as error:
            _say(said, Started(problems=tuple(getattr(error, "problems", ())) or (str(error),)))
            return
        settle_down()
        logging.flush()
        _say(said, Started(bound(server)))
        while (letter := os.read(control, 1)) == RELOAD:
            self._reload(server)
        if not letter:
            os._exit(1)  # the supervisor is gone, and perhaps killed: so are we
        server.stop()


def _say(said: int, started: Started) -> None:
    with suppress(BrokenPipeError):  # the supervisor is gone: the other pipe tells
        os.write(said, msgspec.json.encode(started))
    os.close(said)


def _read_start(answer: int) -> Started:
    with os.fdopen(answer, "rb") as file:
        text = file.read()
    return msgspec.json.decode(text, type=Started) if text else Started(problems=("a process ended at its start",))


@contextmanager
def _hears(number: signal.Signals) -> Iterator[None]:
    before = signal.signal(number, _nothing)
    try:
        yield
    finally:
        signal.signal(number, before)


def _nothing(number: int, frame: FrameType | None) -> None:
    """That it came is told by the wake-up descriptor."""
