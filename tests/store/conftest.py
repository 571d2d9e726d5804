"""A store in a folder of its own, with a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store_kit import ALICE

from mailserv.store.interface import Store
from mailserv.store.sqlite import open_store
from mailserv.testing.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1_000.0)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def store(data_dir: Path, clock: FakeClock) -> Iterator[Store]:
    """With one account, alice."""
    store = open_store(data_dir, clock)
    store.add_account(ALICE, "hash", 1.0)
    yield store
    store.close()
