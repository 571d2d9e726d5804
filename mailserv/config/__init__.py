"""The configuration file: TOML in, typed settings out, or everything that is wrong with it at once.

Each problem is one printable line: `file:line: key: what is wrong; did you mean "x"?`
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import tomli

from mailserv.config import locate
from mailserv.config.addresses import parse_listen_address, parse_nameserver
from mailserv.config.certificates import check_certificate
from mailserv.config.changes import Changes, diff
from mailserv.config.checks import check
from mailserv.config.problems import Findings, Problem, dotted
from mailserv.config.reader import Reader
from mailserv.errors import ConfigError
from mailserv.settings import Section, Settings

__all__ = [
    "Changes",
    "Check",
    "Loaded",
    "diff",
    "load",
    "parse_listen_address",
    "parse_nameserver",
    "read_mapping",
    "read_section",
]

S = TypeVar("S", bound=msgspec.Struct)
Check = Callable[[Settings], object]
"""A check of another room. It raises ConfigError whose problems are "key: what is wrong"."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings that can be used, and what an operator should know about them: one printable line each, in file order."""

    settings: Settings
    warnings: list[str]


def load(path: Path, checks: Sequence[Check] = (), *, check_files: bool = True) -> Loaded:
    """Read the file. Raises ConfigError with every problem, in file order. Any thread.

    Relative paths in the file start from its folder. `checks` are asked even when something else is wrong, with defaults
    in its place. `check_files=False` leaves the certificate alone: a command that needs no TLS works without it.
    """
    text = _read(path)
    raw = _parse(text, path)
    findings = Findings()
    base = path.absolute().parent
    settings = Reader(findings, base).struct(Settings, raw, ())
    settings = msgspec.structs.replace(settings, plugin={name: _from(base, it) for name, it in settings.plugin.items()})
    findings.all_read()
    _examine(settings, findings, checks, check_files=check_files)
    _check_mode(path, raw, findings)
    lines = locate.locate(text)
    if findings.problems:
        raise ConfigError(_printable(findings.problems, path, lines))
    return Loaded(settings, _printable(findings.warnings, path, lines))


def _from(base: Path, raw: Mapping[str, Any]) -> Section:
    section = Section(raw)
    section.base = base
    return section


def read_section(kind: type[S], raw: Mapping[str, Any], name: str) -> S:
    """A plugin's own settings, `[plugin.NAME]`, with the same types and the same messages. Raises ConfigError."""
    return _typed(kind, raw, ("plugin", name), raw.base if isinstance(raw, Section) else Path())


def read_mapping(raw: Mapping[str, Any], base: Path = Path()) -> Settings:
    """Settings from what a TOML file would hold, for tests. Types are checked, values are not. Raises ConfigError."""
    return _typed(Settings, raw, (), base)


def _typed(kind: type[S], raw: Mapping[str, Any], path: locate.Path, base: Path) -> S:
    findings = Findings()
    typed = Reader(findings, base).struct(kind, raw, path)
    if findings.problems:
        raise ConfigError([f"{dotted(problem.path)}: {problem.text}" for problem in findings.problems])
    return typed


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors begin a file with a byte order mark
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: is not UTF-8, which TOML must be"]) from error


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ConfigError([f"{path}:{error.lineno}: is not TOML: {error.msg} (column {error.colno})"]) from error
    except RecursionError as error:
        raise ConfigError([f"{path}: tables or arrays in it are nested too deep"]) from error
    except ValueError as error:  # of Python's int()
        raise ConfigError([f"{path}: a number in it has too many digits"]) from error


def _examine(settings: Settings, findings: Findings, checks: Sequence[Check], *, check_files: bool) -> None:
    check(settings, findings)
    if check_files:
        check_certificate(settings, findings)
        _check_folders(settings, findings)
    for ask in checks:
        try:
            ask(settings)
        except ConfigError as error:
            for problem in error.problems:
                _add(_read_problem(problem), findings)


def _check_folders(settings: Settings, findings: Findings) -> None:
    """data_dir is made by the first start, the folder of plugins is not."""
    if not findings.is_unread("data_dir") and os.path.exists(settings.data_dir) and not settings.data_dir.is_dir():
        findings.wrong(("data_dir",), f"{settings.data_dir} is no folder")
    if settings.plugins.path is not None and not os.path.isdir(settings.plugins.path):
        findings.warn(
            ("plugins", "path"), f"{settings.plugins.path} is no folder, or not ours to see: no plugin is there"
        )


def _add(problem: Problem, findings: Findings) -> None:
    """Another room's problem, unless it comes from a filler."""
    follows = "local_domains" in problem.text and findings.is_unread("local_domains")
    if not follows and not (problem.path and findings.is_unread(*problem.path)):
        findings.wrong(problem.path, problem.text)


def _read_problem(text: str) -> Problem:
    """ "key: what is wrong" → where and what. What names no setting stands for the whole file."""
    key, _, what = text.partition(": ")
    path: list[str | int] = []
    try:
        inner: object = tomli.loads(f"{key.strip().removeprefix('[').replace('] ', '.').rstrip(']')} = 0")
    except tomli.TOMLDecodeError:
        return Problem((), text)
    while isinstance(inner, dict):
        ((name, inner),) = inner.items()
        path.append(name)
    return Problem(tuple(path), what)


def _check_mode(path: Path, raw: Mapping[str, Any], findings: Findings) -> None:
    """A password in the file itself is as private as the file."""
    routes = raw.get("routes")
    for name, route in routes.items() if isinstance(routes, dict) else ():
        holds_password = isinstance(route, dict) and isinstance(route.get("password"), str)
        if holds_password and stat.S_IMODE(path.stat().st_mode) & stat.S_IROTH:
            findings.warn(("routes", name, "password"), f"every user of this machine can read {path}: chmod o= {path}")


def _printable(problems: Sequence[Problem], path: Path, lines: Mapping[locate.Path, int]) -> list[str]:
    """In file order, each once."""
    found = sorted((locate.line_of(dict(lines), problem.path), index) for index, problem in enumerate(problems))
    texts = []
    for line, index in found:
        problem = problems[index]
        key = f"{dotted(problem.path)}: " if problem.path else ""
        text = f"{key}{problem.text}"
        shown = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
        texts.append(f"{path}:{line}: {shown}")
    return list(dict.fromkeys(texts))
