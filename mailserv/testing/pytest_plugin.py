"""Fixtures for whoever tests a plugin, or an application's own mail. pytest finds them by entry point.

Nothing of mailserv is imported until a test asks for a fixture: everybody's pytest loads this file.

    def test_mail_comes(mail_server):
        server = mail_server(plugins=["greylist"], config={"plugin": {"greylist": {"delay": "1m"}}})
        server.send("carol@example.net", ["alice@example.org"], b"Subject: Hi\\r\\n\\r\\nHi.\\r\\n")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mailserv.testing.clock import FakeClock
    from mailserv.testing.dns import FakeZone
    from mailserv.testing.server import MailServer
    from mailserv.testing.sink import ScriptedMX


@pytest.fixture
def mail_server() -> Iterator[Callable[..., MailServer]]:
    """Starts the real server on free ports: `mail_server(plugins=[…], config={…}, …)`; every one is stopped at the end.

    The arguments are those of `mailserv.testing.server.mail_server`. What comes back sends (`send`), fetches
    (`mailbox`, `wait_for_mail`) and shows (`queue`, `trace`, `wait_for_log`).
    """
    from mailserv.testing.server import mail_server as start

    with ExitStack() as stack:
        yield lambda **arguments: stack.enter_context(start(**arguments))


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock that stands still until the test moves it: `mail_server(clock=fake_clock)`."""
    from mailserv.testing.clock import FakeClock

    return FakeClock()


@pytest.fixture
def dns_zone() -> Iterator[FakeZone]:
    """An empty name server on a free port: `dns_zone.add("example.net", "MX 10 mx.example.net.")`, and
    `mail_server(config={"dns": {"nameservers": [dns_zone.nameserver]}})`.
    """
    from mailserv.testing.dns import FakeZone

    with FakeZone() as zone:
        yield zone


@pytest.fixture
def remote_mx() -> Iterator[Callable[..., ScriptedMX]]:
    """Starts remote mail servers that do what a script says: `remote_mx({"DOT": ["451 4.3.0 Later"]})`; every one is
    stopped at the end. `mail_server(config={"routes": {"*": f"smtp:[{mx.host}]:{mx.port}"}})` sends everything there.
    """
    from mailserv.testing.sink import ScriptedMX

    with ExitStack() as stack:

        def start(script: Any = None, **arguments: Any) -> ScriptedMX:
            return stack.enter_context(ScriptedMX(script, **arguments))

        yield start
