"""`mailserv PLUGIN …`: the commands that a plugin brings (hook `register_commands`), on the live database (decision 12)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from mailserv.cli.common import opened_store, refuse
from mailserv.cli.config import read
from mailserv.cli.plugin_found import all_found, is_enabled, load_alone, settings_for
from mailserv.errors import ConfigError
from mailserv.hooks.rooms import Rooms
from mailserv.resolver import Resolver
from mailserv.settings import Settings

_HELP = ("-h", "--help")


class WithPlugins(click.Group):
    """Our commands, and behind them one for each plugin that there is. A name of ours is never a plugin's."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, *rest = args
        if self.get_command(ctx, name) is None and _is_plugin(name, rest):
            return name, PluginCommands(name), rest
        return super().resolve_command(ctx, args)


class PluginCommands(click.Command):
    """Loads the plugin when it is called, and gives it the arguments. `--config` is ours, wherever it stands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = args
        return args

    def invoke(self, ctx: click.Context) -> None:
        name = self.name or ""
        config, arguments = _without_config(ctx.args)
        settings = read(config)
        if not is_enabled(name, settings):
            raise refuse(f"the plugin {name} is not enabled: add it to enabled in [plugins]")
        with _rooms(settings, arguments) as rooms:
            plugins = load_alone(name, settings, rooms=rooms)
            plugins.runner.close()
            commands = plugins.commands[name]
            if not commands:
                raise refuse(f"the plugin {name} has no commands")
            text = f"Commands of the plugin {name}. Each takes --config FILE, as all commands do."
            group = click.Group(name, commands=commands, help=text)
            with group.make_context(name, arguments or ["--help"], parent=ctx.parent) as inner:
                group.invoke(inner)


@contextmanager
def _rooms(settings: Settings, arguments: Sequence[str]) -> Iterator[Rooms]:
    """What the commands may use; who asks for help needs no database."""
    if not arguments or any(argument in _HELP for argument in arguments):
        yield Rooms()
        return
    with opened_store(settings) as store:
        yield Rooms(dns=Resolver(settings.dns.nameservers, timeout=settings.dns.timeout), table=store.plugin_table)


def _is_plugin(name: str, arguments: Sequence[str]) -> bool:
    """Whether there is such a plugin. With settings that cannot be read: among those that are installed."""
    try:
        settings = settings_for(_without_config(arguments)[0])
    except (ConfigError, click.UsageError):
        settings = Settings(hostname="unknown.invalid")
    return name in all_found(settings)


def _without_config(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """`--config FILE` or `--config=FILE`, and the other arguments."""
    config, rest = None, []
    left = iter(arguments)
    for argument in left:
        word, equals, value = argument.partition("=")
        if word != "--config":
            rest.append(argument)
            continue
        config = value if equals else next(left, None)
        if not config:
            raise click.UsageError("Option '--config' requires an argument.")
    return None if config is None else Path(config), rest
