"""Logins from a file: addresses, argon2 hashes, and the reverse-paths that each may use. Read again when it changes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import Address, parse_mailbox
from mailserv.mail.plugin import Services, reading
from mailserv_passwdfile.entries import Entries, Entry, matches


class PasswdFileSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: Annotated[
        Path, msgspec.Meta(description="address:hash, or address:hash:reverse-paths; read again when it changes")
    ]


class Plugin:
    Settings = PasswdFileSettings

    def __init__(self, settings: PasswdFileSettings, services: Services) -> None:
        with reading(services, "file"):
            try:
                self._entries = Entries(settings.file)
            except OSError as error:
                raise ValueError(f"{settings.file}: {error.strerror}") from error
        self._log = services.log

    @hookimpl
    def authenticate(self, name: str, password: str, ip: str, service: str) -> str | None:
        """Who is in the file is judged by it alone; anybody else is not known here."""
        try:
            entry = self._entry(parse_mailbox(name).key)
        except ValueError:
            return None
        if entry is None:
            return None
        return str(entry.address) if matches(entry.hash, password) else ""

    @hookimpl
    def may_send_as(self, login: str, reverse_path: Address) -> bool | None:
        entry = self._entry(login)
        if entry is None or entry.reverse_paths is None:
            return None
        return reverse_path.key in entry.reverse_paths or f"@{reverse_path.domain}" in entry.reverse_paths

    def _entry(self, key: str) -> Entry | None:
        """What was read is good until a newer file can be read: a slip of the pen locks nobody out."""
        entries, trouble = self._entries.now()
        if trouble:
            self._log.warning("passwdfile_unusable", error=trouble)
        return entries.get(key)
