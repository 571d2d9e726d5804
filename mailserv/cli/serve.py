"""`mailserv serve`: the server, in the foreground."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from mailserv import logging
from mailserv.cli.common import config_option
from mailserv.cli.config import read_and_check
from mailserv.cli.one_core import stay_on_one_core
from mailserv.cli.running import log, run, signals
from mailserv.cli.sd_notify import notify
from mailserv.config import Loaded, diff
from mailserv.errors import ConfigError
from mailserv.server import Server
from mailserv.settings import Settings


@click.command("serve")
@config_option
def serve(config: Path | None) -> None:
    """Serve in the foreground, until SIGTERM or SIGINT.

    One line with the word ready and every bound address is printed to standard error when mail can come. SIGHUP reads
    the settings again (a mistake in them leaves the old ones in place); SIGTERM lets running transactions finish
    ([limits] drain); a second SIGTERM ends at once.

    \b
    Examples:
      mailserv serve --config ./mailserv.toml
      systemctl reload mailserv
    """
    os.umask(0o077)
    with signals() as taken:
        loaded = read_and_check(config)
        if loaded.settings.limits.one_core:
            stay_on_one_core()
        _configure_log(loaded)
        running = _Running(loaded.settings, config)
        run(running.server, taken, running.reload)


class _Running:
    """The server with the settings it runs with. Main thread."""

    def __init__(self, settings: Settings, config: Path | None) -> None:
        self.server = Server(settings)
        self._settings = settings
        self._config = config

    def reload(self) -> None:
        """Read the file again. Whatever is wrong with it is logged, and changes nothing."""
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            loaded = read_and_check(self._config)
            waiting = self.server.reload(loaded.settings)
        except ConfigError as error:
            for problem in error.problems:
                log.error("config_problem", message=problem)
            log.error("reload_failed", problems=len(error.problems))
        else:
            _configure_log(loaded)
            changes = diff(self._settings, loaded.settings)
            for setting in waiting:
                log.warning("restart_needed", setting=setting)
            log.info("reloaded", changes=[name for name in changes.reloadable if name not in waiting])
            self._settings = loaded.settings
        notify("READY=1")


def _configure_log(loaded: Loaded) -> None:
    logging.configure(loaded.settings.log.format, loaded.settings.log.level)
    for warning in loaded.warnings:
        log.warning("config_warning", message=warning)
