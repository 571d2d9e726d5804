"""What is written of a triplet (RFC 6647 §2.1): digests, so that nobody reads from it who writes to whom."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from mailserv.mail.address import Address

SINCE, PASSED, NETWORK = "since ", "passed ", "network "  # beginnings of keys: waits, is known, a network that is known
WAITING = "waiting"  # beginning of keys of counts: triplets that wait
SUCCESSES = "successes "  # and a network: its triplets that came back


@dataclass(frozen=True, slots=True)
class Triplet:
    """A client's network and two addresses, of which only digests are kept; or a client, whatever it sends."""

    network: str
    reverse_path: str
    forward_path: str

    @classmethod
    def of(cls, network: str, reverse_path: Address, forward_path: Address) -> Triplet:
        return cls(network, digest(reverse_path), digest(forward_path))

    @classmethod
    def of_client(cls, network: str, client: str) -> Triplet:
        """What stands for all triplets of a client whose network has no room for more of them."""
        return cls(network, client, "")

    @property
    def is_client(self) -> bool:
        return not self.forward_path

    @property
    def key(self) -> str:
        """Of one length, whatever the addresses."""
        text = "\n".join((self.network, self.reverse_path, self.forward_path))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def value(self, at: float) -> str:
        """What stands in the table under a key: a time, and what `forget` looks for."""
        return f"{at} {self.network} {self.reverse_path} {self.forward_path}"


def digest(address: Address) -> str:
    return hashlib.blake2b(address.key.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Windows:
    """Triplets that wait are counted by the window in which they came, so that no count outlives what it counts for long,
    and none that a clock which was ahead has left behind is looked at."""

    seconds: float

    def key(self, at: float, network: str = "") -> str:
        """Of the count of those that came in the window around `at`: all, or one network's."""
        return f"{WAITING} {int(at // self.seconds)} {network}"

    def end(self, at: float) -> float:
        """When what began to wait at `at` is forgotten at the latest."""
        return (at // self.seconds + 2) * self.seconds


def time_of(value: str) -> float:
    """The time in a value of any row."""
    return float(value.partition(" ")[0])


def triplet_of(value: str) -> Triplet | None:
    """The triplet in a value; None for a row about a network as a whole."""
    words = value.split(" ")
    return Triplet(*words[1:]) if len(words) == 4 else None
