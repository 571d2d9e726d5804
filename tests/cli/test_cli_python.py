"""bin/lib.sh: which Python the checkout's environment is made with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LIB = Path(__file__).parents[2] / "bin" / "lib.sh"
SYSTEM = Path("/usr/bin/python3")


def found(path: str, wanted: str = "") -> str:
    environment = {**os.environ, "PATH": path, "MAILSERV_PYTHON": wanted}
    ran = subprocess.run(
        ["/bin/sh", "-c", f". {LIB}; find_python"], env=environment, capture_output=True, text=True, timeout=60
    )
    return ran.stdout.strip()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A python3 that says that it is too old."""
    script = tmp_path / "python3"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    return script


def test_the_one_that_the_operator_names_comes_first(tmp_path: Path) -> None:
    assert found("/usr/bin:/bin", sys.executable) == sys.executable


def test_the_systems_comes_before_those_on_the_path(tmp_path: Path) -> None:
    (tmp_path / "python3").symlink_to(sys.executable)
    is_new = subprocess.run([SYSTEM, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]).returncode == 0
    assert found(f"{tmp_path}:/usr/bin:/bin") == str(SYSTEM if is_new else tmp_path / "python3")


def test_one_that_is_too_old_is_passed_over(old: Path) -> None:
    assert found(f"{old.parent}:/usr/bin:/bin", str(old)) not in {str(old), ""}
