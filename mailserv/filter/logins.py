"""Logins of SMTP and POP3 alike: throttled, counted, logged so that fail2ban can read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from mailserv import metrics
from mailserv.errors import PluginError, StoreError
from mailserv.filter.limits import LoginThrottle
from mailserv.filter.passwords import Passwords
from mailserv.hooks.runner import Runner
from mailserv.logging import get_logger
from mailserv.mail.address import account_key
from mailserv.mail.sasl import Known, Proof, SaslMechanism
from mailserv.protocol.sasl import BUILT_IN
from mailserv.store.interface import Store

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
    """Checks who somebody is. Any thread; a password that is not known takes some 20 ms of a core (argon2id), which the
    store's module caps."""

    def __init__(
        self,
        store: Store,
        throttle: LoginThrottle,
        passwords: Passwords,
        runner: Runner | None = None,
        mechanisms: Sequence[SaslMechanism] = BUILT_IN,
    ) -> None:
        self._store = store
        self._throttle = throttle
        self._passwords = passwords
        self._runner = runner
        self._mechanisms = {mechanism.name: mechanism for mechanism in mechanisms}
        self._names_of = cache(lambda service: tuple(n for n, m in self._mechanisms.items() if service in m.services))

    def mechanisms(self, service: str) -> tuple[str, ...]:
        """The names of the SASL mechanisms that this service has."""
        return self._names_of(service)

    def mechanism(self, name: str, service: str) -> SaslMechanism | None:
        """By its name in capitals."""
        found = self._mechanisms.get(name)
        return found if found and service in found.services else None

    def look_up(self, mechanism: str, name: str) -> Known:
        """What a mechanism keeps of an account. Raises StoreError."""
        address = account_key(name)
        return Known(address, self._store.verifier(address, mechanism) if address else None)

    def check(self, name: str, password: str, *, ip: str, service: str, session_id: str) -> LoggedIn | LoginRefused:
        """A name that is no account costs the same time as a wrong password. Plugins are asked before our accounts."""

        def address() -> str:
            known = self._by_plugin(name, password, ip, service)
            return self._by_account(name, password) if known is None else known

        return self._judge(name, address, ip, service, session_id)

    def accept(self, proof: Proof, *, ip: str, service: str, session_id: str) -> LoggedIn | LoginRefused:
        """What a mechanism has found out by itself counts as a password that was right, or wrong. Right is it for accounts
        only: what a plugin keeps of one may outlive it."""

        def address() -> str:
            found = account_key(proof.authcid) if proof.is_good else ""
            return found if found and self._store.has_account(found) else ""

        return self._judge(proof.authcid, address, ip, service, session_id)

    def _judge(
        self, name: str, find: Callable[[], str], ip: str, service: str, session_id: str
    ) -> LoggedIn | LoginRefused:
        """`find`: the account's address, "" for a failed login."""
        if not self._throttle.allows(ip):
            self._note(False, name, ip, service, session_id, reason="throttled")
            return LoginRefused(retry_later=True, throttled=True)
        try:
            address = find()
        except (StoreError, PluginError) as error:
            _log.error("auth_unavailable", ip=ip, service=service, session=session_id, error=str(error))
            return LoginRefused(retry_later=True)
        if not address:
            self._throttle.failed(ip)
            self._note(False, name, ip, service, session_id, reason="credentials")
            return LoginRefused(retry_later=False)
        self._note(True, address, ip, service, session_id)
        return LoggedIn(address)

    def _by_plugin(self, name: str, password: str, ip: str, service: str) -> str | None:
        """None: no plugin knows that name. Raises PluginError."""
        if self._runner is None or not self._runner.has("authenticate"):
            return None
        answer = self._runner.provide("authenticate", name=name, password=password, ip=ip, service=service)
        return answer if not answer else account_key(answer)

    def _by_account(self, name: str, password: str) -> str:
        """ "" when name or password are wrong. Raises StoreError."""
        address = account_key(name)
        stored = self._store.password_hash(address) if address else None
        if not self._passwords.is_right(address, stored, password) or stored is None:
            return ""
        self._keep_verifiers(address, password, stored)
        return address

    def _keep_verifiers(self, address: str, password: str, password_hash: str) -> None:
        """An account that was made before a mechanism was enabled gets what that needs now that its password is here."""
        for mechanism in self._mechanisms.values():
            make = mechanism.make_verifier
            try:
                if make and self._store.verifier(address, mechanism.name) is None and (verifier := make(password)):
                    self._store.keep_verifier(address, mechanism.name, verifier, password_hash)
            except StoreError as error:  # the login is good all the same
                _log.warning("verifier_not_kept", login=address, mechanism=mechanism.name, error=str(error))

    def _note(self, good: bool, name: str, ip: str, service: str, session_id: str, **more: str) -> None:
        metrics.LOGINS.labels(service, "ok" if good else "failed").inc()
        if self._runner is not None:
            self._runner.notify("auth_result", name=name, ip=ip, service=service, session_id=session_id, is_good=good)
        if good:
            _log.info("auth_ok", ip=ip, service=service, login=name, session=session_id)
        else:
            _log.warning("auth_failed", ip=ip, service=service, login=name[:255], session=session_id, **more)
