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


def test_an_environment_whose_python_was_replaced_is_installed_anew(tmp_path: Path) -> None:
    """As after an upgrade of the distribution: /usr/bin/python3 is another one, and finds none of our packages."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("setup.py", "pyproject.toml", "pip.log", ".venv/bin/mailserv"):
        (tmp_path / name).touch(0o755)
    for name in ("python3.11", "python3.13"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$3" >>{tmp_path}/pip.log\n')
        (tmp_path / name).chmod(0o755)

    def prepared(python: str) -> list[str]:
        """What pip was asked to do."""
        link = tmp_path / ".venv" / "bin" / "python"
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / python)
        (tmp_path / "pip.log").write_text("")
        subprocess.run(["/bin/sh", "-c", f'here={tmp_path}; . {LIB}; prepare ""'], check=True, timeout=60)
        return (tmp_path / "pip.log").read_text().splitlines()

    assert prepared("python3.11")[-1] == "python3.11 install"
    assert prepared("python3.11") == []
    assert prepared("python3.13")[-1] == "python3.13 install"
    assert prepared("python3.13") == []
