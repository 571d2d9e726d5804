"""The server's routes and bounces for a command: as the server has them, with its plugins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mailserv.bounce.asking import NoticeHooks
from mailserv.bounce.policy import Bouncer
from mailserv.cli.config import enabled_plugins
from mailserv.derived import chance, resolve_for_notice, router_of
from mailserv.hooks.rooms import Rooms
from mailserv.hooks.runner import Runner
from mailserv.mail.queue_id import QueueIds
from mailserv.resolver import Resolver
from mailserv.route.router import Router
from mailserv.settings import Settings
from mailserv.store.interface import Store


@contextmanager
def opened_router(settings: Settings, store: Store) -> Iterator[tuple[Router, Runner]]:
    """Where mail goes, and who is asked. Raises ConfigError when the server's plugins could not be loaded either."""
    dns = Resolver(settings.dns.nameservers, timeout=settings.dns.timeout)
    plugins = enabled_plugins(settings, Rooms(dns=dns, table=store.plugin_table))
    try:
        yield router_of(settings, store, plugins.runner), plugins.runner
    finally:
        plugins.runner.close()


@contextmanager
def opened_bouncer(settings: Settings, store: Store) -> Iterator[Bouncer]:
    """What makes the bounces of `mailserv queue bounce`. Raises ConfigError as well."""
    with opened_router(settings, store) as (router, runner):
        yield Bouncer(
            hostname=settings.hostname,
            resolve=lambda address: resolve_for_notice(router, address),
            queue_ids=QueueIds(chance()),
            hooks=NoticeHooks(runner),
        )
