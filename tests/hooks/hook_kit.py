"""Plugins made on the spot, and a value for every argument that a hook may have."""

from __future__ import annotations

import threading
import typing
from collections.abc import Callable, Mapping
from typing import Any

import pluggy

from mailserv import hookimpl
from mailserv.clock import Clock
from mailserv.hooks import specs
from mailserv.hooks.runner import Runner
from mailserv.mail.address import Address, parse_mailbox
from mailserv.mail.auth_result import AuthResult, AuthResults
from mailserv.mail.delivery import Delivery, QueuedRow
from mailserv.mail.envelope import Envelope
from mailserv.mail.message import BytesContent, Content
from mailserv.mail.notice import Notice, NoticeKind, NoticeWords
from mailserv.mail.outcome import Delivered, Outcome
from mailserv.mail.peer import Peer
from mailserv.mail.reply import OK
from mailserv.mail.route import Route
from mailserv.net.threads import SessionThreads
from mailserv.settings import PluginPolicy

PEER = Peer("192.0.2.1", 4321, "smtp", "0123")
ENVELOPE = Envelope(parse_mailbox("a@example.net"))
ROW = QueuedRow(1, parse_mailbox("b@example.org"), parse_mailbox("b@example.org"), {}, 0, False)
DELIVERY = Delivery(
    "Q", parse_mailbox("a@example.net"), {}, BytesContent(b"\r\n"), 1.0, "", Route("smtp", "example.org"), (ROW,)
)
VALUES: dict[Any, Any] = {
    Peer: PEER,
    Envelope: ENVELOPE,
    Address: parse_mailbox("b@example.org"),
    Content: BytesContent(b"\r\n"),
    Delivery: DELIVERY,
    QueuedRow: DELIVERY.rows[0],
    Outcome: Delivered(OK),
    Route: DELIVERY.route,
    Notice: Notice(
        NoticeKind.SUCCEEDED, "B", "mail.example.org", DELIVERY.reverse_path, DELIVERY, ((ROW, Delivered(OK)),), 1.0
    ),
    AuthResults: (AuthResult("iprev", "pass", (("policy.iprev", "192.0.2.1"),)),),
    NoticeWords: NoticeWords("subject", "text\n"),
    bytes: b"octets",
    str: "word",
    float: 1.5,
    int: 3,
    bool: True,
}


def arguments(hook: str) -> dict[str, Any]:
    """A value of the right type for each argument."""
    hints = typing.get_type_hints(getattr(specs, hook))
    return {name: VALUES[kind] for name, kind in hints.items() if name != "return"}


def plugin(hook: str, answer: Callable[[], Any]) -> object:
    """A plugin with one hook that takes no argument and answers what `answer` returns."""

    def implementation() -> Any:
        return answer()

    return type("Plugin", (), {hook: staticmethod(hookimpl(implementation))})()


def run_plugins(
    plugins: Mapping[str, object],
    *,
    clock: Clock | None = None,
    policies: Mapping[str, PluginPolicy] | None = None,
    traced: frozenset[str] = frozenset(),
    threads: SessionThreads | None = None,
) -> Runner:
    """A runner over these, called in this order."""
    manager = pluggy.PluginManager("mailserv")
    manager.add_hookspecs(specs)
    for name, each in reversed(plugins.items()):
        manager.register(each, name)
    return Runner(manager, clock=clock, policies=policies, traced=traced, threads=threads)


def say(answer: Any) -> Callable[[], Any]:
    """Raises an exception, returns anything else."""

    def speak() -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return speak


def run_to(ready: Callable[[], bool]) -> bool:
    """Whether it comes true soon: for what another thread does right after the last thing that can be waited for."""
    never = threading.Event()
    return any(ready() or never.wait(0.01) for _ in range(1000))


def run_to_soon(ready: Callable[[], bool]) -> bool:
    """The same for what may never come, and need not: a fifth of a second."""
    never = threading.Event()
    return any(ready() or never.wait(0.01) for _ in range(20))
