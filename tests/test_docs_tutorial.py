"""docs/tutorial.md: who does what it says, in a folder of their own and in its order, gets what it promises."""

from __future__ import annotations

import os
import re
import smtplib
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailserv.cli.plugin_new import files

ROOT = Path(__file__).parent.parent
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "docs" / "examples" / "mailserv-hello"
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}  # pip's 0 means: no isolation, so nothing is fetched


def steps() -> Iterator[tuple[str, str]]:
    """("write PATH", text) and ("run", a line), in the order of the page."""
    for block in re.finditer(r"^```(\w+)\n(.*?)^```$", TUTORIAL, re.MULTILINE | re.DOTALL):
        language, text = block.groups()
        if language == "python":
            path = re.search(r"Write this into `([^`]+)`:$", TUTORIAL[: block.start()].rstrip())
            assert path, text
            yield f"write {path[1]}", text
        elif language == "toml":
            yield "write mailserv.toml", text
        elif language == "sh":
            yield from (("run", line) for line in text.splitlines())


@dataclass(frozen=True, slots=True)
class Author:
    """A folder outside the repository, and a Python environment that sees what this one has."""

    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / "venv" / "bin"

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", line], cwd=self.folder, env=self.env, capture_output=True, text=True, check=False
        )

    @property
    def env(self) -> dict[str, str]:
        mine = {"PATH": f"{self.bin}:{os.environ['PATH']}", "MAILSERV_CONFIG": "", "PYTHONPATH": ""}
        return {**os.environ, **OFFLINE, **mine}

    def do(self, what: str, text: str) -> str:
        """One step; what it printed."""
        if what != "run":
            (self.folder / what.removeprefix("write ")).write_text(text.replace("127.0.0.1:2525", "127.0.0.1:0"))
            return ""
        ran = self.run(text)
        assert ran.returncode == 0, f"{text}\n{ran.stdout}{ran.stderr}"
        return ran.stdout

    @contextmanager
    def serving(self) -> Iterator[tuple[str, int]]:
        process = subprocess.Popen(
            [str(self.bin / "mailserv"), "serve", "--config", "mailserv.toml"],
            cwd=self.folder,
            env=self.env,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr
        try:
            ready = next(found for line in process.stderr if (found := re.match(r"ready smtp=(\S+):(\d+)", line)))
            yield ready[1], int(ready[2])
        finally:
            process.terminate()
            process.communicate(timeout=30)


@pytest.fixture
def author(tmp_path: Path) -> Author:
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (packages / "ours.pth").write_text(
        f"{ROOT}\n{ROOT / 'plugins'}\nimport site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n"
    )
    script = tmp_path / "venv" / "bin" / "mailserv"
    script.write_text(f'#!/bin/sh\nexec {script.parent / "python"} -m mailserv "$@"\n')
    script.chmod(0o755)
    return Author(tmp_path)


def greeted(address: tuple[str, int], name: str) -> int:
    with smtplib.SMTP(*address) as client:
        return client.ehlo(name)[0]


def test_the_tutorial_from_end_to_end(author: Author) -> None:
    printed = {}
    *most, last = steps()
    for what, text in most:
        printed[text] = author.do(what, text)
    assert "550 5.7.1 That is my name" in printed["mailserv plugin test hello --helo mail.example.org"]
    assert re.search(r"^hello +0\.1\.0 +yes ", printed["mailserv plugin list --config mailserv.toml"], re.MULTILINE)
    assert "hello" in printed["mailserv plugin order smtp_helo --config mailserv.toml"]
    with author.serving() as address:
        assert [greeted(address, name) for name in ("mx.example.org", "client.example.net")] == [550, 250]

    toml = author.folder / "mailserv.toml"
    right = toml.read_text()
    toml.write_text(right.replace('enabled = ["hello"]', 'enabled = ["helo"]'))
    assert "did you mean 'hello'?" in author.run("mailserv check --config mailserv.toml").stderr
    toml.write_text(right)
    assert author.run("mailserv plugin uninstall hello --config mailserv.toml").returncode == 1

    toml.write_text(right.partition("[plugins]")[0])
    assert last == ("run", "mailserv plugin uninstall hello")
    author.do(*last)
    with author.serving() as address:
        assert greeted(address, "mx.example.org") == 250


def test_the_example_is_what_the_tutorial_makes() -> None:
    written = {what.partition("/")[2]: text for what, text in steps() if what.startswith("write mailserv-hello")}
    assert set(written) == {"mailserv_hello/__init__.py", "tests/test_hello.py"}
    for path, text in written.items():
        assert (EXAMPLE / path).read_text(encoding="utf-8") == text
    assert {
        str(path.relative_to(EXAMPLE)) for path in EXAMPLE.rglob("*") if path.is_file() and path.suffix != ".pyc"
    } == set(files("hello"))
    made = files("hello")["pyproject.toml"].splitlines()
    here = (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    assert [line for line in here if line not in made] == [
        'description = "Sends away whoever says our own name in EHLO"'
    ]


def test_the_rules_and_the_tutorial_name_pages_that_are_there() -> None:
    for page in ("tutorial.md", "plugins-rules.md"):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        links = re.findall(r"\]\(([^)]+)\)", text)
        assert links
        assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
