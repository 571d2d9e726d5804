"""Passwords, kept as argon2id hashes (RFC 9106) with OWASP's parameters: 19 MiB, 2 passes, 1 lane."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Protocol

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)  # memory_cost in KiB
_places = threading.BoundedSemaphore(2)  # 19 MiB and a core each: a flood of logins waits, it does not exhaust us

# The hash of a random password that nobody kept, with the same parameters: what a login to no account is checked
# against, so that the time of the answer does not tell whether there is one.
_NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$tthrLubG1toYe8WbsgBijw$UxbKbtqrSMz4jIXa3Xltcfsh5lzvenPS9uJ8g3B4rIE"


def hash_password(password: str) -> str:
    """The hash to store. Takes some 20 ms. Any thread."""
    with _places:
        return _hasher.hash(_octets(password))


class Hasher(Protocol):
    """What of argon2's PasswordHasher is used here."""

    def verify(self, hash: str, password: bytes, /) -> bool:
        """True, or VerificationError or InvalidHashError."""
        ...


def verify_password(stored: str | None, password: str, *, hasher: Hasher = _hasher) -> bool:
    """Whether `password` has that hash; None (no such account) or a hash that is none: False, after the same time.

    Takes some 20 ms, and waits while two others are being verified. Any thread.
    """
    with _places:
        if stored is not None:
            try:
                return hasher.verify(stored, _octets(password))
            except InvalidHashError:
                pass  # damaged, or made by hand: as good as no account
            except VerificationError:
                return False
        with suppress(VerificationError):
            hasher.verify(_NOBODY, _octets(password))
        return False


def _octets(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")  # whatever the wire brought: never an exception
