"""The log as its callers and its readers meet it."""

from __future__ import annotations

import io
import json
import logging as stdlib_logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailserv import logging
from mailserv.logging.lines import Line, logfmt
from mailserv.logging.writer import LogWriter, rendered


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    yield
    logging.close()
    logging.set_level("warning")


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    logging.flush()
    return [json.loads(text) for text in stream.getvalue().splitlines()]


def configured(level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    logging.configure("json", level, stream)
    return stream


def test_a_line_carries_its_logger_and_fields() -> None:
    stream = configured()
    logging.get_logger("queue.worker").info("delivered", remote="mx.example.net", queue_id="01A")
    (entry,) = lines(stream)
    assert entry["logger"] == "queue.worker"
    assert entry["event"] == "delivered"
    assert list(entry)[4:] == ["queue_id", "remote"]


def test_bound_fields_come_with_every_line() -> None:
    stream = configured()
    log = logging.get_logger("x").bind(session="s1")
    log.info("one")
    log.warning("two")
    assert [(entry["session"], entry["level"]) for entry in lines(stream)] == [("s1", "info"), ("s1", "warning")]


def test_a_logger_made_before_the_log_is_set_up_obeys_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.get_logger("early")
    log.info("quiet")
    log.warning("heard")
    assert "event=heard logger=early" in capsys.readouterr().err
    stream = configured("debug")
    log.debug("now_shown")
    assert [entry["event"] for entry in lines(stream)] == ["now_shown"]


def test_the_level_can_change_while_running() -> None:
    stream = configured("error")
    log = logging.get_logger("x")
    log.warning("hidden")
    logging.set_level("debug")
    log.debug("shown")
    assert [entry["event"] for entry in lines(stream)] == ["shown"]


def test_an_exception_is_logged_with_its_traceback() -> None:
    stream = configured()
    log = logging.get_logger("x")
    try:
        raise ValueError("broken")
    except ValueError as error:
        log.exception("failed", queue_id="01A")
        log.error("again", exc_info=error)
        log.error("third", exc_info=(type(error), error, error.__traceback__))
    log.error("none", exc_info=False)
    found = lines(stream)
    assert [str(entry["traceback"]).endswith("ValueError: broken") for entry in found[:3]] == [True] * 3
    assert "traceback" not in found[3]


def test_what_libraries_log_and_warn_comes_out_in_our_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdlib_logging.getLogger(), "handlers", [])  # pytest's own handler stumbles over the third line
    stream = configured()
    stdlib_logging.getLogger("some.library").warning("slow %s", "disk")
    stdlib_logging.getLogger("some.library").info("small talk")
    stdlib_logging.getLogger("some.library").warning("wrong %d", "format")
    try:
        raise OSError("lost")
    except OSError:
        stdlib_logging.getLogger("some.library").exception("oops")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
    found = lines(stream)
    assert [entry["event"] for entry in found] == ["library_log"] * 4
    assert found[0]["message"] == "slow disk"
    assert found[1]["message"] == "wrong %d"
    assert str(found[2]["traceback"]).endswith("OSError: lost")
    assert "old thing" in str(found[3]["message"])


