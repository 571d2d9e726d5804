"""`mailserv plugin install` and `uninstall`: pip in our own environment, checked before it counts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib import invalidate_caches
from importlib.metadata import distributions, entry_points
from pathlib import Path

import click

from mailserv.cli.common import config_option, refuse
from mailserv.cli.config import config_path
from mailserv.cli.plugin_found import OURS, installed, is_enabled, require, settings_for
from mailserv.hooks.host import GROUP

LOADING = 60.0  # seconds for the first import of a plugin and what it needs
Kept = dict[str, list[tuple[Path, Path]]]
"""Distribution → its files, each as (copy, where it was)."""


@click.command("install", context_settings={"ignore_unknown_options": True})
@click.argument("what", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[PIP OPTIONS]... WHAT")
@config_option
def install(what: tuple[str, ...], config: Path | None) -> None:
    """Install a plugin with pip: WHAT is a folder, a wheel or a name. Options that are not ours are pip's.

    Afterwards the plugin is loaded by a process of its own, with its settings from the file if they are there. If it
    cannot be loaded, the installation is undone. It runs when `[plugins] enabled` names it.

    \b
    Examples:
      mailserv plugin install mailserv-hello
      mailserv plugin install --editable ./mailserv-hello
    """
    settings_for(config)  # a settings file that is wrong is told of before anything changes
    with tempfile.TemporaryDirectory(prefix="mailserv-kept-") as folder:
        kept, before = _keep(Path(folder)), _versions()
        brought = _pip_install(what)
        new = [name for name in brought if name in kept or name not in before]
        try:
            problem = _problem(what[-1], brought, config)
        except BaseException:  # Ctrl-C, most likely, for an import that takes too long
            _undo(new, kept)
            raise
        if problem:
            _undo(new, kept)
            raise refuse(f"{problem}; the installation was undone")
    for name in _plugins_of(brought):
        found = installed()[name]
        click.echo(f'installed {name} {found.version}; it runs when enabled in [plugins] has "{name}"')


def _problem(what: str, brought: dict[str, str], config: Path | None) -> str:
    """Why what came cannot stay; "" when it can."""
    names = _plugins_of(brought)
    problem = "" if names else f"{what} brings no plugin: it has no entry point in the group {GROUP}"
    problem = problem or "; ".join(_taken(brought))
    return problem or "; ".join(filter(None, (load_problem(name, config) for name in names)))


@click.command("uninstall")
@click.argument("name")
@config_option
def uninstall(name: str, config: Path | None) -> None:
    """Uninstall the plugin NAME. One that the settings enable is refused: the server would not start again.

    \b
    Example:
      mailserv plugin uninstall hello
    """
    settings = settings_for(config)
    found = require(name, settings)
    if found.distribution == OURS:
        raise refuse(f"{name} is a part of mailserv; leave it out of enabled, or name it in disabled, in [plugins]")
    if not found.distribution:
        raise refuse(f"{name} is a file: delete {found.source}")
    also = [each.name for each in installed().values() if each.distribution == found.distribution]
    for each in also:
        if is_enabled(each, settings):
            raise refuse(f"{each} is enabled in {config_path(config)}: take it out of [plugins] enabled first")
    _pip("uninstall", "--yes", found.distribution)
    click.echo(f"uninstalled {', '.join(also)} ({found.distribution} {found.version})")


def _pip_install(what: Sequence[str]) -> dict[str, str]:
    """What was asked for, not what it needs: distribution → version. Raises click's exception when pip fails."""
    with tempfile.TemporaryDirectory(prefix="mailserv-pip-") as folder:
        report = Path(folder) / "report.json"
        _pip("install", "--report", str(report), *what)
        told = json.loads(report.read_text(encoding="utf-8"))
    asked = [each["metadata"] for each in told["install"] if each["requested"]]
    return {each["name"]: each["version"] for each in asked} or _there_already(what[-1])


def _there_already(what: str) -> dict[str, str]:
    """pip has nothing to do for a name that is installed."""
    return {name: version for name, version in _versions().items() if name == what}


def _keep(folder: Path) -> Kept:
    """Copies of the files of every plugin that is not ours: pip would fetch an older version from nowhere."""
    kept: Kept = {}
    for entry in entry_points(group=GROUP):
        if entry.dist is None or entry.dist.name == OURS or entry.dist.name in kept:
            continue
        files = [Path(str(each.locate())) for each in entry.dist.files or ()]
        kept[entry.dist.name] = [(folder / f"{entry.dist.name}-{number}", file) for number, file in enumerate(files)]
        for copy, file in kept[entry.dist.name]:
            if file.is_file():
                shutil.copy2(file, copy)
    return kept


def _undo(names: Iterable[str], kept: Kept) -> None:
    """Take away what came; put back the plugin that was there before."""
    for name in names:
        _pip("uninstall", "--yes", name)
        for copy, file in kept.get(name, ()):
            if copy.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(copy, file)


def _pip(*arguments: str) -> None:
    """Raises click's exception with the last line that pip says."""
    ran = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        lines = [line for line in ran.stderr.splitlines() if line.startswith("ERROR:")] or ran.stderr.splitlines()[-1:]
        raise refuse(f"pip {arguments[0]} failed: {'; '.join(line.removeprefix('ERROR: ') for line in lines)}")


def _versions() -> dict[str, str]:
    invalidate_caches()
    return {each.name: each.version for each in distributions()}


def _plugins_of(brought: dict[str, str]) -> list[str]:
    invalidate_caches()
    return [entry.name for entry in entry_points(group=GROUP) if entry.dist and entry.dist.name in brought]


def _taken(brought: dict[str, str]) -> list[str]:
    """Names that a plugin of somebody else has: nobody could say which of the two would run."""
    ours = set(_plugins_of(brought))
    owners = [(each.name, each.dist.name) for each in entry_points(group=GROUP) if each.dist]
    others = [(name, owner) for name, owner in owners if name in ours and owner not in brought]
    return [f"there is a plugin {name} already, of {owner}" for name, owner in others]


def load_problem(name: str, config: Path | None, seconds: float = LOADING) -> str:
    """Why it cannot be loaded; "" when it can. By a process of its own: this one may hold older modules of that name."""
    where = ["--config", str(config)] if config else []
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "mailserv", "plugin", "check", name, "--load-only", *where],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return f"plugin {name}: it is not loaded after {seconds:g} s"
    said = [line for line in ran.stderr.strip().splitlines() if not line.startswith("ts=")]  # the log has the traceback
    return ("; ".join(said[-3:]) or f"plugin {name}: cannot be loaded") if ran.returncode else ""
