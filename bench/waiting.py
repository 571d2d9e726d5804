"""Waiting for what other programs do. Everything here has an end."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from bench.errors import Failed

START_SECONDS = 60.0  # for a server to come up, or to go down
LOOK_SECONDS = 0.005  # between two looks


def wait_until(true: Callable[[], bool], seconds: float, what: str) -> None:
    """Return as soon as it is `true`. Failed when it is not so in time."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise Failed(f"not within {seconds:.0f} s: {what}")
        time.sleep(LOOK_SECONDS)


def greeted(port: int) -> bool:
    """Whether somebody on this port of the loopback says a word."""
    try:
        with socket.create_connection(("127.0.0.1", port), START_SECONDS) as client:
            return bool(client.recv(1))
    except ConnectionError:
        return False


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
