"""`mailserv serve`: the server, in the foreground."""

from __future__ import annotations

import os
from pathlib import Path

import click

from mailserv import logging
from mailserv.cli.common import config_option
from mailserv.cli.config import read_and_check
from mailserv.cli.processes import Supervisor
from mailserv.cli.running import Signals, log, run, signals
from mailserv.cli.sd_notify import reloading
from mailserv.config import Loaded, diff
from mailserv.cores import stay_on_one_core
from mailserv.derived import as_reloaded
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
        if loaded.settings.limits.processes > 1:
            _supervise(loaded, config, taken)
            return
        if loaded.settings.limits.one_core:
            stay_on_one_core(os.getpid())  # two servers on one machine: most likely on two cores
        _configure_log(loaded)
        _warn(loaded)
        running = _Running(loaded.settings, config)
        run(running.server, taken, running.reload)


def _supervise(loaded: Loaded, config: Path | None, taken: Signals) -> None:
    """Several processes, this one looking after them."""
    logging.set_level(loaded.settings.log.level)
    _warn(loaded)
    file = _File(loaded, config)
    supervisor = Supervisor(loaded.settings, file.prepare, file.reload_in)
    supervisor.run(taken, file.is_good)
    log.info("stopped")


class _File:
    """The settings file of a server of several processes."""

    def __init__(self, loaded: Loaded, config: Path | None) -> None:
        self._first = loaded.settings
        self._loaded = loaded
        self._config = config
        self._running: _Running | None = None

    def is_good(self) -> bool:
        """The supervisor's: whether the file as it is now can be used."""
        loaded = _read_again(self._config)
        if loaded is not None:
            self._loaded = loaded
        return loaded is not None

    def prepare(self) -> Settings:
        """A new process's: its settings, as if it had been there from the start and reloaded them since."""
        _configure_log(self._loaded, is_shared=True)
        return self._first if self._loaded.settings is self._first else as_reloaded(self._first, self._loaded.settings)

    def reload_in(self, server: Server) -> None:
        """A running process's."""
        if self._running is None:
            self._running = _Running(server.settings, self._config, server)
        self._running.reload()


class _Running:
    """The server with the settings it runs with. Main thread."""

    def __init__(self, settings: Settings, config: Path | None, server: Server | None = None) -> None:
        self.server = server or Server(settings)
        self._is_shared = server is not None  # with other processes: the log's stream
        self._settings = settings
        self._config = config

    def reload(self) -> None:
        """Read the file again. Whatever is wrong with it is logged, and changes nothing."""
        with reloading():
            loaded = _read_again(self._config)
            if loaded is not None:
                self._use(loaded)

    def _use(self, loaded: Loaded) -> None:
        try:
            waiting = self.server.reload(loaded.settings)
        except ConfigError as error:
            _reload_failed(error)
            return
        _configure_log(loaded, is_shared=self._is_shared)
        _warn(loaded)
        changes = diff(self._settings, loaded.settings)
        for setting in waiting:
            log.warning("restart_needed", setting=setting)
        log.info("reloaded", changes=[name for name in changes.reloadable if name not in waiting])
        self._settings = loaded.settings


def _read_again(config: Path | None) -> Loaded | None:
    try:
        return read_and_check(config)
    except ConfigError as error:
        _reload_failed(error)
        return None


def _reload_failed(error: ConfigError) -> None:
    for problem in error.problems:
        log.error("config_problem", message=problem)
    log.error("reload_failed", problems=len(error.problems))


def _configure_log(loaded: Loaded, *, is_shared: bool = False) -> None:
    logging.configure(loaded.settings.log.format, loaded.settings.log.level, is_shared=is_shared)


def _warn(loaded: Loaded) -> None:
    for warning in loaded.warnings:
        log.warning("config_warning", message=warning)
