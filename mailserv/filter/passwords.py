"""Is this the account's password? argon2id says so once; for a while after that a digest in memory knows it again."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections import OrderedDict
from collections.abc import Callable

from mailserv.clock import Clock
from mailserv.store.passwords import verify_password

MOST = 10_000  # accounts whose password is known again: some 3 MB


class Passwords:
    """Any thread. Nothing that is kept here outlives the process, or helps anybody who has only the database.

    What is kept is a digest under a key of this process, over account, stored hash and password: another password, a
    changed hash and a removed account are not known again. A wrong password is never kept, and takes as long as ever.
    """

    def __init__(
        self,
        clock: Clock,
        key: bytes,
        seconds: float,
        *,
        most: int = MOST,
        verify: Callable[[str | None, str], bool] = verify_password,
    ) -> None:
        """`key`: 16–64 octets that nobody knows. `seconds` since argon2id said so; 0: nothing is kept."""
        self._clock = clock
        self._key = key
        self._seconds = seconds
        self._most = most
        self._verify = verify
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[bytes, float]] = OrderedDict()  # account → digest, end; the oldest first

    def is_right(self, address: str, stored: str | None, password: str) -> bool:
        """`stored`: the account's hash, None without an account."""
        if not self._seconds:
            return self._verify(stored, password)
        digest = self._digest(address, stored or "", password)  # for everybody, so that time does not tell who is known
        if self._knows(address, digest):
            return True
        if not self._verify(stored, password):
            return False
        self._keep(address, digest)
        return True

    def _digest(self, address: str, stored: str, password: str) -> bytes:
        parts = (address, stored, password)
        text = "".join(f"{len(part)}:{part}" for part in parts)
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self._key, digest_size=32).digest()

    def _knows(self, address: str, digest: bytes) -> bool:
        with self._lock:
            known, ends = self._known.get(address, (b"", 0.0))
        return hmac.compare_digest(known, digest) and self._clock.monotonic() < ends

    def _keep(self, address: str, digest: bytes) -> None:
        now = self._clock.monotonic()
        with self._lock:
            self._known[address] = (digest, now + self._seconds)
            self._known.move_to_end(address)
            while len(self._known) > self._most or next(iter(self._known.values()))[1] <= now:
                self._known.popitem(last=False)
