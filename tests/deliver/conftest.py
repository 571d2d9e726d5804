"""Fixtures that close what they opened."""

from __future__ import annotations

import contextlib
import ssl

import pytest
import trustme
from sending import make_transport

from mailserv.deliver.tls_policy import ClientContexts
from mailserv.testing.dns import FakeZone
from mailserv.testing.sink import ScriptedMX


@pytest.fixture
def closing():
    """Take a context manager or a thing with `close` and close it at the end."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def serve(closing):
    """Start a scripted server."""
    return lambda *args, **options: closing.enter_context(ScriptedMX(*args, **options))


@pytest.fixture
def transport(closing):
    """Make a transport. Closed before the servers, as they were started earlier or later: either order must do."""

    def make(*args, **options):
        return closing.enter_context(contextlib.closing(make_transport(*args, **options)))

    return make


@pytest.fixture
def zone(closing):
    return closing.enter_context(FakeZone())


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def server_tls(authority) -> ssl.SSLContext:
    """A server's context whose certificate names 127.0.0.1 and mx.example.net."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "mx.example.net").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def contexts(authority) -> ClientContexts:
    """A client's contexts that trust the tests' authority and nobody else."""
    made = ClientContexts.make()
    authority.configure_trust(made.verified)
    return made
