"""What no single value can tell: do the settings fit together, and is anything in them dangerous?

The rules about addresses, aliases and routes are route/'s (RoutingTable); `load` is given them as a check.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import get_args

from mailserv.config.addresses import collide, parse_listen_address, parse_nameserver
from mailserv.config.locate import Path
from mailserv.config.problems import Findings, did_you_mean
from mailserv.errors import AddressSyntaxError
from mailserv.mail.address import parse_domain, parse_mailbox
from mailserv.mail.ip import merged
from mailserv.settings import Mailbox, Mailboxes, Routed, Service, Settings

_SMTP = {"smtp", "submission", "submissions"}
_TLS_FROM_START = {"submissions", "pop3s"}
_LOGINS = {"submission", "pop3"}  # logins that TLS may or may not cover
_DAY = 86_400  # seconds
_WIDE_V4, _WIDE_V6 = 8, 16  # prefix lengths; a network wider than these is hardly anybody's own


def check(settings: Settings, findings: Findings) -> None:
    """Add every problem and warning of the settings as a whole."""
    for examine in _CHECKS:
        examine(settings, findings)


def _hostname(settings: Settings, findings: Findings) -> None:
    if findings.is_unread("hostname"):
        return None
    try:
        name = parse_domain(settings.hostname)
    except AddressSyntaxError as error:
        return findings.wrong(("hostname",), f'"{settings.hostname}": {error}')
    if name.startswith("[") or name.rpartition(".")[2].isdigit():
        findings.wrong(("hostname",), "must be a name, not an address: other servers look it up")
    elif "." not in name:
        findings.warn(("hostname",), f'"{name}" is no full name; other servers expect one that DNS knows')
    return None


def _local_domains(settings: Settings, findings: Findings) -> None:
    if not settings.local_domains and not findings.is_unread("local_domains"):
        findings.warn(("local_domains",), "is empty: no mailbox is here, mail can only be relayed")
    seen = set()
    for index, name in enumerate(settings.local_domains):
        if name.casefold() in seen:
            findings.wrong(("local_domains", index), f'"{name}" is there twice')
        seen.add(name.casefold())


def _listen(settings: Settings, findings: Findings) -> None:
    if not settings.listen and not findings.is_unread("listen"):
        findings.wrong(
            ("listen",), 'is missing: a [[listen]] block says what is served where, e.g. "smtp" on "0.0.0.0:25"'
        )
    taken: list[tuple[str, int]] = []
    for index, block in enumerate(settings.listen):
        _service(settings, index, findings)
        path = ("listen", index, "address")
        if findings.is_unread(*path):
            continue
        try:
            bound = parse_listen_address(block.address)
        except ValueError as error:
            findings.wrong(path, f'"{block.address}": {error}')
            continue
        if clash := next((each for each in taken if collide(each, bound)), None):
            beside = "is there twice" if clash == bound else "cannot stand beside one that is every address on its port"
            findings.wrong(path, f'"{block.address}" {beside}')
        taken.append(bound)
        if block.service == "lmtp":
            _lmtp(path, bound, findings)
        if block.service == "metrics" and not ip_address(bound[0]).is_private:
            findings.warn(path, "everybody who reaches this address can read the metrics")


def _service(settings: Settings, index: int, findings: Findings) -> None:
    """One of ours, or the name of a plugin that is enabled. Whether that plugin has a service, the server's start tells."""
    path, service = ("listen", index, "service"), settings.listen[index].service
    known = (*get_args(Service), *settings.plugins.enabled)
    if service not in known and not findings.is_unread(*path):
        ours = ", ".join(get_args(Service))
        findings.wrong(path, f'"{service}" is none of {ours}, nor an enabled plugin{did_you_mean(service, known)}')


def _lmtp(path: tuple[str | int, ...], bound: tuple[str, int], findings: Findings) -> None:
    """RFC 2033 §5: not on port 25, and not over a wide area."""
    if bound[1] == 25:
        findings.wrong(path, "port 25 is SMTP's, where LMTP must not be spoken (RFC 2033)")
    if not ip_address(bound[0]).is_private:
        findings.warn(path, "everybody who reaches this address delivers into mailboxes, past the rules of port 25")


