"""Aliases from a file as sendmail and Postfix have it (aliases(5)), read again when it changes. They keep the reverse-path."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import Address, parse_domain, parse_mailbox
from mailserv.mail.plugin import Services, reading

UNSAFE = ("|", "/", ":include:", '"|', '"/')  # a command, a file, a list in a file: each is another plugin's


class AliasSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: Annotated[Path | None, msgspec.Meta(description="name: address, address …; read again when it changes")] = (
        None
    )
    domain: Annotated[
        str, msgspec.Meta(description="of names and targets without one; default: the server's hostname")
    ] = ""


class Plugin:
    Settings = AliasSettings

    def __init__(self, settings: AliasSettings, services: Services) -> None:
        """Raises ConfigError: a file that can't be used does not start."""
        self._file = settings.file
        with reading(services, "domain"):
            self._domain = parse_domain(settings.domain or services.hostname)
        self._log = services.log
        self._lock = threading.Lock()
        self._version: tuple[int, int, int] | None = None
        self._aliases: Mapping[str, Sequence[Address]] = {}
        if self._file is not None:
            with reading(services, "file"):
                try:
                    self._read(self._file)
                except OSError as error:
                    raise ValueError(f"{self._file}: {error.strerror}") from error

    @hookimpl
    def expand_recipient(self, address: Address) -> Sequence[Address] | None:
        """An alias that was read is good until a newer file can be read."""
        if self._file is None:
            return None
        with self._lock:
            try:
                self._read(self._file)
            except (OSError, ValueError) as error:
                self._log.warning("alias_file_unusable", file=str(self._file), error=str(error))
            return self._aliases.get(address.key)

    def _read(self, file: Path) -> None:
        state = file.stat()
        version = (state.st_mtime_ns, state.st_size, state.st_ino)
        if version != self._version:
            self._version = version  # before the reading: a broken file is told once
            self._aliases = parse(file.read_text(encoding="utf-8-sig"), self._domain)


def parse(text: str, domain: str) -> dict[str, tuple[Address, ...]]:
    """`Address.key` → targets. Raises ValueError that names the line."""
    found: dict[str, tuple[Address, ...]] = {}
    for number, line in _logical_lines(text):
        name, colon, targets = line.partition(":")
        words = [word.strip() for word in targets.split(",") if word.strip()]
        if not colon or not name.strip() or not words:
            raise ValueError(f"line {number}: an alias is written name: address, address …")
        key = _address(name.strip(), domain, number).key
        if key in found:
            raise ValueError(f"line {number}: {key} is there twice")
        found[key] = tuple(_address(word, domain, number) for word in words)
    return found


def _address(word: str, domain: str, number: int) -> Address:
    if word.startswith(UNSAFE):
        raise ValueError(
            f"line {number}: {word}: commands, files and includes are not for aliases; see the pipe and list plugins"
        )
    try:
        return parse_mailbox(word if "@" in word else f"{word}@{domain}")
    except ValueError as error:
        raise ValueError(f"line {number}: {word}: {error}") from error


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Lines with their numbers, without comments; one that begins with white space continues the one before."""
    lines: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0] in " \t" and lines:
            lines[-1] = (lines[-1][0], f"{lines[-1][1]} {line.strip()}")
        else:
            lines.append((number, line))
    return lines
