"""What makes the bounces of `mailserv queue bounce`: as the server makes them, with its plugins and its routes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mailserv.bounce.asking import NoticeHooks
from mailserv.bounce.policy import Bouncer
from mailserv.cli.config import enabled_plugins
from mailserv.derived import chance, resolve_for_notice, router_of
from mailserv.hooks.rooms import Rooms
from mailserv.mail.queue_id import QueueIds
from mailserv.resolver import Resolver
from mailserv.settings import Settings
from mailserv.store.interface import Store


@contextmanager
def opened_bouncer(settings: Settings, store: Store) -> Iterator[Bouncer]:
    """Raises ConfigError when the server's plugins could not be loaded either."""
    dns = Resolver(settings.dns.nameservers, timeout=settings.dns.timeout)
    plugins = enabled_plugins(settings, Rooms(dns=dns, table=store.plugin_table))
    router = router_of(settings, store, plugins.runner)
    try:
        yield Bouncer(
            hostname=settings.hostname,
            resolve=lambda address: resolve_for_notice(router, address),
            queue_ids=QueueIds(chance()),
            hooks=NoticeHooks(plugins.runner),
        )
    finally:
        plugins.runner.close()
