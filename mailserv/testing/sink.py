"""A remote mail server on a real socket, for tests: takes messages, refuses, breaks off and lies as it is told."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self, TypeVar

from mailserv.testing.sink_session import DROP, SILENCE, Answer, Held, Raw, Session, TakenMessage

__all__ = ["DROP", "SILENCE", "Answer", "Held", "Raw", "ScriptedMX", "TakenMessage"]

T = TypeVar("T")

WAIT_SECONDS = 10.0  # how long the `wait_…` methods wait for a client before they say that it did not come


class ScriptedMX:
    """An SMTP server on `host` and a free port; every session runs on a thread of its own.

    ::

        with ScriptedMX({"RCPT TO:<bob@": "550 5.1.1 No such user", "DOT": ["451 4.3.0 Later"]}) as mx:
            ...deliver to mx.host, mx.port...
            assert mx.messages[0].rcpts == ("<alice@example.net>",)

    The script maps the beginning of a command line (case does not count, the longest match wins) to an answer. Besides
    commands there are the moments "GREETING", "CONTENT" (354 was said; only `Raw` and `Held` make sense), "DOT" (the end
    of the content) and "AUTH-LINE". An answer is text ("\\n" between lines), a `Raw`, a `Held`, `DROP` or `SILENCE`. A
    list is used up one by one; after it the server answers by its own lights again. A positive answer does what it
    says, another one leaves the state as it is.

    `capabilities` are EHLO's lines; STARTTLS is added when `tls` (a server's context) is given and not yet on. Whether
    a client pipelines is seen in `reads`: what each read from the socket gave.
    """

    def __init__(
        self,
        script: Mapping[str, Answer | Iterable[Answer]] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        capabilities: Iterable[str] = ("PIPELINING", "SIZE 50000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.offers = tuple(capabilities)
        self.context = tls
        self._changed = threading.Condition()
        self._script: dict[str, Answer | list[Answer]] = {}
        self._held: list[Held] = []
        self._messages: list[TakenMessage] = []
        self._logins: list[tuple[str, str]] = []
        self._commands: list[str] = []
        self._reads: list[bytes] = []
        self._sessions: list[tuple[Session, threading.Thread]] = []
        for beginning, answer in (script or {}).items():
            self.answer(beginning, answer)
        self._listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.host: str = self._listener.getsockname()[0]
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def messages(self) -> list[TakenMessage]:
        """Every message accepted so far."""
        with self._changed:
            return list(self._messages)

    @property
    def logins(self) -> list[tuple[str, str]]:
        """(user, password) of every AUTH so far, accepted or not."""
        with self._changed:
            return list(self._logins)

    @property
    def commands(self) -> list[str]:
        """Every command line so far, of all sessions."""
        with self._changed:
            return list(self._commands)

    @property
    def reads(self) -> list[bytes]:
        """What each read from a socket gave, after TLS was taken off."""
        with self._changed:
            return list(self._reads)

    @property
    def connections(self) -> int:
        """How many clients have connected."""
        with self._changed:
            return len(self._sessions)

    def answer(self, beginning: str, answer: Answer | Iterable[Answer]) -> None:
        """Change the script, also while it runs."""
        entry = answer if isinstance(answer, str | Raw | Held) else list(answer)
        with self._changed:
            self._script[beginning.upper()] = entry
            self._held += [e for e in (entry if isinstance(entry, list) else [entry]) if isinstance(e, Held)]

    def wait_for_messages(self, count: int = 1, *, timeout: float = WAIT_SECONDS) -> list[TakenMessage]:
        """Wait until `count` messages were accepted, and return all. Raises TimeoutError."""
        self._wait(lambda: len(self._messages) >= count, f"{count} messages", timeout)
        return self.messages

    def wait_for_command(self, beginning: str, *, timeout: float = WAIT_SECONDS) -> None:
        """Wait until a command that begins so (case does not count) was received. Raises TimeoutError."""
        start = beginning.upper()
        self._wait(lambda: any(line.upper().startswith(start) for line in self._commands), beginning, timeout)

    def hang_up(self) -> None:
        """End every session that is open, as a server that restarts does; go on listening."""
        with self._changed:
            sessions = list(self._sessions)
        for session, thread in sessions:
            session.abort()
            thread.join()

    def close(self) -> None:
        """Stop listening, end every session, wait for the threads. What is `Held` is let go. Idempotent."""
        with self._changed:
            held = list(self._held)
        try:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes up the acceptor
        except OSError:
            return  # closed before
        self._acceptor.join()
        self._listener.close()
        for answer in held:
            answer.release.set()
        self.hang_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What follows is called by the sessions, on their threads.

    def next_answer(self, moment: str, default: str) -> Answer:
        """What the script says to a command line or a moment."""
        with self._changed:
            matching = [beginning for beginning in self._script if moment.upper().startswith(beginning)]
            entry = self._script[max(matching, key=len)] if matching else default
            if isinstance(entry, list):
                return entry.pop(0) if entry else default
            return entry

    def note_read(self, data: bytes) -> None:
        self._note(self._reads, data)

    def note_command(self, line: str) -> None:
        self._note(self._commands, line)

    def note_login(self, user: str, password: str) -> None:
        self._note(self._logins, (user, password))

    def note_message(self, message: TakenMessage) -> None:
        self._note(self._messages, message)

    def _note(self, record: list[T], entry: T) -> None:
        with self._changed:
            record.append(entry)
            self._changed.notify_all()

    def _wait(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError(f"{what} did not come; commands so far: {self._commands}")

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # closed
            session = Session(self, sock)
            thread = threading.Thread(target=session.run, daemon=True)
            with self._changed:
                self._sessions.append((session, thread))
                thread.start()  # within the lock: `hang_up` joins every thread that it finds
