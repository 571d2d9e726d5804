"""CONTRIBUTING.md: its examples work as they are printed."""

from __future__ import annotations

import re
import smtplib
from pathlib import Path
from typing import Any

import pytest
from dialogue import read_dialogue, run_live

from mailserv.settings import Plugins
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import mail_server

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_dialogue_is_what_the_server_says(tmp_path: Path) -> None:
    (text,) = blocks("dialogue")
    (tmp_path / "noop.dialogue").write_text(text)
    with mail_server(services=("smtp",)) as server:
        run_live(lambda: server.connect("smtp"), read_dialogue(tmp_path / "noop.dialogue"), None)


def test_the_journey_passes() -> None:
    (source,) = [block for block in blocks("python") if "mail_server" in block]
    names: dict[str, Any] = {}
    exec(compile(source, "CONTRIBUTING.md", "exec"), names)  # noqa: S102 - our own words, to see that they work
    names["test_a_message_leaves_and_arrives"]()


@pytest.mark.parametrize("enabled", [True, False])
def test_the_extension_is_offered_and_answers_when_it_is_enabled(tmp_path: Path, enabled: bool) -> None:
    (source,) = [block for block in blocks("python") if "register_smtp_extensions" in block]
    (tmp_path / "xclock.py").write_text(source)
    plugins = Plugins(enabled=("xclock",) if enabled else (), path=tmp_path)
    with (
        mail_server(plugins=plugins, clock=FakeClock(), services=("smtp",)) as server,
        smtplib.SMTP(*server.address("smtp"), "client.example.net") as client,
    ):
        client.ehlo()
        assert client.has_extn("xclock") is enabled
        code, text = client.docmd("XCLOCK")
        assert (code, text) == (250, b"2.0.0 2026-01-01 00:00:00") if enabled else code == 500
