"""What the tests of several invariants need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from trusting import Trust

from mailserv.testing.server import MailServer, mail_server


@pytest.fixture(scope="session")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return Trust.make(tmp_path_factory.mktemp("trust"))


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as running:
        yield running