def _tls(settings: Settings, findings: Findings) -> None:
    tls = settings.tls
    if findings.is_unread("tls", "certificate") or findings.is_unread("tls", "key"):
        return
    if (tls.certificate is None) != (tls.key is None):
        missing, given = ("key", "certificate") if tls.key is None else ("certificate", "key")
        findings.wrong(("tls", missing), f"is missing: a {given} alone is of no use")
    if tls.certificate is None:
        for index, block in enumerate(settings.listen):
            if block.service in _TLS_FROM_START:
                findings.wrong(("listen", index, "service"), f"{block.service} needs [tls] certificate and key")


def _plaintext_logins(settings: Settings, findings: Findings) -> None:
    """Can a login be given at all, and can it be overheard?"""
    policy, has_tls = settings.tls.plaintext_auth, settings.tls.certificate is not None
    if policy == "always":
        findings.warn(("tls", "plaintext_auth"), '"always": passwords may cross the network in clear')
    if has_tls or policy == "always" or findings.is_unread("tls"):
        return
    for index, block in enumerate(settings.listen):
        if block.service not in _LOGINS:
            continue
        text = f'{block.service} without [tls] certificate and key, and plaintext_auth = "{policy}": '
        if policy == "never":
            findings.wrong(("listen", index, "service"), text + "nobody could log in")
        elif not _is_loopback(block.address):
            findings.warn(("listen", index, "service"), text + "only clients on this machine can log in")


def _is_loopback(text: str) -> bool:
    try:
        return ip_address(parse_listen_address(text)[0]).is_loopback
    except ValueError:  # told by _listen
        return True


def _relay(settings: Settings, findings: Findings) -> None:
    for network in merged(settings.relay.networks):
        if network.prefixlen == 0:
            findings.wrong(("relay", "networks"), f"{network} is everybody: that is an open relay")
        elif network.prefixlen < (_WIDE_V4 if network.version == 4 else _WIDE_V6):
            findings.warn(("relay", "networks"), f"{network} is very wide: all of it may relay without a login")


def _postmaster(settings: Settings, findings: Findings) -> None:
    """RoutingTable reads it; what it cannot see is that nobody may be asked."""
    if settings.postmaster or not settings.local_domains or findings.is_unread("postmaster"):
        return
    aliased = {text.casefold().partition("@")[0] for text in settings.aliases}
    if "postmaster" not in aliased:
        findings.warn(("postmaster",), "is not set: RFC 5321 §4.5.1 wants somebody who reads postmaster's mail")


def _queue(settings: Settings, findings: Findings) -> None:
    queue = settings.queue
    for index, wait in enumerate(queue.retry):
        if wait <= 0:
            findings.wrong(("queue", "retry", index), "a wait must be longer than nothing")
    for name in ("give_up", "bounce_give_up"):
        if not findings.is_unread("queue", name) and getattr(queue, name) < min(queue.retry, default=0):
            findings.wrong(("queue", name), "is shorter than the first wait of retry: nothing would be tried twice")
    if queue.delay_notice >= queue.give_up and not findings.is_unread("queue"):
        findings.warn(("queue", "delay_notice"), "is not before give_up: no delay notice would ever be sent")


def _dns(settings: Settings, findings: Findings) -> None:
    for index, text in enumerate(settings.dns.nameservers):
        try:
            parse_nameserver(text)
        except ValueError as error:
            findings.wrong(("dns", "nameservers", index), f'"{text}": {error}; write "ip" or "ip:port"')
    if settings.dns.timeout <= 0:
        findings.wrong(("dns", "timeout"), "must be longer than nothing")


def _limits(settings: Settings, findings: Findings) -> None:
    limits = settings.limits
    for name in ("command_timeout", "data_timeout", "session_timeout", "pop3_timeout"):
        if getattr(limits, name) <= 0:
            findings.wrong(("limits", name), "must be longer than nothing")
    for name in ("message_size", "header_size"):
        if getattr(limits, name) < 65536:  # RFC 5321 §4.5.3.1.7: 64 Ki octets of content must be accepted
            findings.wrong(("limits", name), "must be at least 64KiB (RFC 5321 §4.5.3.1.7)")
    if limits.header_size > limits.message_size:
        findings.wrong(("limits", "header_size"), "is larger than message_size; it is 1MB unless you set it")
    if limits.sessions_per_ip > limits.sessions:
        findings.warn(("limits", "sessions_per_ip"), "is more than sessions: one client can take all of them")
    if limits.recipients > limits.recipients_authenticated:
        findings.warn(("limits", "recipients"), "is more than recipients_authenticated")


