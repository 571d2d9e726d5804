"""Whatever a plugin does in whatever hook: the peer gets the right reply, no mail is lost, no relay opens (invariant 8).

The walk is over `specs.KINDS`, so a new hook is in it, and fails until some part of the exchange below calls it.
"""

from __future__ import annotations

import poplib
import smtplib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hook_kit import run_to

from mailserv.hooks.breaker import FAILURES, REST
from mailserv.hooks.specs import KINDS, SPECS, Kind
from mailserv.settings import Duration, PluginPolicy, Plugins
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import MailServer, mail_server
from mailserv.testing.sink import ScriptedMX

SOURCE = """
from mailserv import hookimpl

calls = 0
fault = None

class Plugin:
    def __init__(self, settings, services):
        pass

    @hookimpl
    def {hook}(self):
        global calls
        calls += 1
        if fault is not None:
            return fault()
"""
AT_RUN_TIME = [name for name, kind in KINDS.items() if kind is not Kind.COLLECT]
ONCE = {"startup", "shutdown"}  # called once in a server's life: no breaker can open
ON_WORKERS = {  # no reply depends on them
    "retry_delay",
    "delivery_finished",
    "rewrite_sender",
    "delivery_rewrite",
    "tls_policy",
    "dsn_policy",
    "dsn_compose",
}
SAID = {"raise": "plugin_failed", "hang": "plugin_overran", "lie": "plugin_lied"}
ALICE, STRANGER = "alice@example.org", "stranger@elsewhere.example"
TEXT = b"Subject: hello\r\n\r\nHi.\r\n"
LATER = {421, 451, 454}


class World:
    """A server with one plugin, a remote MX, and what was promised to whom."""

    def __init__(self, server: MailServer, mx: ScriptedMX, clock: FakeClock) -> None:
        self.server = server
        self.mx = mx
        self.clock = clock
        self.plugin: Any = sys.modules["mailserv_plugin_file_faulty"]
        self.codes: list[int] = []
        self.local = self.remote = 0

    def smtp(self, service: Any, *commands: str, login: bool = False) -> bool:
        """One session; it ends at the first refusal. Whether the message was accepted."""
        client = smtplib.SMTP(timeout=20)
        try:
            steps: list[Callable[[], tuple[int, bytes]]] = [
                lambda: client.connect(*self.server.address(service)),
                lambda: client.ehlo("client.example.net"),
            ]
            steps += [lambda: client.login(ALICE, "secret", initial_response_ok=True)] if login else []
            steps += [lambda command=command: client.docmd(command) for command in commands]  # type: ignore[misc]
            steps += [lambda: (client.send(TEXT + b".\r\n"), client.getreply())[1]]  # type: ignore[func-returns-value]
            return all(self._note(step) < 400 for step in steps)
        finally:
            client.close()

    def _note(self, step: Callable[[], tuple[int, bytes]]) -> int:
        try:
            code = step()[0]
        except smtplib.SMTPResponseException as error:
            code = error.smtp_code
        self.codes.append(code)
        return code

    # the parts of the exchange; together they call every hook

    def from_outside(self) -> None:
        self.local += self.smtp("smtp", f"MAIL FROM:<{STRANGER}>", f"RCPT TO:<{ALICE}>", "DATA")

    def to_outside(self) -> None:
        self.mx.hang_up()  # a connection that is kept would not be opened
        before = self._attempts()
        if self.smtp("submission", f"MAIL FROM:<{ALICE}>", "RCPT TO:<carol@far.example>", "DATA", login=True):
            self.remote += 1
            assert run_to(lambda: self._attempts() > before)

    def to_a_host_that_says_later(self) -> None:
        before = self._attempts()
        if self.smtp("submission", f"MAIL FROM:<{ALICE}>", "RCPT TO:<later@far.example>", "DATA", login=True):
            self.remote += 1
            assert run_to(lambda: self._attempts() > before)

    def to_nobody(self) -> None:
        """Its bounce comes back."""
        before = self._attempts()
        if self.smtp("submission", f"MAIL FROM:<{ALICE}>", "RCPT TO:<gone@far.example>", "DATA", login=True):
            self.local += 1
            assert run_to(lambda: self._attempts() > before)

    def pop3(self) -> None:
        client = poplib.POP3(*self.server.address("pop3"), timeout=20)
        try:
            client.user(ALICE)
            client.pass_("secret")
            self.codes.append(250)
        except poplib.error_proto as error:
            self.codes.append(454 if "SYS/TEMP" in str(error) else 500)
        finally:
            client.quit()

    def _attempts(self) -> int:
        return len(self.server.log.matching("delivery"))

    # what must hold whatever happens

    def check(self) -> None:
        assert run_to(lambda: len(self.server.mailbox(ALICE)) == self.local)
        assert run_to(lambda: len(self.mx.messages) + len(self.server.queue()) == self.remote)
        codes, self.codes = self.codes, []
        assert not self.smtp("smtp", f"MAIL FROM:<{STRANGER}>", "RCPT TO:<carol@far.example>", "DATA"), "an open relay"
        self.codes = codes


