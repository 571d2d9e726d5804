"""From what tomli read to typed structs: msgspec judges each value alone, so that one mistake hides no other."""

from __future__ import annotations

import os
import stat
import types
from collections.abc import Callable, Mapping
from ipaddress import IPv6Network, ip_network
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from mailserv.config.locate import Path
from mailserv.config.problems import Findings, did_you_mean, dotted
from mailserv.config.units import parse_duration, parse_size
from mailserv.mail.values import Duration, Network, Secret, Size
from mailserv.settings import Settings

S = TypeVar("S", bound=msgspec.Struct)
MAPPED = 96  # bits before the IPv4 address in ::ffff:192.0.2.1


class _Broken:
    """Stands for a value that was no good; its problem has been noted."""


_BROKEN = _Broken()
_FILLERS: dict[Any, Any] = {  # keep what follows in its place for further checks
    str: "",
    int: 0,
    bool: False,
    Duration: Duration(60),
    Size: Size(0),
    Secret: Secret(""),
    FilePath: FilePath(),
    tuple: (),
    dict: {},
}


class Reader:
    """Reads one file's values. `base` is the folder that relative paths start from."""

    def __init__(self, findings: Findings, base: FilePath) -> None:
        self._findings = findings
        self._base = base
        self._leaves: dict[Any, Callable[[Any, Path], Any]] = {
            Duration: lambda value, _: parse_duration(value),
            Size: lambda value, _: parse_size(value),
            Network: lambda value, _: _network(value),
            FilePath: lambda value, _: self._path(value),
            Secret: self._secret,
        }

    def struct(self, kind: type[S], raw: object, path: Path) -> S:
        """The struct; where a value is wrong or missing, its problem is noted and the default or a filler is there."""
        if not isinstance(raw, Mapping):
            self._findings.wrong(path, f"expected a table, got {_kind(raw)}")
            raw = {}
        hints = get_type_hints(kind, include_extras=True)
        for key in raw:
            if key not in hints:
                self._findings.wrong((*path, key), f"unknown setting{_suggest(key, hints, kind)}")
        values: dict[str, Any] = {}
        for field in msgspec.structs.fields(kind):
            value: Any = _BROKEN
            if field.name in raw:
                value = self._value(hints[field.name], raw[field.name], (*path, field.name))
            elif field.required:
                self._findings.wrong((*path, field.name), "is missing")
            if value is _BROKEN and field.required:
                value = _filler(hints[field.name])
            if value is not _BROKEN:
                values[field.name] = value
        return kind(**values)

    def _value(self, hint: Any, raw: object, path: Path) -> Any:
        kind, metas = _unwrap(hint)
        if kind is Any:
            return raw
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self.struct(kind, raw, path)
        if get_origin(kind) is tuple:
            return self._sequence(get_args(kind)[0], metas, raw, path)
        if get_origin(kind) is dict:
            return self._table(get_args(kind)[1], raw, path)
        return self._leaf(_alternative(kind, raw), metas, raw, path)

    def _sequence(self, item: Any, metas: tuple[msgspec.Meta, ...], raw: object, path: Path) -> Any:
        if not isinstance(raw, list):
            shown = f"; write [{_show(raw)}]" if isinstance(raw, str) else ""
            if isinstance(item, type) and issubclass(item, msgspec.Struct):
                shown = f"; write [[{dotted(path)}]]"
            return self._wrong(path, f"expected an array, got {_kind(raw)}{shown}")
        if any(meta.min_length and len(raw) < meta.min_length for meta in metas):
            return self._wrong(path, "must not be empty")
        values = [self._value(item, element, (*path, index)) for index, element in enumerate(raw)]
        values = [_filler(item) if value is _BROKEN else value for value in values]
        return tuple(value for value in values if value is not _BROKEN)

    def _table(self, item: Any, raw: object, path: Path) -> Any:
        if not isinstance(raw, Mapping):
            return self._wrong(path, f"expected a table, got {_kind(raw)}")
        values = {key: self._value(item, element, (*path, key)) for key, element in raw.items()}
        return {key: value for key, value in values.items() if value is not _BROKEN}

    def _leaf(self, kind: Any, metas: tuple[msgspec.Meta, ...], raw: object, path: Path) -> Any:
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self._value(kind, raw, path)
        try:
            if kind in self._leaves:
                return self._leaves[kind](raw, path)
            annotated = Annotated[(kind, *metas)] if metas else kind
            return msgspec.convert(raw, annotated, strict=True)
        except msgspec.ValidationError:
            return self._wrong(path, _expected(kind, metas, raw))
        except ValueError as error:
            return self._wrong(path, f"{_show(raw)}: {error}")

    def _wrong(self, path: Path, text: str) -> _Broken:
        self._findings.wrong(path, text)
        return _BROKEN

    def _path(self, raw: object) -> FilePath:
        if not isinstance(raw, str) or not raw or "\0" in raw:
            raise ValueError("expected the path of a file or folder")
        try:
            return self._base / FilePath(raw).expanduser()
        except RuntimeError as error:  # "~name" or "~", and nobody of that name, or no home
            raise ValueError("starts with the home of a user who has none") from error

    def _secret(self, raw: object, path: Path) -> Any:
        """A string, { file = … } or { env = … }. What it holds never reaches a message."""
        if isinstance(raw, str):
            return Secret(raw)
        if not isinstance(raw, Mapping) or len(raw) != 1 or not isinstance(next(iter(raw.values())), str):
            return self._wrong(path, 'expected a string, { file = "…" } or { env = "…" }')
        (source, name), *_ = raw.items()
        if source == "env":
            if name not in os.environ:
                return self._wrong(path, f"the environment has no variable {name}")
            return Secret(os.environ[name])
        if source == "file":
            return self._secret_file(name, path)
        return self._wrong(path, f"{_show(source)} is no place for a secret: file or env")

    def _secret_file(self, name: str, path: Path) -> Any:
        try:
            file = self._path(name)
        except ValueError as error:
            return self._wrong(path, f"{_show(name)}: {error}")
        try:
            if stat.S_IMODE(file.stat().st_mode) & stat.S_IRWXO:
                self._findings.warn(path, f"{file} is open to every user of this machine: chmod o= {file}")
            text = file.read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            return self._wrong(path, f"cannot read {file}: {error.strerror}")
        except UnicodeDecodeError:
            return self._wrong(path, f"{file} is not UTF-8")
        return Secret(text) if text else self._wrong(path, f"{file} is empty")


