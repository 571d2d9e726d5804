"""A network of one's own: nothing but a loopback interface, on which every port is free, also 25."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from interop_kit import PATH

T = TypeVar("T")

CLONE_NEWNET = 0x40000000  # unshare(2)


def in_own_network(work: Callable[[], T]) -> T:
    """Run `work` on a thread in a new network namespace. Its sockets, threads and processes are there too.

    The namespace goes with the last of them. Needs root.
    """
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_enter).result()
        return pool.submit(work).result()


def _enter() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    subprocess.run(["ip", "link", "set", "lo", "up"], env={"PATH": PATH}, check=True, capture_output=True)
