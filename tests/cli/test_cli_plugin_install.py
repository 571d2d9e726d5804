"""`mailserv plugin install` and `uninstall`, in an environment of their own that sees the packages of this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailserv.cli.plugin_install import load_problem
from mailserv.cli.plugin_new import files

ROOT = Path(__file__).parent.parent.parent
OFFLINE = ("--no-deps", "--no-build-isolation", "--no-index")
CONFIG = 'hostname = "mail.example.org"\nlisten = [{ service = "smtp", address = "127.0.0.1:0" }]\n'


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python where plugins may be installed and nothing of ours is harmed."""

    folder: Path

    def mailserv(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        with self.started(*arguments) as process:
            out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def started(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.folder / "venv" / "bin" / "python"), "-m", "mailserv", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**os.environ, "MAILSERV_CONFIG": str(self.folder / "mailserv.toml"), "PYTHONPATH": ""},
        )

    def package(self, name: str, change: Callable[[str], str] = str) -> Path:
        """What `mailserv plugin new` writes, with a change to its code."""
        folder = self.folder / f"mailserv-{name}"
        for path, text in files(name).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(change(text) if path.endswith("__init__.py") else text)
        return folder

    def enable(self, *names: str) -> None:
        listed = ", ".join(f'"{name}"' for name in names)
        (self.folder / "mailserv.toml").write_text(f"{CONFIG}[plugins]\nenabled = [{listed}]\n")


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    ours = [str(ROOT), str(ROOT / "plugins")]  # before an installation of this checkout
    (packages / "ours.pth").write_text(
        "".join(f"{path}\n" for path in ours) + f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n"
    )
    made = Environment(tmp_path)
    made.enable()
    return made


def test_install_use_and_uninstall(environment: Environment) -> None:
    folder = environment.package("fresh")
    ran = environment.mailserv("plugin", "install", *OFFLINE, str(folder))
    assert ran.stderr == ""
    assert ran.stdout == 'installed fresh 0.1.0; it runs when enabled in [plugins] has "fresh"\n'
    listed = environment.mailserv("plugin", "list").stdout
    (line,) = [line for line in listed.splitlines() if line.startswith("fresh ")]
    assert line.split()[1:3] == ["0.1.0", "no"]
    environment.enable("fresh")
    assert environment.mailserv("check").returncode == 0
    refused = environment.mailserv("plugin", "uninstall", "fresh")
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: fresh is enabled in ")
    environment.enable()
    assert environment.mailserv("plugin", "uninstall", "fresh").stdout == "uninstalled fresh (mailserv-fresh 0.1.0)\n"
    assert environment.mailserv("check").returncode == 0
    assert "fresh" not in environment.mailserv("plugin", "list").stdout


def test_one_that_does_not_load_is_taken_away_again(environment: Environment) -> None:
    folder = environment.package("broken", lambda text: text.replace("def smtp_rcpt", "def smtp_rcpttt"))
    ran = environment.mailserv("plugin", "install", *OFFLINE, str(folder))
    assert ran.returncode == 1
    assert "smtp_rcpttt" in ran.stderr
    assert ran.stderr.endswith("; the installation was undone\n")
    assert "broken" not in environment.mailserv("plugin", "list").stdout


@pytest.mark.parametrize(
    ("code", "said"),
    [("import nothing_of_this_name", "it needs the Python module nothing_of_this_name"), ("exit(0)", "SystemExit")],
)
def test_one_that_cannot_be_imported_is_told_of_in_one_line(environment: Environment, code: str, said: str) -> None:
    folder = environment.package("broken", lambda _: f"{code}\n")
    ran = environment.mailserv("plugin", "install", *OFFLINE, str(folder))
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"Error: plugin broken: cannot be loaded: {said}")
    assert ran.stderr.endswith("; the installation was undone\n")
    assert ran.stderr.count("\n") == 1


def test_one_that_is_never_loaded_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never")
    (tmp_path / "hanging.py").write_text(f"open({str(tmp_path / 'never')!r})\n")
    config = tmp_path / "mailserv.toml"
    config.write_text(f'{CONFIG}[plugins]\npath = "{tmp_path}"\n')
    assert load_problem("hanging", config, seconds=3.0) == "plugin hanging: it is not loaded after 3 s"