def _unwrap(hint: Any) -> tuple[Any, tuple[msgspec.Meta, ...]]:
    """The type inside Annotated, and its Metas without the description."""
    if get_origin(hint) is not Annotated:
        return hint, ()
    kind, *metas = get_args(hint)
    return kind, tuple(meta for meta in metas if isinstance(meta, msgspec.Meta))


def _filler(hint: Any) -> Any:
    """A harmless value of the type, or _BROKEN where there is none."""
    kind, _ = _unwrap(hint)
    if get_origin(kind) in (Union, types.UnionType):
        return _filler(get_args(kind)[0])
    return get_args(kind)[0] if get_origin(kind) is Literal else _FILLERS.get(get_origin(kind) or kind, _BROKEN)


def _alternative(kind: Any, raw: object) -> Any:
    """Which side of a union the value is meant for: the struct for a table, else the other; never None, TOML has none."""
    if kind == Network or get_origin(kind) not in (Union, types.UnionType):
        return kind
    sides = [side for side in get_args(kind) if side is not type(None)]
    structs = [side for side in sides if isinstance(side, type) and issubclass(side, msgspec.Struct)]
    if structs and isinstance(raw, Mapping):
        return structs[0]
    return next(side for side in sides if side not in structs)


def _network(raw: object) -> Network:
    if not isinstance(raw, str):
        raise ValueError('expected a network like "192.0.2.0/24" or "2001:db8::/32"')
    try:
        return _plain(ip_network(raw, strict=True))
    except ValueError:
        pass
    try:
        wider = ip_network(raw, strict=False)
    except ValueError:
        raise ValueError('expected a network like "192.0.2.0/24" or "2001:db8::/32"') from None
    host = raw.partition("/")[0]
    raise ValueError(f'{host} lies inside a network; did you mean "{wider}" (all of it) or "{host}" (one host)?')


def _plain(network: Network) -> Network:
    """IPv4 in IPv6 clothes is IPv4, as the address of a client is (`mail.ip.parse_ip`): else no client would ever fit."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < MAPPED:
        return network
    return ip_network((mapped, network.prefixlen - MAPPED))


def _expected(kind: Any, metas: tuple[msgspec.Meta, ...], raw: object) -> str:
    if get_origin(kind) is Literal:
        words = [str(word) for word in get_args(kind)]
        return f"{_show(raw)} is none of {', '.join(words)}{did_you_mean(str(raw), words)}"
    names = {int: "a whole number", str: "a string", bool: "true or false", float: "a number"}
    least = next((meta.ge for meta in metas if meta.ge is not None), None)
    most = next((meta.le for meta in metas if meta.le is not None), None)
    bounds = [f"at least {least}" if least is not None else "", f"at most {most}" if most is not None else ""]
    bounded = " and ".join(filter(None, bounds))
    shown = f"{names.get(kind, 'another kind of value')}{f' of {bounded}' if bounded else ''}"
    return f"expected {shown}, got {_show(raw)}"


def _show(raw: object) -> str:
    """A value as TOML writes it, cut short."""
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, str):
        return f'"{raw[:60]}"'
    if isinstance(raw, int | float):
        return str(raw)
    return _kind(raw)


def _kind(raw: object) -> str:
    kinds: dict[type, str] = {dict: "a table", list: "an array", str: "a string", bool: "true or false"}
    return kinds.get(type(raw), "a number" if isinstance(raw, int | float) else "a date or time")


def _suggest(key: str, hints: Mapping[str, Any], kind: type) -> str:
    """The nearest setting of this table, or the table where one of this very name belongs."""
    if kind is not Settings and key in get_type_hints(Settings):
        return "; it stands before the first [table]; did you mean it at the top of the file?"
    if "@" in key and "accounts" in hints:
        return f'; did you mean accounts."{key}"?'
    for table, hint in get_type_hints(Settings).items():
        if (
            isinstance(hint, type)
            and issubclass(hint, msgspec.Struct)
            and hint is not kind
            and key in get_type_hints(hint)
        ):
            return f"; did you mean {table}.{key}?"
    return did_you_mean(key, hints)
