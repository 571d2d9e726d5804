"""A send that keeps Python's interpreter lock: for what goes out in microseconds (docs/decisions/0025)."""

from __future__ import annotations

import ctypes
import socket

MOST = 16 * 1024  # octets: replies, small messages. More takes long enough that other threads should run meanwhile

_FLAGS = getattr(socket, "MSG_DONTWAIT", 0) | getattr(socket, "MSG_NOSIGNAL", 0)
_send = getattr(ctypes.PyDLL(None), "send", None)  # PyDLL: unlike CDLL it does not give the lock up
if _send is not None:
    _send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
    _send.restype = ctypes.c_ssize_t


def send_at_once(sock: socket.socket, data: bytes) -> int:
    """Send what the kernel takes without waiting: how many octets; 0 when `data` is too long, or it takes none.

    An error is 0, too: the send that follows meets it again and raises it. Not for a TLS socket. Any thread.
    """
    if _send is None or len(data) > MOST:
        return 0
    sent: int = _send(sock.fileno(), data, len(data), _FLAGS)
    return max(sent, 0)
