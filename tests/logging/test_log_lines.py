"""A log line: its order, its cleanness, its two formats (invariant 10)."""

from __future__ import annotations

import json
import shlex
from enum import Enum

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailserv.logging.lines import MAX_VALUE, RENDERERS, Line, as_json, logfmt, short, timestamp
from mailserv.settings import Secret

FIELDS = st.dictionaries(st.text(max_size=20), st.one_of(st.text(), st.binary(), st.integers(), st.floats(), st.none()))


def line(event: str = "mail_accepted", **fields: object) -> Line:
    return Line(1767225600.1234, "info", "accept.session", event, fields)


def test_a_logfmt_line_has_its_time_level_event_logger_and_queue_id_first() -> None:
    assert logfmt(line(size=12, queue_id="01ABC")) == (
        "ts=2026-01-01T00:00:00.123Z level=info event=mail_accepted logger=accept.session queue_id=01ABC size=12"
    )


def test_a_json_line_is_the_same_fields_in_the_same_order() -> None:
    text = as_json(line(size=12, queue_id="01ABC", names=["a", "b"], ok=True))
    assert list(json.loads(text)) == ["ts", "level", "event", "logger", "queue_id", "size", "names", "ok"]
    assert json.loads(text)["names"] == ["a", "b"]


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("two words", '"two words"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("a=b", '"a=b"'),
        ("new\r\nline", '"new\\r\\nline"'),
        ("\x1b[31mred\x07", '"\\x1b[31mred\\x07"'),
        ("Grüße", '"Grüße"'),
        ("\u202eright to left", '"\\u202eright to left"'),
        ("\ud800", '"\\ud800"'),
        (b"bytes \xff", '"bytes \\\\xff"'),
        (True, "true"),
        (False, "false"),
        (7, "7"),
        (0.1234567891, "0.123457"),
        (float("nan"), "nan"),
        (["a", 1, None], "a,1,None"),
        (("x", ["y"]), "x,['y']"),
        ({"k": "v"}, "\"{'k': 'v'}\""),
        (Colour.RED, "red"),
    ],
)
def test_a_value_is_written_so_that_it_cannot_break_the_line(value: object, shown: str) -> None:
    assert logfmt(line(value=value)).split(" value=", 1)[1] == shown


def test_a_field_without_a_value_is_left_out() -> None:
    text = logfmt(line(tls=None, login="", errors=0))
    assert "tls" not in text
    assert "login" not in text
    assert "errors=0" in text


def test_a_long_value_is_cut() -> None:
    text = logfmt(line(reply="x" * 5000))
    assert "x" * MAX_VALUE + "…" in text
    assert "x" * (MAX_VALUE + 1) not in text


def test_a_traceback_keeps_its_end() -> None:
    text = as_json(line(traceback="first\n" + "x" * 9000 + "\nValueError: last"))
    assert json.loads(text)["traceback"].endswith("ValueError: last")
    assert len(text) < 9000


@pytest.mark.parametrize(
    "name", ["password", "new_password", "secret", "credentials", "api_key", "Authorization", "sasl_token"]
)
@pytest.mark.parametrize("render", RENDERERS.values(), ids=RENDERERS)
def test_invariant_10_a_field_with_a_telling_name_is_masked(name: str, render: object) -> None:
    text = RENDERERS["logfmt"](line(**{name: "hunter2"})) + render(line(**{name: "hunter2"}))  # type: ignore[operator]
    assert "hunter2" not in text
    assert "***" in text


def test_invariant_10_a_secret_stays_one_under_any_name() -> None:
    for render in RENDERERS.values():
        text = render(line(value=Secret("hunter2"), values=[Secret("hunter2")]))
        assert "hunter2" not in text


@given(FIELDS, st.text())
@example({"queue_id": "\x1b"}, "")
def test_invariant_10_no_field_brings_a_control_character_or_a_second_line(
    fields: dict[str, object], event: str
) -> None:
    for render in RENDERERS.values():
        text = render(Line(0.0, "info", "x", event, fields))
        assert text.isprintable()
        text.encode("utf-8")


@given(FIELDS)
def test_a_json_line_can_always_be_read_back(fields: dict[str, object]) -> None:
    assert json.loads(as_json(Line(0.0, "info", "x", "e", fields)))["event"] == "e"


KEYS = st.sampled_from(["queue_id", "size", "level", "ts", "password", "ip", "two words", "%s", "reverse_path"])
VALUES = st.one_of(
    st.integers(1),
    st.floats(),
    st.floats(0, 9).map(lambda x: round(x, 3)),
    st.none(),
    st.sampled_from(["", "plain", "%d%s", "two words", 'a"b', "x" * MAX_VALUE]),
)


@given(st.dictionaries(KEYS, VALUES), st.sampled_from(["mail_accepted", "100%s", "two words"]))
def test_a_line_of_plain_values_is_written_as_any_other(fields: dict[str, object], event: str) -> None:
    """One field that is neither a number nor text takes all of them the long way."""
    assert logfmt(line(event, **fields, ok=True)) == f"{logfmt(line(event, **fields))} ok=true"


def test_a_logfmt_line_splits_as_a_shell_would_split_it() -> None:
    words = shlex.split(logfmt(line(reply='550 5.1.1 no "such" user', ip="192.0.2.1")))
    assert words[-2:] == ['reply=550 5.1.1 no "such" user', "ip=192.0.2.1"]


def test_a_field_named_like_a_fixed_one_does_not_replace_it() -> None:
    text = logfmt(line(level="high", ts=3))
    assert "level=info" in text
    assert "level_=high" in text
    assert "ts_=3" in text


def test_the_short_form_is_for_people() -> None:
    text = short(line(queue_id="01ABC", recipient="bob@example.test", session="c0ffee"))
    assert text.endswith("mail_accepted           01ABC  recipient=bob@example.test")
    assert "warning: slow" in short(Line(0.0, "warning", "x", "slow", {}))


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1.9996, "1970-01-01T00:00:02.000Z"),
        (1767225600.0, "2026-01-01T00:00:00.000Z"),
    ],
)
def test_a_timestamp_is_utc_with_milliseconds(at: float, text: str) -> None:
    assert timestamp(at) == text
