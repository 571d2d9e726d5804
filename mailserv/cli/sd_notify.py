"""Tells systemd how the service does: one datagram to $NOTIFY_SOCKET (sd_notify(3)); nothing where there is none."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager


def notify(state: str) -> None:
    """Send `state`, for example "READY=1". Without a supervisor, or when it does not listen, nothing happens."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path[:1] not in ("/", "@"):
        return
    address = "\0" + path[1:] if path.startswith("@") else path  # "@": Linux' abstract namespace
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(state.encode("utf-8"), address)
        except OSError:
            return  # the mail goes on without systemd's knowing


@contextmanager
def reloading() -> Iterator[None]:
    """What systemd is told before and after a reload, which it waits for where Type=notify-reload says so."""
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
    try:
        yield
    finally:
        notify("READY=1")


def stopping(seconds: float) -> None:
    """The end has begun, and may take so long: systemd waits for it, whatever TimeoutStopSec says."""
    notify(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")


def be_silent() -> None:
    """In a process whose parent does the talking: systemd hears nobody else, and complains."""
    os.environ.pop("NOTIFY_SOCKET", None)
