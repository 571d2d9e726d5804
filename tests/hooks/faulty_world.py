"""A running server with one plugin that can be made to fail, a remote MX, and what must hold whatever happens."""

from __future__ import annotations

import functools
import poplib
import smtplib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from faulty import ONCE, Switch, faulty, hooks_of, settings_of
from hook_kit import run_to, run_to_soon

from mailserv.testing.clock import FakeClock
from mailserv.testing.server import MailServer, mail_server
from mailserv.testing.sink import ScriptedMX

ALICE, STRANGER = "alice@example.org", "stranger@elsewhere.example"
TEXT = b"Subject: hello\r\n\r\nHi.\r\n"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("secret")  # hundreds of logins, no security


class World:
    """What was promised to whom, and the parts of an exchange that together call every hook."""

    def __init__(self, name: str, server: MailServer, mx: ScriptedMX, clock: FakeClock, switch: Switch) -> None:
        self.name = name
        self.server = server
        self.mx = mx
        self.clock = clock
        self.switch = switch
        self.codes: list[int] = []
        self.local = self.remote = 0
        self.parts = (
            self.from_outside,
            self.to_outside,
            self.to_a_host_that_says_later,
            self.pop3,
            self.to_nobody,
        )
        self.part_of: Mapping[str, Callable[[], None]] = {}
        """Hook → the first part that calls it."""

    def learn(self) -> None:
        """Which part calls which hook, while the plugin is well; and that everything is well then."""
        wanted = {hook for hook in hooks_of(self.name) if hook not in ONCE}
        found: dict[str, Callable[[], None]] = {}
        for part in self.parts:
            before = self.switch.calls.copy()
            part()
            run_to_soon(functools.partial(self._have_called, wanted - found.keys(), before))
            called = (self.switch.calls - before).keys()
            found |= {hook: part for hook in wanted - found.keys() if hook in called}
            assert max(self.codes) < 400, self.codes
            if wanted == found.keys():
                break
        assert wanted == found.keys(), f"nothing in the exchange calls these hooks of {self.name}: add a part that does"
        self.check()
        self.part_of = found

    def _have_called(self, hooks: set[str], before: Counter[str]) -> bool:
        return hooks <= (self.switch.calls - before).keys()

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

    # the parts of the exchange

    def from_outside(self) -> None:
        self.local += self.smtp("smtp", f"MAIL FROM:<{STRANGER}>", f"RCPT TO:<{ALICE}>", "DATA")

    def to_outside(self) -> None:
        self.mx.hang_up()  # a connection that is kept would not be opened
        self.remote += self._submit("carol@far.example")

    def to_a_host_that_says_later(self) -> None:
        self.remote += self._submit("later@far.example")

    def _submit(self, forward_path: str) -> bool:
        """Whether it was accepted; it has been tried then."""
        before = self._attempts()
        if not self.smtp("submission", f"MAIL FROM:<{ALICE}>", f"RCPT TO:<{forward_path}>", "DATA", login=True):
            return False
        assert run_to(lambda: self._attempts() > before)
        return True

    def to_nobody(self) -> None:
        """Its bounce comes back."""
        self.local += self._submit("gone@far.example")

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
        """No accepted message is lost, and no relay is open."""
        assert run_to(lambda: len(self.server.server.store.maildrop(ALICE)) == self.local)
        assert run_to(lambda: len(self.mx.messages) + len(self.server.queue()) == self.remote)
        codes, self.codes = self.codes, []
        assert not self.smtp("smtp", f"MAIL FROM:<{STRANGER}>", "RCPT TO:<carol@far.example>", "DATA"), "an open relay"
        self.codes = codes


@contextmanager
def world(folder: Path, name: str, policy: Mapping[str, str], *, runs_own_code: bool = True) -> Iterator[World]:
    """`policy`: `[plugins.policy.NAME]`. It has learnt which part calls which hook."""
    switch = Switch(runs_own_code=runs_own_code)
    clock = FakeClock()
    config = {"plugins": {"policy": {name: dict(policy)}}, "plugin": {name: settings_of(name, folder)}}
    with (
        ScriptedMX({"RCPT TO:<later@": "450 4.2.1 Later", "RCPT TO:<gone@": "550 5.1.1 No such user"}) as mx,
        mail_server(
            plugins=[faulty(name, switch)],
            config=config,
            accounts={},
            clock=clock,
            routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"},
        ) as server,
    ):
        server.server.store.add_account(ALICE, CHEAP, 0.0)
        there = World(name, server, mx, clock, switch)
        there.learn()
        yield there