PARTS = (World.from_outside, World.to_outside, World.to_a_host_that_says_later, World.pop3, World.to_nobody)


@contextmanager
def world(folder: Path, hook: str, policy: PluginPolicy) -> Iterator[World]:
    (folder / "faulty.py").write_text(SOURCE.format(hook=hook))
    plugins = Plugins(enabled=("faulty",), path=folder, policy={"faulty": policy})
    clock = FakeClock()
    with (
        ScriptedMX({"RCPT TO:<later@": "450 4.2.1 Later", "RCPT TO:<gone@": "550 5.1.1 No such user"}) as mx,
        mail_server(plugins=plugins, clock=clock, routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as server,
    ):
        yield World(server, mx, clock)


def part_that_calls(there: World, hook: str) -> Callable[[World], None]:
    """The first part in which the hook is called while the plugin is well, and everything is."""
    for part in PARTS:
        before = there.plugin.calls
        part(there)
        assert max(there.codes) < 400
        if run_to_soon(lambda before=before: there.plugin.calls > before):
            there.check()
            return part
    raise AssertionError(f"nothing in the exchange calls {hook}: add a part that does")


def run_to_soon(ready: Callable[[], bool]) -> bool:
    never = threading.Event()
    return any(ready() or never.wait(0.01) for _ in range(5))


def fault(kind: str, freed: threading.Event) -> Callable[[], Any]:
    def boom() -> None:
        raise RuntimeError("boom")

    return {"raise": boom, "hang": freed.wait, "lie": object}[kind]


@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize("hook", [hook for hook in AT_RUN_TIME if hook not in ONCE])
def test_invariant_8_whatever_a_plugin_does_costs_one_command_and_heals(tmp_path: Path, hook: str, kind: str) -> None:
    freed = threading.Event()
    budget = PluginPolicy(budget=Duration(0.02 if kind == "hang" else 5))
    ignored = kind == "lie" and KINDS[hook] is Kind.NOTIFY  # whose answer nobody looks at
    with world(tmp_path, hook, budget) as there:
        part = part_that_calls(there, hook)
        there.codes.clear()
        there.plugin.fault = fault(kind, freed)
        for _ in range(FAILURES):
            part(there)
        refused = [code for code in there.codes if code >= 400]
        assert set(refused) <= LATER
        assert bool(refused) is (tempfails(hook) and not ignored)
        if not ignored:
            there.server.wait_for_log("plugin_paused", plugin="faulty", hook=hook)
            assert len(there.server.log.matching(SAID[kind], plugin="faulty")) == 1
        there.check()
        calls = there.plugin.calls
        if not ignored:
            part(there)
            assert there.plugin.calls == calls
        freed.set()
        there.plugin.fault = None
        there.clock.advance(REST)
        there.server.wake_queue()
        there.codes.clear()
        part(there)
        assert max(there.codes) < 400
        if not ignored:
            there.server.wait_for_log("plugin_resumed", plugin="faulty", hook=hook)
        there.check()


def tempfails(hook: str) -> bool:
    """Whether a reply tells of its failure, when the operator has said nothing."""
    return SPECS[hook].kind is not Kind.NOTIFY and SPECS[hook].on_error == "tempfail" and hook not in ON_WORKERS


@pytest.mark.parametrize("hook", [hook for hook in AT_RUN_TIME if tempfails(hook)])
def test_invariant_8_a_plugin_that_may_be_skipped_costs_nothing(tmp_path: Path, hook: str) -> None:
    with world(tmp_path, hook, PluginPolicy(on_error="skip")) as there:
        there.plugin.fault = fault("raise", threading.Event())
        for part in PARTS:
            part(there)
        assert max(there.codes) < 400
        there.check()
        assert there.plugin.calls


@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize("hook", sorted(ONCE))
def test_invariant_8_a_server_starts_and_ends_whatever_a_plugin_does(tmp_path: Path, hook: str, kind: str) -> None:
    freed = threading.Event()
    (tmp_path / "faulty.py").write_text(SOURCE.format(hook=hook) + "\n\nimport threading\n" + STARTS[kind])
    policy = PluginPolicy(budget=Duration(0.02))
    with mail_server(plugins=Plugins(enabled=("faulty",), path=tmp_path, policy={"faulty": policy})) as server:
        plugin: Any = sys.modules["mailserv_plugin_file_faulty"]
        server.send(STRANGER, [ALICE], TEXT)
    freed.set()
    assert plugin.calls == 1


STARTS = {"raise": "fault = [].pop\n", "hang": "fault = threading.Event().wait\n", "lie": "fault = object\n"}
