"""Asks all lists at once and waits for none of them too long: another one's list must not stop our mail."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from ipaddress import IPv4Address, ip_address, ip_network

from mailserv.mail.ip import IPAddress, is_within, parse_ip
from mailserv.mail.plugin import ResolverError, Services

LISTED = ip_network("127.0.0.0/8")  # RFC 5782 §2.1; anything else is somebody's parking page
NO_ANSWER = ip_network("127.255.255.0/24")  # by custom: "you may not ask", "you ask by the wrong name"
NOBODY = {4: ip_address("127.0.0.1"), 6: ip_address("::ffff:127.0.0.1")}  # RFC 5782 §5: whom no list has, by IP version
WORKERS = 32  # questions at once; when a dead name server holds them all, others wait their time and are given up
_SUFFIXES = (".in-addr.arpa", ".ip6.arpa")


class Questions:
    """Any thread. `names`: what the log is told in place of a zone. `time_limit` and `pause`: seconds."""

    def __init__(self, services: Services, names: Mapping[str, str], time_limit: float, pause: float) -> None:
        self._names = names
        self._dns = services.dns
        self._monotonic = services.monotonic
        self._log = services.log
        self._time_limit = time_limit
        self._pause = pause
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="dnsbl")
        self._paused: dict[str, float] = {}  # zone → until when; an entry is replaced whole

    def ask(self, ip: str, zones: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """What each list answered in 127/8: () for a client that is not on it. A list in trouble is not among them."""
        now = self._monotonic()
        asked = {zone: self._pool.submit(self._look_up, parse_ip(ip), zone) for zone in zones if self._is_up(zone, now)}
        _, late = wait(asked.values(), self._time_limit)
        found: dict[str, tuple[str, ...]] = {}
        for zone, question in asked.items():
            if question in late:
                question.cancel()
                self._give_up(zone, f"no answer within {self._time_limit:g} s")
                continue
            try:
                found[zone] = question.result()
            except ResolverError as error:
                self._give_up(zone, str(error))
        return found

    def close(self) -> None:
        """Ask no more. Threads end with the questions that they have asked."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _look_up(self, address: IPAddress, zone: str) -> tuple[str, ...]:
        """On a thread of the pool. Raises ResolverError for a list that is in trouble, or whose answer means nothing."""
        answers = self._listed(address, zone)
        refusals = [text for text in answers if is_within(text, (NO_ANSWER,))]
        if refusals:
            raise ResolverError(f"it refuses to answer: {refusals[0]}")
        if answers and self._listed(NOBODY[address.version], zone):
            raise ResolverError("it lists everybody, also whom no list may have (RFC 5782 §5)")
        return answers

    def _listed(self, address: IPAddress, zone: str) -> tuple[str, ...]:
        return tuple(text for text in self._dns.addresses(_name(address, zone)) if is_within(text, (LISTED,)))

    def _is_up(self, zone: str, now: float) -> bool:
        return self._paused.get(zone, now) <= now

    def _give_up(self, zone: str, error: str) -> None:
        now = self._monotonic()
        if self._is_up(zone, now):
            self._paused[zone] = now + self._pause
            told = self._names[zone]
            shown = re.sub(
                re.escape(zone.strip(".")), lambda _: told, error, flags=re.IGNORECASE
            )  # the question has it in it
            self._log.warning("dnsbl_unavailable", zone=told, error=shown)


def _name(address: IPAddress, zone: str) -> str:
    """RFC 5782 §2.1, §2.4: octets of IPv4, nibbles of IPv6, backwards, before the list's domain."""
    suffix = _SUFFIXES[0] if isinstance(address, IPv4Address) else _SUFFIXES[1]
    return f"{address.reverse_pointer.removesuffix(suffix)}.{zone.strip('.')}"
