"""One event as one line: logfmt, JSON, or a short form for a person at a terminal.

Invariant 10 lives here: whatever a caller passes, the line has no control character, no line break, no secret under a
telling name, and a bounded length.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any

from msgspec import Struct

MAX_VALUE = 1024  # characters: a remote's reply or a path fits, a flood does not
MAX_TRACEBACK = 8192  # characters, the end of it: the innermost frames say where
MASK = "***"

_TELLING = re.compile(r"passw|secret|credential|token|authorization|private_key|api_key|cookie", re.IGNORECASE)
_PLAIN = re.compile(r"[!#-<>-\[\]-~]+")  # printable ASCII without space, quote, equals sign and backslash
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_NUMBERS_AND_TEXT = frozenset({int, float, str})
_COLUMN = 22  # the short form's column for the event, in characters

Scalar = str | int | float | bool
Value = Scalar | list[Scalar]


class Line(Struct, frozen=True):
    """What a caller said, as it waits for the writer. `fields` belongs to the line: nobody else changes it."""

    at: float  # seconds since the epoch
    level: str
    logger: str
    event: str
    fields: Mapping[str, Any]


Renderer = Callable[[Line], str]


def logfmt(line: Line) -> str:
    """`ts=… level=… event=… logger=… queue_id=… key=value …`, without a line end."""
    return _of_plain_values(line) or " ".join(
        [f"{key}={_logfmt_value(value)}" for key, value in _ordered(line).items()]
    )


def _of_plain_values(line: Line) -> str:
    """The same in a third of the time, where the values are numbers and short text that needs no quotes, as in nearly all
    lines; else ""."""
    fields = _told(line)
    values = tuple(fields.values())
    text = "".join([value for value in values if type(value) is str])
    kinds = set(map(type, values))
    if not kinds <= _NUMBERS_AND_TEXT or len(text) > MAX_VALUE or not _PLAIN.fullmatch(text or "-"):
        return ""
    if float in kinds and any([value != round(value, 6) for value in values if type(value) is float]):  # noqa: C419 - sooner
        return ""  # its text has more digits than are told, or it is no number
    template = _template(line.level, line.event, line.logger, tuple(fields))
    return template and f"ts={timestamp(line.at)} {template % values}"


@lru_cache(maxsize=256)
def _template(level: str, event: str, logger: str, keys: tuple[str, ...]) -> str:
    """A line without its time, and `%s` for each value; "" when a key or the event is not as it will stand there."""
    fixed = {"level": level, "event": event, "logger": logger}
    names = [_key(key) for key in keys]
    if (
        "queue_id" in keys[1:]
        or "ts" in keys
        or not fixed.keys().isdisjoint(keys)
        or not all(map(_PLAIN.fullmatch, fixed.values()))
    ):
        return ""
    if any(name != key or tells for (name, tells), key in zip(names, keys, strict=True)):
        return ""
    head = " ".join([f"{key}={value}" for key, value in fixed.items()]).replace("%", "%%")
    return " ".join([head, *(f"{key}=%s" for key in keys)])


def as_json(line: Line) -> str:
    """The same fields as one JSON object in ASCII, without a line end."""
    return json.dumps(_ordered(line), ensure_ascii=True, separators=(",", ":"))


def short(line: Line) -> str:
    """`10:15:02  event  queue_id  key=value …` for a person who watches; local time."""
    fields = _ordered(line)
    for key in ("ts", "level", "event", "logger", "session"):
        fields.pop(key, None)
    queue_id = fields.pop("queue_id", "")
    rest = " ".join(f"{key}={_logfmt_value(value)}" for key, value in fields.items())
    clock = time.strftime("%H:%M:%S", time.localtime(line.at))
    mark = "" if line.level in {"info", "debug"} else f"{line.level}: "
    head = f"{clock}  {mark}{_printable(line.event):<{_COLUMN}}"
    return "  ".join(part for part in (head, _printable(str(queue_id)), rest) if part).rstrip()


RENDERERS: dict[str, Renderer] = {"logfmt": logfmt, "json": as_json, "short": short}


def _told(line: Line) -> dict[str, Any]:
    """The fields that have a value: None and "" are none."""
    return {key: value for key, value in line.fields.items() if value or (value is not None and type(value) is not str)}


def _ordered(line: Line) -> dict[str, Value]:
    """Every field that is told, in its order, cleaned."""
    out: dict[str, Value] = {
        "ts": timestamp(line.at),
        "level": line.level,
        "event": _text(line.event),
        "logger": _text(line.logger),
    }
    fields = _told(line)
    if "queue_id" in fields:
        out["queue_id"] = _clean(fields.pop("queue_id"))
    for key, value in fields.items():
        kind = type(value)
        name, tells = _key(key if key not in out else f"{key}_")
        if tells:
            out[name] = MASK
        elif kind is int or (kind is str and len(value) <= MAX_VALUE):
            out[name] = value
        elif name.endswith("traceback"):
            out[name] = str(value)[-MAX_TRACEBACK:]
        else:
            out[name] = _clean(value)
    return out


def timestamp(at: float) -> str:
    """ISO 8601 in UTC with milliseconds: 2026-01-31T10:15:02.123Z."""
    millis = round(at * 1000)
    return f"{_second(millis // 1000)}.{millis % 1000:03d}Z"


@lru_cache(maxsize=4)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


@lru_cache(maxsize=512)
def _key(key: str) -> tuple[str, bool]:
    """A field's name as both formats can carry it, and whether it may hold a secret, which nobody meant to log."""
    name = key[:64] if _KEY.fullmatch(key) else "_" + re.sub(r"[^A-Za-z0-9_.]", "_", key)[:63]
    return name, _TELLING.search(name) is not None


def _clean(value: object) -> Value:
    """A value of the line: numbers as they are, sequences as lists, everything else as bounded text."""
    if isinstance(value, bool | int) and type(value) in (bool, int):
        return value
    if type(value) is float:
        return round(value, 6) if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_scalar(item) for item in list(value)[:100]]
    return _text(value)


def _scalar(value: object) -> Scalar:
    cleaned = _clean(value) if not isinstance(value, list | tuple | set | frozenset) else _text(str(value))
    return cleaned if not isinstance(cleaned, list) else str(cleaned)


def _text(value: object) -> str:
    """Bounded text. A str subclass speaks through its repr, so that a Secret stays one."""
    if type(value) is str:
        text = value
    elif isinstance(value, Enum):
        text = str(value.value)
    elif isinstance(value, bytes | bytearray):
        text = bytes(value[: MAX_VALUE + 1]).decode("utf-8", "backslashreplace")
    elif isinstance(value, str):
        text = repr(value)
    else:
        text = str(value)
    return text if len(text) <= MAX_VALUE else text[:MAX_VALUE] + "…"


def _logfmt_value(value: Value) -> str:
    if type(value) is str and _PLAIN.fullmatch(value):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return _logfmt_value(",".join(item if isinstance(item, str) else _logfmt_value(item) for item in value))
    if not isinstance(value, str):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_printable(escaped)}"'


def _printable(text: str) -> str:
    r"""Text in which every character that is not printable is written \n, \x1b, \u2028 or so."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
