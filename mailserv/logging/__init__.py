"""The log: one structured line for each event, queue_id first; structlog in front, one writer thread behind.

    log = get_logger("accept.session")
    log.info("message_accepted", queue_id=queue_id, size=size)

docs/log.md lists every event with its fields; a test holds it against the code.
"""

from __future__ import annotations

import atexit
import logging
import sys
import time
import traceback
from contextlib import suppress
from typing import Any, TextIO

import structlog
from structlog.typing import FilteringBoundLogger

from mailserv.logging.lines import RENDERERS, Line, logfmt
from mailserv.logging.writer import LogWriter, rendered

__all__ = ["close", "configure", "flush", "get_logger", "set_level"]

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


class _Log:
    """The process's one log. Before `configure` (commands, tests) lines go to standard error at once."""

    def __init__(self) -> None:
        self.threshold = _LEVELS["warning"]
        self.writer: LogWriter | None = None

    def put(self, line: Line) -> None:
        writer = self.writer
        if writer is not None:
            writer.put(line)
        else:
            with suppress(OSError):  # as the writer: a full disk or a reader that is gone is no caller's matter
                sys.stderr.write(rendered(line, logfmt))


_log = _Log()


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose lines carry `logger=name`: `.info("event", queue_id=…, key=value)`. Any thread.

    The event is a literal word. Values may be anything; they are cleaned when the line is written, on the log's thread:
    pass values that nobody changes later.
    """
    logger: FilteringBoundLogger = structlog.get_logger(
        name
    ).bind()  # at once: its lazy stand-in would be asked each time
    return logger


def configure(
    format: str = "logfmt", level: str = "info", stream: TextIO | None = None, *, is_shared: bool = False
) -> None:
    """Write lines of at least `level` to `stream` (default: standard error) as "logfmt", "json" or "short".

    `is_shared`: other processes write there, too.

    Starts the writer thread, and takes over the standard library's logging and warnings. May be called again.
    """
    close()
    stream = stream if stream is not None else sys.stderr
    _log.writer = LogWriter(stream, RENDERERS[format], is_shared=is_shared)
    set_level(level)
    root = logging.getLogger()
    root.addHandler(_handler)
    root.setLevel(logging.WARNING)  # libraries' small talk is not ours to print
    logging.captureWarnings(True)


def set_level(level: str) -> None:
    """Show lines of at least this level from now on."""
    _log.threshold = _LEVELS[level]


def flush() -> None:
    """Wait until every line so far is written (2 seconds at most)."""
    if _log.writer is not None:
        _log.writer.flush()


def close() -> None:
    """Write what waits, end the writer thread and give the standard library its logging back. Idempotent."""
    writer, _log.writer = _log.writer, None
    if writer is None:
        return
    set_level("warning")  # as before `configure`: who logs now has nobody who asked for more
    logging.captureWarnings(False)
    logging.getLogger().removeHandler(_handler)
    writer.close()


class _BoundLogger(structlog.make_filtering_bound_logger(0)):  # type: ignore[misc]  # it makes a class
    """structlog's logger with its last step ours: what it would do with processors is done at once."""

    def info(self, event: str, **fields: Any) -> None:
        """As structlog's, without its detour: a message has two of these."""
        self._say("info", event, fields)

    def _proxy_to_logger(self, method_name: str, event: str | None = None, *_: Any, **fields: Any) -> None:
        self._say(method_name, event or "", fields)

    def _say(self, level: str, event: str, fields: dict[str, Any]) -> None:
        """Make a Line, hand it over. Runs on the caller's thread, so it does next to nothing."""
        if _LEVELS.get(level, 0) < _log.threshold:
            return
        if self._context:
            fields = {**self._context, **fields}
        if "exc_info" in fields:
            fields["traceback"] = _traceback(fields.pop("exc_info"))
        # A log line tells the machine's time whatever the clock of the mail in it says (a test's clock may stand still).
        _log.put(Line(time.time(), level, self._logger, event, fields))


def _traceback(exc_info: object) -> str | None:
    """The traceback as text, made at once: a waiting line must not keep frames alive."""
    if isinstance(exc_info, BaseException):
        error: BaseException | None = exc_info
    elif isinstance(exc_info, tuple):
        error = exc_info[1]
    else:
        error = sys.exc_info()[1] if exc_info else None
    return "".join(traceback.format_exception(error)).rstrip() if error is not None else None


class _Handler(logging.Handler):
    """Carries what libraries say through the standard library's logging into our log, as event `library_log`."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        try:
            message = record.getMessage()
        except (TypeError, ValueError, LookupError):  # the library's own mistake in its format
            message = str(record.msg)
        fields: dict[str, Any] = {"message": message}
        if record.exc_info:
            fields["traceback"] = _traceback(record.exc_info)
        _log.put(Line(record.created, level if level in _LEVELS else "info", record.name, "library_log", fields))


_handler = _Handler()

structlog.configure(
    processors=[],
    wrapper_class=_BoundLogger,
    logger_factory=lambda name="mailserv": name,
    cache_logger_on_first_use=True,
)
atexit.register(close)
