"""APOP (RFC 1939 §7): a login by the digest of a shared secret, for clients that know nothing better."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import parse_mailbox
from mailserv.mail.plugin import Services, new_key, reading
from mailserv.mail.pop3_extension import LogIn, Pop3Answer, Pop3Extension, Pop3State, Pop3Verb, Pop3View, VerbAnswer
from mailserv.mail.sasl import Proof
from mailserv.mail.values import Secret

IN_AUTHORIZATION = frozenset({Pop3State.AUTHORIZATION})


class ApopSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    secrets: Annotated[
        dict[str, Secret], msgspec.Meta(description="address of an account → the secret that it shares with its client")
    ] = msgspec.field(default_factory=dict)


class Apop:
    """Any thread."""

    def __init__(self, secrets: Mapping[str, Secret]) -> None:
        self._secrets = {_key(address): secret.encode("utf-8") for address, secret in secrets.items()}

    def log_in(self, view: Pop3View, argument: str) -> VerbAnswer:
        """APOP name digest: MD5 of the greeting's timestamp with the secret behind it, in lower case."""
        name, _, digest = argument.partition(" ")
        if len(digest) != 32 or not digest.isascii():
            return Pop3Answer(False, "Syntax error in arguments")
        secret = self._secrets.get(_key(name))
        told = view.timestamp.encode("utf-8") + (secret or b"")  # of nobody's secret a digest is made as well
        wanted = hashlib.md5(told, usedforsecurity=False).hexdigest()
        return LogIn(Proof(name, is_good=hmac.compare_digest(wanted, digest) and bool(secret)))


class Plugin:
    Settings = ApopSettings

    def __init__(self, settings: ApopSettings, services: Services) -> None:
        known: set[str] = set()
        for address, secret in settings.secrets.items():
            with reading(services, f'secrets."{address}"'):
                known.add(new_key(parse_mailbox(address).key, known, "account"))
                if not secret:
                    raise ValueError("an empty secret is none: nobody could log in with it")
        self._apop = Apop(settings.secrets)

    @hookimpl
    def register_pop3_extensions(self) -> Iterable[Pop3Extension]:
        """The greeting's timestamp is what tells a client of it (RFC 1939 §7): there is no capability."""
        verb = Pop3Verb("APOP", self._apop.log_in, IN_AUTHORIZATION, logs_in=True)
        return [Pop3Extension("", "", verbs=(verb,), needs_timestamp=True)]


def _key(address: str) -> str:
    """As accounts are compared; "" for what is no address, which nobody has."""
    try:
        return parse_mailbox(address).key
    except ValueError:
        return ""
