"""`mailserv plugin check`: does a plugin keep the rules (docs/plugins-rules.md)?"""

from __future__ import annotations

from pathlib import Path

import click

from mailserv.cli import conformance
from mailserv.cli.common import config_option, json_option, print_json, print_table, refuse
from mailserv.cli.plugin_found import load_alone, require, settings_for
from mailserv.errors import ConfigError
from mailserv.settings import Settings


@click.command("check")
@click.argument("name")
@click.option("--load-only", is_flag=True, help="Only load it.")
@json_option
@config_option
def check(name: str, load_only: bool, as_json: bool, config: Path | None) -> None:
    """Check that the plugin NAME keeps the rules, without a server.

    It is loaded with its settings from the file, or with none. Its hooks are called as an ordinary session calls them
    and with what strangers send, from 50 threads at once, and are made to fail; its verbs, parameters and mechanisms
    are given what strangers write; its transports are asked with nothing to deliver; its settings are given wrong
    types; it is loaded again; no thread may be left. The exit code is 1 when a rule is broken.

    \b
    Example:
      mailserv plugin check greylist
    """
    settings = settings_for(config)
    require(name, settings)
    if load_only:
        _load(name, settings)
        click.echo(f"{name} can be loaded")
        return
    findings = conformance.check(name, settings)
    if as_json:
        print_json([{"rule": each.rule, "kept": each.is_kept, "detail": each.detail} for each in findings])
    else:
        print_table(
            ("", "RULE", "DETAIL"), [("ok" if each.is_kept else "BROKEN", each.rule, each.detail) for each in findings]
        )
    broken = [each for each in findings if not each.is_kept]
    if broken:
        raise refuse(f"{name} breaks {len(broken)} of {len(findings)} rules")


def _load(name: str, settings: Settings) -> None:
    """A plugin that only waits for its settings is no broken one. Raises ConfigError."""
    try:
        load_alone(name, settings).runner.close()
    except ConfigError as error:
        if name in settings.plugin or any(not problem.startswith(f"plugin.{name}.") for problem in error.problems):
            raise
