"""What a plugin is given: values and a few services, never the server (invariant 8)."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from mailserv.errors import ConfigError, MailservError, ResolverError, StoreError
from mailserv.mail.address import Address
from mailserv.mail.measuring import Count, Level, Metrics, Silent
from mailserv.mail.message import Content
from mailserv.mail.value import Value, field

__all__ = [
    "ConfigError",
    "Count",
    "Level",
    "MemoryTable",
    "Metrics",
    "MxAnswer",
    "MxHost",
    "Names",
    "NoSettings",
    "ResolverError",
    "Services",
    "StoreError",
    "Submit",
    "SubmitError",
    "Table",
    "new_key",
    "reading",
]


class MxHost(Protocol):
    """One MX record."""

    @property
    def preference(self) -> int: ...
    @property
    def host(self) -> str: ...


class MxAnswer(Protocol):
    """What a domain's MX records say: `hosts` by preference; `exists` False: there is no such domain; `is_null`: RFC 7505."""

    @property
    def hosts(self) -> Sequence[MxHost]: ...
    @property
    def exists(self) -> bool: ...
    @property
    def is_null(self) -> bool: ...


class Names(Protocol):
    """DNS. Any thread; a question waits for at most `[dns] timeout`. Raises ResolverError: try later."""

    def mx(self, domain: str) -> MxAnswer: ...
    def addresses(self, host: str) -> tuple[str, ...]:
        """Its IPv4 and IPv6 addresses; () when there are none."""
        ...

    def ptr(self, ip: str) -> tuple[str, ...]:
        """The names of an address; () when it has none."""
        ...

    def txt(self, name: str) -> tuple[str, ...]:
        """The TXT records; () when there are none."""
        ...


class Table(Protocol):
    """A plugin's own small table: keys and texts or counts, each until it expires. Nobody else sees it. Any thread.

    Times are epoch seconds (`Services.now`). What is written is committed and synced on return, together with what
    others write at that moment; what has expired is as good as gone. Raises StoreError.
    """

    def get(self, key: str) -> str | None:
        """The value, None when there is none."""
        ...

    def items(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        """Every key that begins so, with its value, in the order of the keys. What changes meanwhile may be seen or not."""
        ...

    def put(self, key: str, value: str, expires_at: float) -> None:
        """Set it, whether it was there or not."""
        ...

    def increment(self, key: str, by: int, expires_at: float) -> int:
        """Add to a count and return it. One that is not there begins at 0, and only then is `expires_at` used."""
        ...

    def delete(self, key: str) -> None:
        """Forget it, if it is there."""
        ...

    def delete_expired(self) -> int:
        """Give back the room of what has expired; the server does so once a day. How many."""
        ...


class Submit(Protocol):
    """Have a message accepted as if a client had sent it: routed, committed, queued. Any thread."""

    def __call__(
        self,
        reverse_path: Address,
        forward_paths: Sequence[Address],
        content: Content,
        *,
        key: str = "",
        smtputf8: bool = False,
    ) -> str:
        """Its queue id, once it is committed. `content` is a whole message with CRLF line ends; a Received field is put
        before it. Raises SubmitError when a recipient is refused, when it has gone round too often, when a CR or LF stands
        alone in it and a mailbox is among the recipients, or when the store can't take it: nothing of it was accepted.

        `key`: the plugin submits one message with it and no second one, for twice `[queue] give_up`; the queue id is the
        first one's then, and whatever else is given is not looked at. A delivery may come again after a crash: whoever
        submits because of one has its queue id and recipient for a key. "": each is a message of its own.

        `smtputf8`: its header fields may hold UTF-8 (RFC 6532), as those of a message that came with SMTPUTF8; so the next
        hop must take such mail (RFC 6531 §3.6).
        """
        ...


class SubmitError(MailservError):
    """A message that a plugin made was not accepted; the text says why. `retry_later`: it may be another time."""

    def __init__(self, text: str, *, retry_later: bool) -> None:
        super().__init__(text)
        self.retry_later = retry_later


class _NoNames:
    """Stands for DNS where no server runs (`mailserv check`)."""

    def mx(self, domain: str) -> MxAnswer:
        raise ResolverError(f"{domain}: no server is running")

    def addresses(self, host: str) -> tuple[str, ...]:
        raise ResolverError(f"{host}: no server is running")

    def ptr(self, ip: str) -> tuple[str, ...]:
        raise ResolverError(f"{ip}: no server is running")

    def txt(self, name: str) -> tuple[str, ...]:
        raise ResolverError(f"{name}: no server is running")


class _NoDoor:
    """Stands for `submit` there."""

    def __call__(
        self,
        reverse_path: Address,
        forward_paths: Sequence[Address],
        content: Content,
        *,
        key: str = "",
        smtputf8: bool = False,
    ) -> str:
        named = (f" as {key}" if key else "") + (", SMTPUTF8" if smtputf8 else "")
        about = f"{content.size} octets from {reverse_path} to {len(forward_paths)}{named}"
        raise SubmitError(f"{about}: no server is running", retry_later=True)


class MemoryTable:
    """A Table that lasts as long as its process: for `mailserv check`, and for tests. One thread."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._values: dict[str, tuple[str | int, float]] = {}

    def get(self, key: str) -> str | None:
        value, expires_at = self._values.get(key, ("", 0.0))
        return str(value) if expires_at > self._now() else None

    def items(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        for key in sorted(self._values):
            value = self.get(key) if key.startswith(prefix) else None
            if value is not None:
                yield key, value

    def put(self, key: str, value: str, expires_at: float) -> None:
        self._values[key] = (value, expires_at)

    def increment(self, key: str, by: int, expires_at: float) -> int:
        value = self.get(key)
        until = expires_at if value is None else self._values[key][1]
        count = int(value or 0) + by
        self._values[key] = (count, until)
        return count

    def delete(self, key: str) -> None:
        self._values.pop(key, None)

    def delete_expired(self) -> int:
        expired = [key for key, (_, expires_at) in self._values.items() if expires_at <= self._now()]
        for key in expired:
            del self._values[key]
        return len(expired)


class Services(Value, frozen=True):
    """`name` is the plugin's own; `now` the clock (epoch seconds); `log` a structlog logger that carries the plugin's name.

    `dns`, `table` and `submit` are described above, `metrics` in `mailserv.mail.measuring`;
    `monotonic` are seconds that never go back, for deadlines.
    """

    name: str
    hostname: str
    now: Callable[[], float]
    log: Any
    dns: Names = field(default_factory=_NoNames)
    table: Table = field(default_factory=lambda: MemoryTable(lambda: 0.0))
    submit: Submit = field(default_factory=_NoDoor)
    monotonic: Callable[[], float] = field(default=lambda: 0.0)
    metrics: Metrics = field(default_factory=Silent)


@contextmanager
def reading(services: Services, key: str) -> Iterator[None]:
    """For a plugin's constructor: a ValueError inside says what is wrong with the setting `key`, a path like "users.NAME".

    It becomes a ConfigError with the line that the operator reads, and the server does not start.
    """
    try:
        yield
    except ValueError as error:
        raise ConfigError([f"plugin.{services.name}.{key}: {error}"]) from error


def new_key(key: str, known: Container[str], what: str) -> str:
    """The key, for a plugin's table of `what` the operator wrote. Raises ValueError where it is there already: of two
    spellings of one name the first would be forgotten in silence."""
    if key in known:
        raise ValueError(f"two entries name the same {what}")
    return key


class NoSettings:
    """The settings of a plugin that has none: its `[plugin.NAME]` must be absent or empty."""