def test_lines_reach_a_file_descriptor_in_order(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w") as stream:
        logging.configure("logfmt", "info", stream)
        log = logging.get_logger("x")
        for number in range(2000):
            log.info("line", number=number)
        logging.close()
    numbers = [int(text.rsplit("number=", 1)[1]) for text in path.read_text().splitlines()]
    assert numbers == list(range(2000))


def fill(pipe: int) -> None:
    os.set_blocking(pipe, False)
    try:
        while True:
            os.write(pipe, b"x" * 4095 + b"\n")
    except BlockingIOError:
        os.set_blocking(pipe, True)


def test_a_stuck_reader_costs_lines_and_never_the_caller() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as out, os.fdopen(writer, "w") as stream:
        fill(writer)
        log = LogWriter(stream, logfmt, max_waiting=50)
        started = time.monotonic()
        for number in range(3000):  # far more than the queue holds
            log.put(Line(0.0, "info", "x", "line", {"number": number}))
        assert time.monotonic() - started < 1.0
        assert not log.flush(0.01)
        seen = b""
        while b"log_dropped" not in seen:
            seen += out.read(65536)
        log.close()
        assert b"lines=" in seen


def test_a_line_waits_for_more_of_them_but_not_when_somebody_waits() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as out, os.fdopen(writer, "w") as stream:
        log = LogWriter(stream, logfmt, linger=3600.0)
        for number in range(3):
            log.put(Line(0.0, "info", "x", "line", {"number": number}))
        assert log.flush()
        assert out.read(65536).count(b"event=line") == 3
        log.put(Line(0.0, "info", "x", "last", {}))
        log.close()
        assert b"event=last" in out.read(65536)


def test_a_signal_may_flush_in_the_middle_of_a_flush() -> None:
    """At any line of it, and of what it calls: a trace function stands for the signal's handler."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0), os.fdopen(writer, "w") as stream:
        log = LogWriter(stream, logfmt, linger=3600.0)
        left = 0
        answers: list[bool] = []

        def step(*_: object) -> Callable[..., object]:
            nonlocal left
            left -= 1
            if left == 0:
                answers.append(log.flush())
            return step

        for steps in range(1, 200):
            left = steps
            before = sys.gettrace()
            sys.settrace(step)
            try:
                answers.append(log.flush())
            finally:
                sys.settrace(before)
            if left > 0:
                break  # it has no more steps than these
        assert all(answers)
        assert steps > 5
        log.close()


def test_lines_that_nobody_waits_for_are_written_soon() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as out, os.fdopen(writer, "w") as stream:
        log = LogWriter(stream, logfmt)
        log.put(Line(0.0, "info", "x", "line", {}))
        assert b"event=line" in out.read(65536)
        log.close()


def test_a_nonblocking_output_loses_nothing() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with os.fdopen(reader, "rb", buffering=0) as out, os.fdopen(writer, "w") as stream:
        log = LogWriter(stream, logfmt)
        for number in range(2000):
            log.put(Line(0.0, "info", "x", "line", {"number": number, "padding": "x" * 100}))
        seen = b""
        while b"number=1999 " not in seen:
            seen += out.read(65536)
        log.close()
    assert seen.count(b"event=line") == 2000


def test_an_output_that_is_gone_harms_nobody() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        log = LogWriter(stream, logfmt)
        log.put(Line(0.0, "info", "x", "line", {}))
        assert log.flush()
        log.close()


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_a_value_that_cannot_be_shown_costs_its_fields_only() -> None:
    assert rendered(Line(0.0, "info", "x", "seen", {"value": Unprintable()}), logfmt).endswith(
        "event=seen logger=x unprintable=RuntimeError\n"
    )


def test_logging_a_line_takes_the_caller_little_time() -> None:
    with Path(os.devnull).open("w") as stream:
        logging.configure("logfmt", "info", stream)
        log = logging.get_logger("x")
        best = min(_seconds_for_500(log) for _ in range(20))
    assert best / 500 < 50e-6  # 3 µs on a quiet machine; the bound allows for a busy one


def _seconds_for_500(log: object) -> float:
    started = time.perf_counter()
    for _ in range(500):
        log.info("message_accepted", queue_id="01ABC", size=4096, ip="192.0.2.1", recipients=3)  # type: ignore[attr-defined]
    elapsed = time.perf_counter() - started
    logging.flush()
    return elapsed


def test_flush_and_close_before_configure_do_nothing() -> None:
    logging.close()
    logging.flush()
    logging.close()


def test_where_processes_share_the_stream_no_write_is_longer_than_a_pipe_keeps_together() -> None:
    writes: list[str] = []

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            writes.append(text)
            return len(text)

    logging.configure("logfmt", "info", Stream(), is_shared=True)
    for number in range(100):
        logging.get_logger("x").info("said", number=number, reply="ü" * 200)
    logging.close()
    assert sum(text.count("\n") for text in writes) == 100
    assert all(text.endswith("\n") and len(text.encode()) <= 4096 for text in writes)
    assert len(writes) < 20
