"""A required setting that is missing is a problem with a line of its own, whatever its type."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import pytest

from mailserv.config import read_section
from mailserv.errors import ConfigError
from mailserv.settings import Duration, Network, Secret, Size


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    number: int
    switch: bool
    time: Duration
    size: Size
    secret: Secret
    path: Path
    names: tuple[str, ...]
    table: dict[str, str]
    word: Literal["a", "b"]
    either: str | int
    networks: tuple[Network, ...]


def test_every_missing_setting_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as told:
        read_section(Settings, {}, "probe")
    assert told.value.problems == [f"plugin.probe.{name}: is missing" for name in Settings.__struct_fields__]
