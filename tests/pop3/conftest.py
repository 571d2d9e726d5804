"""Servers that end with their test, and clients that are closed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pop3_kit import Pop3, Wire


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Pop3]]:
    """Makes one server with the settings a test wants."""
    made: list[Pop3] = []

    def make(**settings: Any) -> Pop3:
        made.append(Pop3(tmp_path, **settings))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def server(serve: Callable[..., Pop3]) -> Pop3:
    return serve()


@pytest.fixture
def connect() -> Iterator[Callable[[Pop3], Wire]]:
    made: list[Wire] = []

    def make(server: Pop3) -> Wire:
        made.append(server.wire())
        return made[-1]

    yield make
    for wire in made:
        wire.close()
