"""The file of logins, and the judgement of a password (RFC 9106)."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

from mailserv.mail.address import Address, parse_domain, parse_mailbox

AT_ONCE = 2  # verifications: each takes a core and the memory that its hash asks for; a flood of logins waits
_places = threading.BoundedSemaphore(AT_ONCE)
_SALT_AND_TAG = re.compile(r".*[$][A-Za-z0-9+/]{11,}[$][A-Za-z0-9+/]{6,}")  # base64 of 8 and 4 octets (RFC 9106 §3.1)
_hasher = PasswordHasher()  # verifies with the parameters that stand in the hash


@dataclass(frozen=True, slots=True)
class Entry:
    """One login. `reverse_paths`: keys of addresses, and "@domain"; None: the server's own rule says."""

    address: Address
    hash: str = field(repr=False)
    reverse_paths: frozenset[str] | None


class Entries:
    """Any thread."""

    def __init__(self, file: Path) -> None:
        """Raises OSError and ValueError, which names the line: a file that can't be used does not start."""
        self._file = file
        self._lock = threading.Lock()
        self._version: tuple[int, int, int] | None = None
        self._entries: Mapping[str, Entry] = {}
        self._read()

    def now(self) -> tuple[Mapping[str, Entry], str]:
        """`Address.key` → Entry, and what is wrong with a file that has become unusable, told once for each change."""
        with self._lock:
            try:
                self._read()
            except (OSError, ValueError) as error:
                return self._entries, str(error)
            return self._entries, ""

    def _read(self) -> None:
        state = self._file.stat()
        version = (state.st_mtime_ns, state.st_size, state.st_ino)
        if version != self._version:
            self._version = version  # before the reading: a broken file is told once
            self._entries = parse(self._file.read_text(encoding="utf-8-sig"))


def parse(text: str) -> dict[str, Entry]:
    """Raises ValueError, which names the line and never says what stands in it: it may be a secret."""
    found: dict[str, Entry] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            entry = _entry(line.strip())
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if entry.address.key in found:
            raise ValueError(f"line {number}: this address is there twice")
        found[entry.address.key] = entry
    return found


def _entry(line: str) -> Entry:
    name, _, rest = line.partition(":")
    hash_, colon, paths = rest.partition(":")
    if not _is_hash(hash_):
        raise ValueError("after the address and a colon stands an argon2 hash: $argon2id$…")
    return Entry(parse_mailbox(name), hash_, frozenset(map(_path, paths.split(","))) if colon else None)


def _is_hash(text: str) -> bool:
    """Whether a password can have it: one that is cut off or asks for what cannot be would refuse every login."""
    try:
        asked = extract_parameters(text)
    except InvalidHashError:
        return False
    can_be = asked.time_cost >= 1 and asked.parallelism >= 1 and asked.memory_cost >= 8 * asked.parallelism
    return can_be and bool(_SALT_AND_TAG.fullmatch(text))


def _path(text: str) -> str:
    word = text.strip()
    return f"@{parse_domain(word[1:])}" if word.startswith("@") else parse_mailbox(word).key


def matches(hash_: str, password: str) -> bool:
    """Whether the password has this hash. Takes as long as the hash asks for. Any thread."""
    with _places:
        try:
            return _hasher.verify(hash_, password.encode("utf-8", "surrogatepass"))
        except (VerificationError, InvalidHashError):
            return False
