"""`mailserv check`: is the settings file right?"""

from __future__ import annotations

from pathlib import Path

import click

from mailserv.cli.common import config_option
from mailserv.cli.config import config_path, read_and_check


@click.command("check")
@config_option
def check(config: Path | None) -> None:
    """Check the settings file; every problem is told at once, with its line.

    Warnings alone do not make it fail. A running server reads the file again on SIGHUP (systemctl reload mailserv).

    \b
    Example:
      mailserv check --config conf/mailserv.toml && systemctl reload mailserv
    """
    loaded = read_and_check(config)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{config_path(config)}: good")
