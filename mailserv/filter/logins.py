"""Logins of SMTP and POP3 alike: throttled, counted, logged so that fail2ban can read them."""

from __future__ import annotations

from dataclasses import dataclass

from mailserv import metrics
from mailserv.errors import AddressSyntaxError, StoreError
from mailserv.filter.limits import LoginThrottle
from mailserv.logging import get_logger
from mailserv.mail.address import parse_mailbox
from mailserv.store.interface import Store
from mailserv.store.passwords import verify_password

_log = get_logger("auth")


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The account's address, canonical."""

    address: str


@dataclass(frozen=True, slots=True)
class LoginRefused:
    """`retry_later`: not the password's fault (the throttle, or a store that can't be read)."""

    retry_later: bool
    throttled: bool = False


class Logins:
    """Checks a name and a password. Any thread; takes some 20 ms of a core (argon2id), which the store's module caps."""

    def __init__(self, store: Store, throttle: LoginThrottle) -> None:
        self._store = store
        self._throttle = throttle

    def check(self, name: str, password: str, *, ip: str, service: str, session_id: str) -> LoggedIn | LoginRefused:
        """A name that is no account costs the same time as a wrong password."""
        if not self._throttle.allows(ip):
            self._note(False, name, ip, service, session_id, reason="throttled")
            return LoginRefused(retry_later=True, throttled=True)
        address = _canonical(name)
        try:
            stored = self._store.password_hash(address) if address else None
        except StoreError as error:
            _log.error("auth_unavailable", ip=ip, service=service, session=session_id, error=str(error))
            return LoginRefused(retry_later=True)
        if not verify_password(stored, password):
            self._throttle.failed(ip)
            self._note(False, name, ip, service, session_id, reason="credentials")
            return LoginRefused(retry_later=False)
        self._note(True, address, ip, service, session_id)
        return LoggedIn(address)

    def _note(self, good: bool, name: str, ip: str, service: str, session_id: str, **more: str) -> None:
        metrics.LOGINS.labels(service, "ok" if good else "failed").inc()
        if good:
            _log.info("auth_ok", ip=ip, service=service, login=name, session=session_id)
        else:
            _log.warning("auth_failed", ip=ip, service=service, login=name[:255], session=session_id, **more)


def _canonical(name: str) -> str:
    try:
        return parse_mailbox(name).key
    except AddressSyntaxError:
        return ""
