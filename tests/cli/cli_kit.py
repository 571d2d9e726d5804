"""The command line as a test runs it: in this process, with its exit code, output and errors."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailserv.cli.main import main

CONFIG = """hostname = "mail.example.org"
data_dir = "data"
local_domains = ["example.org"]
postmaster = "alice@example.org"
listen = [{ service = "smtp", address = "127.0.0.1:0" }]
"""


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Command:
    """Runs `mailserv ARGUMENTS` with $MAILSERV_CONFIG set to a file of its own."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    @property
    def config(self) -> Path:
        return self.folder / "mailserv.toml"

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    def __call__(self, *arguments: str, stdin: str = "") -> Ran:
        self.monkeypatch.setattr(sys, "argv", ["mailserv", *arguments])
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main()
        output = self.capsys.readouterr()
        return Ran(int(ended.value.code or 0), output.out, output.err)
