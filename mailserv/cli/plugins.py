"""`mailserv plugin`: which plugins there are, in which order they are called, and what one of them says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mailserv.cli.common import config_option, json_option, print_json, print_table, refuse, utc_time
from mailserv.cli.plugin_check import check
from mailserv.cli.plugin_found import all_found, hooks_of, is_enabled, load_enabled, settings_for
from mailserv.cli.plugin_install import install, uninstall
from mailserv.cli.plugin_new import new
from mailserv.cli.plugin_test import test
from mailserv.errors import ConfigError
from mailserv.hooks.implementation import Implementation
from mailserv.hooks.paused import Paused, read_paused
from mailserv.hooks.specs import KINDS, Kind
from mailserv.settings import Settings
from mailserv.store.nudge import nudge


@click.group("plugin")
def plugin() -> None:
    """Find, write, check and install plugins.

    docs/tutorial.md makes the first one in ten minutes; docs/hooks.md has every hook.
    """


plugin.add_command(check)
plugin.add_command(install)
plugin.add_command(new)
plugin.add_command(test)
plugin.add_command(uninstall)


@plugin.command("list")
@json_option
@config_option
def list_(as_json: bool, config: Path | None) -> None:
    """List the plugins that are installed, or are files in `[plugins] path`.

    Each is imported, to see its hooks; one that cannot be is listed with the reason. A hook that has failed too often
    and is not called for a while is told of in the state of its plugin, as long as the server of `data_dir` runs.
    """
    settings = settings_for(config)
    paused = _paused(settings)
    rows: list[dict[str, Any]] = []
    for name, found in all_found(settings).items():
        hooks, problem = _hooks(name, settings)
        rows.append(
            {
                "name": name,
                "version": found.version,
                "enabled": is_enabled(name, settings),
                "paused": [{"hook": each.hook, "since": each.since} for each in paused if each.plugin == name],
                "source": found.source,
                "hooks": hooks,
                "problem": problem,
            }
        )
    if as_json:
        print_json(rows)
    else:
        print_table(
            ("NAME", "VERSION", "ENABLED", "STATE", "SOURCE", "HOOKS"),
            [
                (
                    row["name"],
                    row["version"] or "-",
                    "yes" if row["enabled"] else "no",
                    _state(row["paused"]),
                    row["source"],
                    row["problem"] or " ".join(row["hooks"]),
                )
                for row in rows
            ],
        )


def _paused(settings: Settings) -> list[Paused]:
    """Of the running server: what one that was killed has left is not true any more."""
    if not nudge(settings.data_dir / "nudge"):
        return []
    try:
        return read_paused(settings.data_dir, settings.limits.processes)
    except (OSError, ValueError) as error:
        raise refuse(f"{settings.data_dir}: what is paused cannot be read: {error}") from error


def _state(paused: list[dict[str, Any]]) -> str:
    return ", ".join(f"{each['hook']} paused since {utc_time(each['since'])}" for each in paused) or "-"


def _hooks(name: str, settings: Settings) -> tuple[list[str], str]:
    try:
        return list(hooks_of(name, settings)), ""
    except ConfigError as error:
        return [], "; ".join(error.problems)


@plugin.command("order")
@click.argument("hook", required=False, type=click.Choice(sorted(KINDS)), metavar="[HOOK]")
@json_option
@config_option
def order(hook: str | None, as_json: bool, config: Path | None) -> None:
    """Show which plugins are called for each hook, or for HOOK, in the order of their calls.

    The order is that of `[plugins] enabled`, after the shipped SMTP extensions.

    \b
    Example:
      mailserv plugin order smtp_rcpt
    """
    plugins = load_enabled(settings_for(config))
    called = [each for each in plugins.runner.implementations if hook in (None, each.hook)]
    plugins.runner.close()
    if as_json:
        print_json(
            [
                {"hook": each.hook, "plugin": each.plugin, "budget": _budget(each), "on_error": _on_error(each)}
                for each in called
            ]
        )
        return
    rows = [
        (
            each.hook,
            each.plugin,
            "-" if _budget(each) is None else f"{each.budget:g}s",
            _on_error(each) or "-",
            "observe" if each.observed else "enforce",
        )
        for each in called
    ]
    print_table(("HOOK", "PLUGIN", "BUDGET", "ON_ERROR", "MODE"), rows)


def _budget(each: Implementation) -> float | None:
    """None: at the start nobody counts the seconds."""
    return None if KINDS[each.hook] is Kind.COLLECT else each.budget


def _on_error(each: Implementation) -> str | None:
    """None: nobody waits for its answer while mail flows."""
    if KINDS[each.hook] in (Kind.COLLECT, Kind.NOTIFY):
        return None
    return "skip" if each.skips else "tempfail"