def test_ctrl_c_while_one_is_loaded_leaves_the_one_that_was_there(environment: Environment) -> None:
    folder = environment.package("fresh")
    assert environment.mailserv("plugin", "install", *OFFLINE, str(folder)).returncode == 0
    fifo = environment.folder / "never"
    os.mkfifo(fifo)
    environment.package("fresh", lambda text: f"{text}\nopen({str(fifo)!r}).read()\n")
    with environment.started("plugin", "install", *OFFLINE, str(folder)) as process:
        writer = os.open(fifo, os.O_WRONLY)  # returns when it is being imported
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 1
        os.close(writer)
    fifo.unlink()  # the new version would now fail at once
    assert environment.mailserv("plugin", "check", "fresh", "--load-only").stdout == "fresh can be loaded\n"


@pytest.mark.parametrize("name", ["dnsbl", "fresh"])
def test_a_name_that_another_plugin_has_is_refused(environment: Environment, name: str) -> None:
    if name == "fresh":
        assert environment.mailserv("plugin", "install", *OFFLINE, str(environment.package("fresh"))).returncode == 0
    folder = environment.package("second")
    facts = folder / "pyproject.toml"
    facts.write_text(facts.read_text().replace('second = "mailserv_second', f'{name} = "mailserv_second'))
    ran = environment.mailserv("plugin", "install", *OFFLINE, str(folder))
    owner = "mailserv" if name == "dnsbl" else "mailserv-fresh"
    assert ran.stderr == f"Error: there is a plugin {name} already, of {owner}; the installation was undone\n"
    assert "mailserv_second" not in environment.mailserv("plugin", "list").stdout


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_one_that_no_longer_loads_leaves_the_one_that_was_there(environment: Environment, version: str) -> None:
    folder = environment.package("fresh")
    assert environment.mailserv("plugin", "install", *OFFLINE, str(folder)).returncode == 0
    environment.package("fresh", lambda text: text.replace("def smtp_rcpt", "def smtp_rcpttt"))
    facts = folder / "pyproject.toml"
    facts.write_text(facts.read_text().replace('version = "0.1.0"', f'version = "{version}"'))
    ran = environment.mailserv("plugin", "install", *OFFLINE, str(folder))
    assert ran.stderr.endswith("; the installation was undone\n")
    assert environment.mailserv("plugin", "check", "fresh", "--load-only").returncode == 0
    (line,) = [line for line in environment.mailserv("plugin", "list").stdout.splitlines() if line.startswith("fresh ")]
    assert line.split()[1] == "0.1.0"
    assert environment.mailserv("plugin", "uninstall", "fresh").returncode == 0


def test_what_brings_no_plugin_is_taken_away_again(environment: Environment) -> None:
    folder = environment.package("other")
    facts = folder / "pyproject.toml"
    facts.write_text(facts.read_text().replace("mailserv.plugins", "somebody.else"))
    ran = environment.mailserv("plugin", "install", *OFFLINE, str(folder))
    assert ran.returncode == 1
    assert "brings no plugin" in ran.stderr


def test_what_was_there_and_is_no_plugin_stays(environment: Environment) -> None:
    folder = environment.folder / "library"
    folder.mkdir()
    (folder / "library.py").write_text("")
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "library"\nversion = "1"\n[tool.setuptools]\npy-modules = ["library"]\n'
    )
    python = str(environment.folder / "venv" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", *OFFLINE, str(folder)], check=True)
    for what in ("library", str(folder)):
        ran = environment.mailserv("plugin", "install", *OFFLINE, what)
        assert "brings no plugin" in ran.stderr
        subprocess.run([python, "-c", "import library"], check=True, cwd=environment.folder)


def test_what_pip_cannot_find_is_one_line(environment: Environment) -> None:
    ran = environment.mailserv("plugin", "install", *OFFLINE, "mailserv-nowhere-to-be-found")
    assert ran.returncode == 1
    assert ran.stderr.startswith("Error: pip install failed: ")
    assert ran.stderr.count("\n") == 1


def test_a_shipped_plugin_cannot_be_uninstalled(environment: Environment) -> None:
    ran = environment.mailserv("plugin", "uninstall", "vrfy")
    assert (ran.returncode, ran.stderr.startswith("Error: vrfy is a part of mailserv; ")) == (1, True)


def test_the_environment_runs_this_checkout(environment: Environment) -> None:
    python = environment.folder / "venv" / "bin" / "python"
    ran = subprocess.run([python, "-c", "import mailserv; print(mailserv.__file__)"], capture_output=True, check=True)
    assert ran.stdout.decode().strip() == str(ROOT / "mailserv" / "__init__.py")
    assert sys.version_info >= (3, 11)
