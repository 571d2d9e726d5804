"""What the commands share: the options, the store beside a running server, tables for people and JSON for programs."""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import click

from mailserv.clock import SystemClock
from mailserv.settings import Settings
from mailserv.store.interface import Store
from mailserv.store.sqlite import open_store

F = TypeVar("F", bound=Callable[..., Any])
TABLE_BLOCK = 1000  # rows


def config_option(command: F) -> F:
    """`--config F`, on every command that reads the settings."""
    return click.option(
        "--config",
        "config",
        type=click.Path(readable=False, path_type=Path),  # what cannot be read is one line of ours, not of click's
        metavar="FILE",
        help="Settings file. Default: $MAILSERV_CONFIG, else /etc/mailserv/mailserv.toml.",
    )(command)


def json_option(command: F) -> F:
    """`--json`: one JSON document instead of a table."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


class QueueId(click.ParamType[str]):
    """What can be one. The database takes no half characters, which bytes that are not UTF-8 become in an argument."""

    name = "queue_id"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value or not value.isascii() or not value.isprintable():
            self.fail(f"{value!r} is no queue id", param, ctx)
        return value


def refuse(reason: str) -> click.ClickException:
    """The exception for "refused or failed, with the reason on standard error": exit code 1."""
    return click.ClickException(reason)


@contextmanager
def opened_store(settings: Settings, *, make: bool = False, stay_root: bool = False) -> Iterator[Store]:
    """The store beside a server or without one. `make`: a data_dir that is not there is made. Raises StoreError.

    Root acts as the owner of data_dir from here on: a file that root makes there would shut the server out. `stay_root`:
    not for a command that reads or writes somebody's files as well; the store gives what it makes to that owner.
    """
    data_dir = settings.data_dir
    if not make and not data_dir.is_dir() and _can_see(data_dir):
        raise refuse(f"data_dir {data_dir} is not there: the server has not run yet, or this is not its settings file")
    if not (stay_root and os.geteuid() == 0):
        _become_owner(data_dir)
    store = open_store(data_dir, SystemClock(), exclusive=False)
    try:
        yield store
    finally:
        store.close()


def _can_see(path: Path) -> bool:
    """Whether "it is not there" can be told from "we may not look"."""
    return os.access(path.parent, os.X_OK)


def _become_owner(data_dir: Path) -> None:
    try:
        owner = data_dir.stat()
    except FileNotFoundError:
        return
    except PermissionError as error:
        raise refuse(f"{data_dir}: {error.strerror}; run this as the user that mailserv runs as, or as root") from error
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.setgroups([owner.st_gid])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
    elif not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
        if owner.st_uid == os.geteuid():
            raise refuse(f"{data_dir} is not ours to read and write, though it belongs to us: chmod u=rwx {data_dir}")
        raise refuse(f"{data_dir} belongs to {_name(owner.st_uid)}; run this as that user, or as root")


def _name(uid: int) -> str:
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user id {uid}"


def utc_time(at: float) -> str:
    """Epoch seconds as people and programs read them."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def progress(label: str, octets: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error when that is a terminal. What is yielded takes how many octets more are done."""
    with click.progressbar(length=octets, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        yield bar.update


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_json_list(values: Iterable[object]) -> None:
    """The same for a list that may be long: each is printed as it comes."""
    before = "["
    for value in values:
        text = json.dumps(value, indent=2, ensure_ascii=False).replace("\n", "\n  ")
        click.echo(f"{before}\n  {text}", nl=False)
        before = ","
    click.echo("[]" if before == "[" else "\n]")


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as they need, judged from one TABLE_BLOCK of rows to the next; the last one is not padded. Control
    characters are shown, never sent."""
    coming = iter(rows)
    block: list[Sequence[object]] = [head, *islice(coming, TABLE_BLOCK)]
    widths = [0] * len(head)
    while block:
        cells = [[one_line(value) for value in row] for row in block]
        widths = [max(width, *(len(row[column]) for row in cells)) for column, width in enumerate(widths)]
        padded = ("  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)) for row in cells)
        click.echo("\n".join(line.rstrip() for line in padded))
        block = list(islice(coming, TABLE_BLOCK))


def print_fields(fields: Mapping[str, object]) -> None:
    """`name  value`, one a line."""
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        click.echo(f"{name:<{width}}  {one_line(value)}".rstrip())


def one_line(value: object) -> str:
    """Control characters as escapes: what a plugin or a peer wrote is shown, never obeyed by the terminal."""
    text = str(value)
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def count(number: int, noun: str) -> str:
    """ "1 row", "2 rows"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
