"""docs/hooks.md: every hook says when, on which thread, what its answer means, what a failure costs; the example works."""

from __future__ import annotations

import re
import smtplib
from pathlib import Path

import pytest

from mailserv.config import load
from mailserv.hooks import specs
from mailserv.hooks.show import MARKS, page, read
from mailserv.hooks.specs import KINDS
from mailserv.testing.server import mail_server


@pytest.mark.parametrize("name", KINDS)
def test_every_hook_says_what_an_implementation_must_know(name: str) -> None:
    words, marks = read(getattr(specs, name))
    assert words.endswith(".")
    assert tuple(marks) == MARKS
    assert all(text.endswith(".") for text in marks.values())


@pytest.mark.parametrize("name", KINDS)
def test_every_hook_has_its_section(name: str) -> None:
    assert page().count(f"### `{name}`") == 1


@pytest.mark.parametrize("name", KINDS)
def test_a_type_that_a_hook_names_is_among_the_values(name: str) -> None:
    notes = " ".join(map(str, getattr(specs, name).__annotations__.values()))
    values = re.findall(r"`(\w+)`", page().partition("## Values")[2])
    named = set(re.findall(r"\b[A-Z]\w+", notes)) - {"None", "Iterable", "Sequence", "Command"}
    assert named <= set(values)


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```$", page(), re.MULTILINE | re.DOTALL)
    assert found
    return found.group(1)


@pytest.mark.parametrize(("beginning", "code"), [("192.0.2.", 250), ("127.", 451)])
def test_the_example_works_as_it_is_printed(tmp_path: Path, beginning: str, code: int) -> None:
    (tmp_path / "nightwatch.py").write_text(block("python"))
    toml = block("toml").replace("/etc/mailserv/plugins", str(tmp_path)).replace("192.0.2.", beginning)
    rest = 'hostname = "mail.example.org"\nlisten = [{ service = "smtp", address = "127.0.0.1:0" }]\n'
    (tmp_path / "mailserv.toml").write_text(rest + toml)
    settings = load(tmp_path / "mailserv.toml").settings
    with (
        mail_server(plugins=settings.plugins, plugin=settings.plugin) as server,
        smtplib.SMTP(*server.address("smtp"), "client.example.net") as client,
    ):
        client.ehlo()
        client.mail("carol@far.example")
        assert client.rcpt("alice@example.org")[0] == code
