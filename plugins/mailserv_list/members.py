"""Who is on a list: from the settings, and from a file that is read again when it has changed."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from mailserv.mail.address import Address, parse_mailbox


class Members:
    """Any thread. `file` holds one address a line; "#" begins a comment."""

    def __init__(self, addresses: Iterable[str], file: Path | None) -> None:
        """Raises ValueError for an address that is none, and OSError when the file can't be read."""
        self._fixed = {address.key: address for address in map(parse_mailbox, addresses)}
        self._file = file
        self._lock = threading.Lock()
        self._version: tuple[int, int, int] | None = None
        self._read: dict[str, Address] = {}
        self.now()

    def now(self) -> dict[str, Address]:
        """`Address.key` → address. Raises ValueError and OSError when the file has become unusable."""
        if self._file is None:
            return self._fixed
        with self._lock:
            state = self._file.stat()
            version = (state.st_mtime_ns, state.st_size, state.st_ino)
            if version != self._version:
                self._read = _parse(self._file.read_text(encoding="utf-8-sig"))
                self._version = version
            return {**self._read, **self._fixed}


def _parse(text: str) -> dict[str, Address]:
    found: dict[str, Address] = {}
    for number, line in enumerate(text.splitlines(), 1):
        word = line.partition("#")[0].strip()
        if word:
            try:
                address = parse_mailbox(word)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
            found.setdefault(address.key, address)
    return found
