"""What follows from the settings, for the composition root."""

from __future__ import annotations

import os
import random
import resource
from collections.abc import Callable

from mailserv.config import parse_listen_address
from mailserv.deliver.tls_policy import HopPolicy, hop_policies
from mailserv.errors import ConfigError, PluginError, StoreError
from mailserv.hooks.runner import Runner
from mailserv.logging import get_logger
from mailserv.mail import reply
from mailserv.mail.address import Address
from mailserv.mail.ip import is_loopback
from mailserv.mail.resolution import Resolution
from mailserv.mail.route import Route, parse_route
from mailserv.net.tls import Certificates
from mailserv.route.asking import RouteHooks
from mailserv.route.router import Router
from mailserv.settings import Settings
from mailserv.store.interface import Store

_log = get_logger("server")
SPARE_FILES = 128  # file descriptors besides one for each session: database, spool, deliveries

KEPT = frozenset({"hostname", "data_dir", "listen", "plugins", "plugin"})


def chance() -> random.Random:
    """Seeded by the system once. SystemRandom would make a system call, and give up the interpreter lock, for each id."""
    return random.Random(random.SystemRandom().getrandbits(128))


def secret() -> bytes:
    """A key that nobody knows and nobody keeps."""
    return os.urandom(32)


def certificates(settings: Settings) -> Certificates | None:
    if settings.tls.certificate is None or settings.tls.key is None:
        return None
    try:
        return Certificates(settings.tls.certificate, settings.tls.key)
    except OSError as error:
        raise ConfigError([f"tls.certificate: {settings.tls.certificate}: cannot be used: {error}"]) from error


def policies_of_hops(settings: Settings) -> dict[str, HopPolicy]:
    return hop_policies(
        (parse_route(entry.to), entry) for entry in settings.routes.values() if not isinstance(entry, str)
    )


def plaintext_rule(settings: Settings) -> Callable[[str], bool]:
    """`[tls] plaintext_auth`: may a login come from this address without TLS?"""
    match settings.tls.plaintext_auth:
        case "always":
            return lambda _: True
        case "never":
            return lambda _: False
        case "loopback":
            return is_loopback


def router_of(settings: Settings, store: Store, runner: Runner) -> Router:
    """Where mail goes by these settings, these accounts and these plugins."""

    def first_account(domain: str) -> str | None:
        addresses = sorted(account.address for account in store.accounts())
        return next((address for address in addresses if not domain or address.endswith(f"@{domain}")), None)

    return Router.from_settings(
        settings,
        store.has_account,
        first_account=first_account,
        local_ips=own_ips(settings),
        hooks=RouteHooks(runner),
    )


def resolve_for_notice(router: Router, address: Address) -> Resolution:
    """Raises PluginError when a plugin that knows where has failed: the notice waits, it goes to nobody else."""
    resolution = router.resolve(address)
    if resolution.refusal is reply.LOCAL_ERROR:
        raise PluginError("?", "resolve_recipient", resolution.steps[-1] if resolution.steps else "it failed")
    return resolution


def own_ips(settings: Settings) -> list[str]:
    hosts = [parse_listen_address(listen.address)[0] for listen in settings.listen if listen.service == "smtp"]
    return [host for host in hosts if host not in {"0.0.0.0", "::", "localhost"}]


def as_reloaded(old: Settings, new: Settings) -> Settings:
    """The new settings, but for what only a restart changes."""
    fields = {name: getattr(old if name in KEPT else new, name) for name in new.__struct_fields__}
    return Settings(**fields)


def tell_left_behind(old: Settings, new: Settings, store: Store) -> None:
    """Mail that waits keeps its way. Where that is one that has just gone from `[routes]`, somebody should know."""
    gone = _ways(old) - _ways(new)
    if not gone:
        return
    try:
        waiting = {route for route, _ in store.destinations()}
    except StoreError:  # whoever delivers will tell of it
        return
    for route in sorted(map(str, gone & waiting)):
        _log.warning("route_left", route=route, hint="mail waits for it; mailserv queue reroute --all")


def _ways(settings: Settings) -> set[Route]:
    return {parse_route(entry if isinstance(entry, str) else entry.to) for entry in settings.routes.values()}


def raise_file_limit(settings: Settings) -> None:
    """As many file descriptors as the sessions may need, or a warning that says what to change (docs/lessons.md 7)."""
    wanted = settings.limits.sessions + settings.limits.pop3_sessions + settings.queue.workers * 2 + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        if most < wanted:
            _log.warning("few_file_descriptors", limit=most, wanted=wanted, hint="raise LimitNOFILE of the service")