def _mailboxes(settings: Settings, findings: Findings) -> None:
    boxes = settings.mailboxes
    _mailbox(("mailboxes",), boxes, settings, findings)
    local = [_domain(name) for name in settings.local_domains]
    seen: set[str] = set()
    for name, box in boxes.accounts.items():
        path = ("mailboxes", "accounts", name)
        _mailbox(path, box, settings, findings)
        try:
            address = parse_mailbox(name)
        except AddressSyntaxError as error:
            findings.wrong(path, f'"{name}" is no address: {error}')
            continue
        if address.domain not in local and not findings.is_unread("local_domains"):
            findings.wrong(path, f"{address.domain} is none of local_domains{did_you_mean(address.domain, local)}")
        if address.key in seen:
            findings.wrong(path, f"{address.key} is there twice")
        seen.add(address.key)


def _mailbox(path: Path, box: Mailboxes | Mailbox, settings: Settings, findings: Findings) -> None:
    boxes = settings.mailboxes
    expire = boxes.expire if box.expire is None else box.expire
    stay = boxes.leave_on_server_max if box.leave_on_server_max is None else box.leave_on_server_max
    if box.quota and box.quota < settings.limits.message_size and not findings.is_unread("limits", "message_size"):
        findings.warn((*path, "quota"), "is less than limits.message_size: the largest messages never fit")
    if box.expire and box.expire < _DAY:
        findings.warn((*path, "expire"), "is less than a day: mail may be gone before anybody has seen it")
    if box.leave_on_server_max and 0 < expire <= stay:
        findings.warn((*path, "leave_on_server_max"), "is not before expire: it never comes to that")


def _domain(text: str) -> str:
    try:
        return parse_domain(text)
    except AddressSyntaxError:  # told by the routing table
        return text


def _subaddress(settings: Settings, findings: Findings) -> None:
    mark = settings.subaddress
    if mark and (len(mark) != 1 or mark.isalnum() or mark in '@". ' or not mark.isprintable()):
        findings.wrong(("subaddress",), f'"{mark}": must be one character such as "+" or "-", or "" for none')


def _aliases(settings: Settings, findings: Findings) -> None:
    """A circle of aliases works only when one of them is an account too, which the settings do not know."""
    targets = {_key(name): [_key(text) for text in texts] for name, texts in settings.aliases.items()}
    names = {_key(name): name for name in settings.aliases}
    told: set[str] = set()
    for start in targets:
        circle = _circle(start, targets)
        if circle and not told & set(circle):
            told |= set(circle)
            way = " → ".join([*circle, circle[0]])
            findings.warn(
                ("aliases", names[start]), f"{way}: a circle, which leads nowhere unless one of them has an account"
            )


def _circle(start: str, targets: dict[str, list[str]]) -> list[str]:
    """The aliases on the way from `start` back to it; an alias that names itself keeps a copy and is no circle."""
    stack = [[start]]
    seen = {start}
    while stack:
        way = stack.pop()
        for target in targets.get(way[-1], []):
            if target == start and len(way) > 1:
                return way
            if target in targets and target not in seen:
                seen.add(target)
                stack.append([*way, target])
    return []


def _key(text: str) -> str:
    try:
        return parse_mailbox(text).key
    except AddressSyntaxError:
        return text


def _routes(settings: Settings, findings: Findings) -> None:
    for name, route in settings.routes.items():
        if not isinstance(route, Routed):
            continue
        path = ("routes", name)
        if route.user and not route.password:
            findings.wrong((*path, "password"), "is missing: a user needs one")
        if route.password and not route.user:
            findings.wrong((*path, "user"), "is missing: a password needs one")
        if route.user and route.tls in ("none", "opportunistic"):
            findings.warn((*path, "tls"), f'"{route.tls}": the password may cross the network in clear; use "verify"')


_CHECKS: tuple[Callable[[Settings, Findings], None], ...] = (
    _hostname,
    _local_domains,
    _subaddress,
    _listen,
    _tls,
    _plaintext_logins,
    _aliases,
    _postmaster,
    _relay,
    _routes,
    _limits,
    _mailboxes,
    _queue,
    _dns,
)
