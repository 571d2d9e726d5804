"""How many sessions the processes of one server have, so that a limit is for all of them together (docs/decisions/0021)."""

from __future__ import annotations

import mmap

_ADDRESSES = 4095  # numbers for client addresses: with 1,000 sessions two in a thousand share one with another address
_NUMBERS = _ADDRESSES + 1  # of one process: the first is that of all its sessions


class Census:
    """Memory that forked processes share. Each writes its own numbers and reads the others', so there is no lock: two that
    let somebody in at the same moment may both find the last place free."""

    def __init__(self, processes: int = 1) -> None:
        self._processes = processes
        self._numbers = memoryview(mmap.mmap(-1, processes * _NUMBERS * 4)).cast("I")

    def of(self, process: int) -> Seat:
        """Where this one tells its numbers, and sees those of the others."""
        others = [number for number in range(self._processes) if number != process]
        return Seat(self._numbers, process * _NUMBERS, [number * _NUMBERS for number in others])

    def clear(self, process: int) -> None:
        """It has ended, and its sessions with it."""
        start = process * _NUMBERS
        self._numbers[start : start + _NUMBERS] = memoryview(bytes(_NUMBERS * 4)).cast("I")


class Seat:
    """One process's view of a `Census`. `tell` is for one thread at a time; everything else for any."""

    def __init__(self, numbers: memoryview, own: int, others: list[int]) -> None:
        self._numbers = numbers
        self._own = own
        self._others = others

    def tell(self, sessions: int, address: str, change: int) -> None:
        """So many are here now: one more (1) or less (-1) from `address`."""
        if self._others:
            self._numbers[self._own] = sessions
            self._numbers[self._own + _slot(address)] += change

    def elsewhere(self) -> int:
        """Sessions of the other processes."""
        if not self._others:
            return 0
        return sum([self._numbers[other] for other in self._others])

    def elsewhere_of(self, address: str) -> int:
        """Theirs from this address, or a few more."""
        if not self._others:
            return 0
        slot = _slot(address)
        return sum([self._numbers[other + slot] for other in self._others])


def _slot(address: str) -> int:
    """The same in every process: they are forked, so they hash alike."""
    return 1 + hash(address) % _ADDRESSES
