"""The command line as a whole: exit codes, help, errors in one line."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import pytest

from mailserv import __version__
from mailserv.cli.main import cli

Command = Callable[..., Any]  # tests/cli/conftest.py


def walk(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    inner = command.commands.items() if isinstance(command, click.Group) else ()
    return [path, *(found for name, sub in inner for found in walk(sub, (*path, name)))]


@pytest.mark.parametrize("path", walk(cli), ids=" ".join)
def test_every_command_explains_itself(mailserv: Command, path: tuple[str, ...]) -> None:
    ran = mailserv(*path, "--help")
    assert ran.code == 0
    assert "Usage: mailserv" in ran.out


@pytest.mark.parametrize(
    "path",
    [path for path in walk(cli) if path and path[-1] not in {"user", "queue", "plugin", "mailbox", "try"}],
    ids=" ".join,
)
def test_every_command_takes_a_settings_file(mailserv: Command, path: tuple[str, ...]) -> None:
    assert "--config FILE" in mailserv(*path, "--help").out


def test_the_version_is_told(mailserv: Command) -> None:
    assert mailserv("--version").out == f"mailserv, version {__version__}\n"


@pytest.mark.parametrize(
    "way",
    [(f"{Path(sys.executable).parent}/mailserv",), (sys.executable, "-m", "mailserv")],
    ids=["script", "module"],
)
@pytest.mark.parametrize("is_ignored", [False, True], ids=["interrupted", "ignored"])
def test_ctrl_c_while_modules_are_imported_ends_quietly(tmp_path: Path, way: tuple[str, ...], is_ignored: bool) -> None:
    (tmp_path / "click.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise SystemExit('goes on')\n"
    )
    script = '"$@"; echo $?'
    ran = subprocess.run(
        ["/bin/sh", "-c", f"trap '' INT; {script}" if is_ignored else script, "sh", *way, "--version"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ran.stdout, ran.stderr) == (("1\n", "goes on\n") if is_ignored else ("130\n", ""))


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("user",), ("queue", "list", "--nonsense"), ("user", "add")])
def test_wrong_usage_ends_with_2(mailserv: Command, arguments: tuple[str, ...]) -> None:
    ran = mailserv(*arguments)
    assert ran.code == 2
    assert "Usage" in ran.err


def test_a_settings_file_that_is_not_there_is_one_line_and_1(mailserv: Command, tmp_path: Path) -> None:
    ran = mailserv("queue", "list", "--config", str(tmp_path / "none.toml"))
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"{tmp_path}/none.toml: cannot be read: No such file or directory\n"


def test_a_settings_file_that_cannot_be_read_is_one_line_and_1(mailserv: Command, tmp_path: Path) -> None:
    ran = mailserv("check", "--config", str(tmp_path))
    assert (ran.code, ran.err) == (1, f"{tmp_path}: cannot be read: Is a directory\n")


def test_a_file_that_cannot_be_written_is_named_in_one_line(mailserv: Command, tmp_path: Path) -> None:
    mailserv("user", "add", "alice@example.org", "--password-stdin", stdin="secret\n")
    ran = mailserv("mailbox", "export", "alice@example.org", str(tmp_path / "none" / "alice.mbox"))
    assert ran.code == 1
    assert ran.err == f"mailserv: {tmp_path}/none/alice.mbox.part: No such file or directory\n"


def test_a_bad_settings_file_stops_every_command_with_all_of_its_problems(mailserv: Command) -> None:
    mailserv.config.write_text("hostnam = 1\nlocal_domain = 2\n")
    ran = mailserv("user", "list")
    assert ran.code == 1
    assert len(ran.err.splitlines()) == 4


def test_a_database_that_is_none_is_one_line_and_1(mailserv: Command) -> None:
    mailserv.data_dir.mkdir(mode=0o700)
    (mailserv.data_dir / "mailserv.db").write_text("this is no database, and long enough to be seen as none" * 20)
    ran = mailserv("queue", "list")
    assert ran.code == 1
    assert ran.err.startswith("mailserv: ")
    assert len(ran.err.splitlines()) == 1


def test_a_data_dir_that_is_not_there_is_told(mailserv: Command) -> None:
    ran = mailserv("queue", "list")
    assert ran.code == 1
    assert f"data_dir {mailserv.data_dir} is not there" in ran.err
    assert not mailserv.data_dir.exists()


def test_check_says_good_and_warns(mailserv: Command) -> None:
    ran = mailserv("check")
    assert (ran.code, ran.out, ran.err) == (0, f"{mailserv.config}: good\n", "")
    mailserv.config.write_text(mailserv.config.read_text().replace("mail.example.org", "mail"))
    ran = mailserv("check")
    assert ran.code == 0
    assert ran.err.startswith(f'warning: {mailserv.config}:1: hostname: "mail" is no full name')


def test_check_warns_of_a_plugin_file_that_is_used_in_place_of_an_installed_plugin(
    mailserv: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    for name in ("dnsbl", "ours", "size"):
        (folder / f"{name}.py").write_text("class Plugin:\n    def __init__(self, settings, services): pass\n")
    mailserv.config.write_text(
        f'{mailserv.config.read_text()}[plugins]\npath = "plugins"\nenabled = ["dnsbl", "ours"]\n'
    )
    ran = mailserv("check")
    told = f"warning: {mailserv.config}: plugins.path: {folder}/%s.py goes before the installed plugin of that name\n"
    assert (ran.code, ran.err) == (0, told % "dnsbl" + told % "size")


def test_check_tells_every_problem(mailserv: Command) -> None:
    mailserv.config.write_text(
        'hostname = "mail.example.org"\n[plugins]\nenabled = ["no_such"]\n[plugin.no_such]\n[plugin.x]\n'
    )
    ran = mailserv("check")
    assert (ran.code, ran.out) == (1, "")
    assert [line.removeprefix(f"{mailserv.config}:")[:20] for line in ran.err.splitlines()] == [
        "1: listen: is missin",
        "3: plugins.enabled: ",
        "5: plugin.x: no plug",
    ]


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "mailserv", "--version"],
        cwd=tmp_path,
        env={**os.environ},
        capture_output=True,
        text=True,
    )
    assert ran.stdout == f"mailserv, version {__version__}\n"


OWNER = 65534  # nobody


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that other users can look into; pytest's own are closed to them."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_an_ordinary_user_who_may_not_look_is_told_who_may(public: Path) -> None:
    """As root this drops to nobody; an ordinary user has no folder of another's to make, but can look at root's."""
    data_dir = public / "data" if os.geteuid() == 0 else Path("/etc")
    data_dir.mkdir(mode=0o000, exist_ok=True)
    said = _open_as_an_ordinary_user(data_dir)
    assert "belongs to" in said
    assert "run this as that user, or as root" in said


def test_whom_the_mode_of_the_own_folder_keeps_out_is_told_so(public: Path) -> None:
    data_dir = public / "data"
    data_dir.mkdir(mode=0o000)
    if os.geteuid() == 0:
        os.chown(data_dir, OWNER, OWNER)
    assert f"it belongs to us: chmod u=rwx {data_dir}" in _open_as_an_ordinary_user(data_dir)
    data_dir.chmod(0o700)


def _open_as_an_ordinary_user(data_dir: Path) -> str:
    """What is said. As root this drops to nobody."""
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from mailserv.cli.common import opened_store\n"
        "from mailserv.settings import Settings\n"
        f"os.geteuid() or os.setuid({OWNER})\n"
        "try:\n"
        "    with opened_store(Settings(hostname='h', data_dir=Path(sys.argv[1]))): pass\n"
        "except Exception as error: print(error.message)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(data_dir)], capture_output=True, text=True, check=True)
    return ran.stdout


def test_what_root_makes_in_data_dir_belongs_to_its_owner(public: Path) -> None:
    """Root alone can show it; an ordinary user's data_dir is its own anyway."""
    data_dir = public / "data"
    data_dir.mkdir(mode=0o700)
    owner = OWNER if os.geteuid() == 0 else os.geteuid()
    os.chown(data_dir, owner, -1)
    config = public / "mailserv.toml"
    config.write_text(
        'hostname = "h.example"\ndata_dir = "data"\nlocal_domains = ["example.org"]\n'
        'listen = [{ service = "smtp", address = "127.0.0.1:0" }]\n'
    )
    subprocess.run(
        [sys.executable, "-m", "mailserv", "user", "add", "a@example.org", "--password-stdin", "--config", str(config)],
        input="x",
        capture_output=True,
        text=True,
        check=True,
    )
    assert {path.stat().st_uid for path in data_dir.rglob("*")} == {owner}


@pytest.mark.parametrize(("mode", "is_closed"), [(0o600, True), (0o640, True), (0o644, False)])
def test_what_root_alone_can_read_is_a_warning(public: Path, mode: int, is_closed: bool) -> None:
    """An ordinary user's data_dir is its own, and then there is nothing to tell."""
    (public / "data").mkdir()
    config = public / "mailserv.toml"
    config.write_text(
        'hostname = "h.example"\ndata_dir = "data"\nlocal_domains = ["example.org"]\npostmaster = "a@example.org"\n'
        'listen = [{ service = "smtp", address = "127.0.0.1:0" }]\n'
    )
    config.chmod(mode)
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(public / "data", OWNER, -1)
    ran = subprocess.run(
        [sys.executable, "-m", "mailserv", "check", "--config", str(config)], capture_output=True, text=True, check=True
    )
    warning = f"warning: {config} cannot be read by the user {pwd.getpwuid(OWNER).pw_name}, to whom data_dir belongs\n"
    assert ran.stderr == (warning if is_root and is_closed else "")
    assert ran.stdout == f"{config}: good\n"
