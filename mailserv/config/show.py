"""Settings as a person writes them: for the documentation, and for the tests that hold it against the code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from mailserv.config.changes import needs_restart
from mailserv.config.units import show_duration, show_size
from mailserv.mail.values import Duration, Network, Secret, Size
from mailserv.settings import Settings

_WORDS: dict[Any, str] = {
    str: "string",
    int: "whole number",
    bool: "true or false",
    Path: "path",
    Duration: "duration",
    Size: "size",
    Secret: "secret",
    Network: "network",
    Any: "any",
}


class Row(msgspec.Struct, frozen=True):
    """One setting. `table` is "" for the top of the file; `default` is TOML, "" when the setting must be given."""

    table: str
    name: str
    kind: str
    default: str
    meaning: str
    restart: bool


def rows() -> list[Row]:
    """Every setting, in the order of the file: first those before any [table], then table by table."""
    top, tables = [], []
    hints = get_type_hints(Settings, include_extras=True)
    for field in msgspec.structs.fields(Settings):
        inner = _struct_in(hints[field.name])
        if isinstance(hints[field.name], type) and inner is not None:
            tables += _rows_of(inner, field.name)
        else:
            top.append(_row("", field, hints[field.name]))
            tables += _rows_of(inner, field.name) if inner is not None else []
    return [*top, *tables]


def plugin_rows(struct: type[msgspec.Struct], table: str) -> list[Row]:
    """Every setting of a plugin's struct, then those of the structs within it, as `table` and "table.field.NAME"."""
    found = _rows_of(struct, table)
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        inner = _struct_in(hints[field.name])
        if inner is not None:
            name = ".NAME" if get_origin(_bare(hints[field.name])) is dict else ""
            found += plugin_rows(inner, f"{table}.{field.name}{name}")
    return found


def as_toml(value: object) -> str:
    """A default value as TOML."""
    if isinstance(value, Duration):
        return f'"{show_duration(value)}"'
    if isinstance(value, Size):
        return f'"{show_size(value)}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, dict | msgspec.Struct):
        return "{}"
    if isinstance(value, int | float):
        return str(value)
    return "" if value is None else f'"{value}"'


def _rows_of(struct: type[msgspec.Struct], table: str) -> list[Row]:
    hints = get_type_hints(struct, include_extras=True)
    return [_row(table, field, hints[field.name]) for field in msgspec.structs.fields(struct)]


def _row(table: str, field: msgspec.structs.FieldInfo, hint: Any) -> Row:
    name = f"{table}.{field.name}" if table else field.name
    default = field.default_factory() if callable(field.default_factory) else field.default
    return Row(
        table=table,
        name=field.name,
        kind=_kind(hint),
        default="" if field.required else as_toml(default),
        meaning=next((meta.description for meta in _metas(hint) if meta.description), ""),
        restart=needs_restart(name),
    )


def _metas(hint: Any) -> list[msgspec.Meta]:
    return (
        [meta for meta in get_args(hint)[1:] if isinstance(meta, msgspec.Meta)] if get_origin(hint) is Annotated else []
    )


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _kind(hint: Any) -> str:
    """A type in a few words."""
    bare = _bare(hint)
    if bare in _WORDS:
        least = next((meta.ge for meta in _metas(hint) if meta.ge is not None), None)
        most = next((meta.le for meta in _metas(hint) if meta.le is not None), None)
        if most is not None:
            return f"{_WORDS[bare]}, {least or 0} to {most}"
        return _WORDS[bare] + (f" ≥ {least}" if least else "")
    if get_origin(bare) is Literal:
        return " · ".join(f'"{word}"' for word in get_args(bare))
    if get_origin(bare) is tuple:
        return "blocks" if _struct_in(hint) else f"array of {_kind(get_args(bare)[0])}s"
    if get_origin(bare) is dict:
        return f"table of {_kind(get_args(bare)[1])}"
    sides = [_kind(side) for side in get_args(bare) if side is not type(None)]
    return " or ".join(sides) or "table"


def _struct_in(hint: Any) -> type[msgspec.Struct] | None:
    """The struct that a hint is, or is made of."""
    bare = _bare(hint)
    if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        return bare
    return next((found for found in map(_struct_in, get_args(bare)) if found is not None), None)
