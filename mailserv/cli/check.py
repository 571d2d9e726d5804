"""`mailserv check`: is the settings file right?"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from mailserv.cli.common import config_option
from mailserv.cli.config import config_path, read_and_check
from mailserv.settings import Settings


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
    for warning in (*loaded.warnings, *_closed_to_the_server(config_path(config), loaded.settings)):
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{config_path(config)}: good")


def _closed_to_the_server(file: Path, settings: Settings) -> Iterator[str]:
    """What root can read and the server cannot, which runs as the owner of data_dir: it would not start."""
    try:
        owner = settings.data_dir.stat().st_uid
        user = pwd.getpwuid(owner)
    except (OSError, KeyError):
        return
    if os.geteuid() or not owner:
        return
    for path in filter(None, (file, settings.tls.certificate, settings.tls.key)):
        if not _can_read(user, path):
            yield f"{path} cannot be read by the user {user.pw_name}, to whom data_dir belongs"


def _can_read(user: pwd.struct_passwd, path: Path) -> bool:
    with _acting_as(user):
        try:
            path.open("rb").close()
        except OSError:
            return False
    return True


@contextmanager
def _acting_as(user: pwd.struct_passwd) -> Iterator[None]:
    """For root, and for a moment."""
    groups, group = os.getgroups(), os.getegid()
    os.setgroups(os.getgrouplist(user.pw_name, user.pw_gid))
    os.setegid(user.pw_gid)
    os.seteuid(user.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)
