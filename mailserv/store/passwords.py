"""Passwords, kept as argon2id hashes (RFC 9106) with OWASP's parameters: 19 MiB, 2 passes, 1 lane."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from argon2 import PasswordHasher
from argon2.exceptions import HashingError, InvalidHashError, VerificationError
from argon2.low_level import error_to_str

from mailserv.cores import roam
from mailserv.errors import StoreUnavailable

_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)  # memory_cost in KiB

# 19 MiB and a core each: a flood of logins waits, it does not exhaust us. On threads of their own, because the C library
# keeps such a block for each thread that ever asked for one: two hundred sessions would hold half a gigabyte for good.
# They need no lock of Python's meanwhile, so they leave the server's core to the others.
_hashing = ThreadPoolExecutor(max_workers=2, thread_name_prefix="hashing", initializer=roam)

# The hash of a random password that nobody kept, with the same parameters: what a login to no account is checked
# against, so that the time of the answer does not tell whether there is one.
_NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$tthrLubG1toYe8WbsgBijw$UxbKbtqrSMz4jIXa3Xltcfsh5lzvenPS9uJ8g3B4rIE"

_NO_ROOM = frozenset(map(error_to_str, (-22, -33)))  # ARGON2_MEMORY_ALLOCATION_ERROR, ARGON2_THREAD_FAIL


class Maker(Protocol):
    """What of argon2's PasswordHasher is used to make a hash."""

    def hash(self, password: bytes, /) -> str:
        """The hash, or HashingError."""
        ...


def hash_password(password: str, *, maker: Maker = _hasher) -> str:
    """The hash to store. Takes some 20 ms. Any thread. Raises StoreUnavailable when the machine has no room for it."""
    try:
        return _hashing.submit(maker.hash, _octets(password)).result()
    except HashingError as error:
        raise StoreUnavailable(f"a password cannot be hashed now: {error}") from error


class Hasher(Protocol):
    """What of it is used to check one."""

    def verify(self, hash: str, password: bytes, /) -> bool:
        """True, or VerificationError or InvalidHashError."""
        ...


def verify_password(stored: str | None, password: str, *, hasher: Hasher = _hasher) -> bool:
    """Whether `password` has that hash; None (no such account) or a hash that is none: False, after the same time.

    Takes some 20 ms, and waits while two others are being verified. Any thread. Raises StoreUnavailable when the machine
    has no room for it: that says nothing about the password.
    """
    return _hashing.submit(_verify, stored, _octets(password), hasher).result()


def _verify(stored: str | None, password: bytes, hasher: Hasher) -> bool:
    try:
        if stored is not None:
            try:
                return hasher.verify(stored, password)
            except InvalidHashError:
                pass  # damaged, or made by hand: as good as no account
        hasher.verify(_NOBODY, password)
    except VerificationError as error:
        if str(error) in _NO_ROOM:
            raise StoreUnavailable(f"a password cannot be checked now: {error}") from error
    return False


def _octets(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")  # whatever the wire brought: never an exception
