"""SASL on the wire (RFC 4954, RFC 5034): base64 and the order of steps; and the mechanisms PLAIN (RFC 4616) and LOGIN."""

from __future__ import annotations

import base64
import binascii

from mailserv.mail import reply as replies
from mailserv.mail.sasl import Credentials, Exchange, Outcome, SaslFailed, SaslMechanism, SaslView
from mailserv.mail.value import Value

_MAX_FIELD = 1024  # octets of a name or password; RFC 4616 §2 has 255 for the names, more is no honest password


class Challenge(Value, frozen=True):
    """Send `data` (not yet base64), then call `step` with the client's line."""

    data: bytes


Step = Challenge | Outcome


class SaslExchange:
    """One exchange: `start`, then `step` for each line until the answer is no Challenge. One thread."""

    __slots__ = ("_running",)

    def __init__(self) -> None:
        self._running: Exchange | None = None

    def start(self, mechanism: SaslMechanism, view: SaslView, initial: str | None) -> Step:
        """Begin. `initial` is the base64 initial response: None without one, "=" for an empty one (RFC 4954 §4)."""
        self._running = mechanism.begin(view)
        first = self._advance(None)
        if initial is None or not isinstance(first, Challenge):
            return first
        return self.step(b"" if initial == "=" else initial.encode("utf-8"))

    def step(self, line: bytes | None) -> Step:
        """The client's line, in base64. None: it cancelled the exchange."""
        if self._running is None:
            raise RuntimeError("the exchange is over, or has not begun")
        if line is None:
            return self._end(SaslFailed(replies.AUTH_CANCELLED))
        try:
            return self._advance(base64.b64decode(line, validate=True))
        except (binascii.Error, ValueError):  # ValueError: UnicodeDecodeError too
            return self._end(SaslFailed(replies.AUTH_BAD_RESPONSE))

    def _advance(self, answer: bytes | None) -> Step:
        assert self._running is not None
        try:
            return Challenge(self._running.send(answer) if answer is not None else next(self._running))
        except StopIteration as over:
            outcome: Outcome = over.value
            self._running = None
            return outcome

    def _end(self, failed: SaslFailed) -> SaslFailed:
        running, self._running = self._running, None
        if running is not None:
            running.close()
        return failed


def _plain(_: SaslView) -> Exchange:
    """RFC 4616 §2: [authzid] NUL authcid NUL passwd."""
    message = yield b""
    parts = message.split(b"\0")
    if len(parts) != 3:
        return SaslFailed(replies.AUTH_BAD_RESPONSE)
    return _credentials(authzid=parts[0], authcid=parts[1], password=parts[2])


def _login(_: SaslView) -> Exchange:
    name = yield b"Username:"
    password = yield b"Password:"
    return _credentials(authzid=b"", authcid=name, password=password)


def _credentials(*, authzid: bytes, authcid: bytes, password: bytes) -> Credentials | SaslFailed:
    """Raises UnicodeDecodeError."""
    if not authcid or not password or max(len(authzid), len(authcid), len(password)) > _MAX_FIELD:
        return SaslFailed(replies.AUTH_BAD_RESPONSE)
    name = authcid.decode("utf-8")
    acting_for = authzid.decode("utf-8")
    if not (name.isprintable() and acting_for.isprintable()):
        return SaslFailed(replies.AUTH_BAD_RESPONSE)
    return Credentials(name, acting_for, password.decode("utf-8"))


PLAIN = SaslMechanism("PLAIN", _plain)  # RFC 5034 §4 asks for it
LOGIN = SaslMechanism("LOGIN", _login, frozenset({"submission", "submissions"}))  # POP3 has USER and PASS for it
BUILT_IN = (PLAIN, LOGIN)
