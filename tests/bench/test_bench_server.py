"""Servers are started in sessions of their own, and nobody of them is left."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from bench.server import fill, launched
from bench.tree import Tree, birth
from bench.waiting import START_SECONDS, wait_until

RUNAWAY = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"], start_new_session=True)
time.sleep(600)
"""


def test_who_left_the_session_is_ended_too(tmp_path: Path) -> None:
    with launched([sys.executable, "-c", RUNAWAY], tmp_path) as process:
        wait_until(lambda: (tmp_path / "log").read_text() == "up\n", START_SECONDS, "the child runs")
        family = Tree(process.pid).born()
        assert len(family) == 2
    try:
        wait_until(lambda: not any(birth(pid) == born for pid, born in family.items()), 5, "all of them are gone")
    finally:
        for pid, born in family.items():
            with suppress(ProcessLookupError):
                if birth(pid) == born:
                    os.kill(pid, signal.SIGKILL)


def test_a_configuration_has_no_blank_left(tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.write_text("port @PORT@ in @FOLDER@, user box@example.org\n")
    fill(template, tmp_path / "new" / "filled", port=25, folder="/x")
    assert (tmp_path / "new" / "filled").read_text() == "port 25 in /x, user box@example.org\n"
    with pytest.raises(ValueError, match="@FOLDER@"):
        fill(template, tmp_path / "again", port=25)
