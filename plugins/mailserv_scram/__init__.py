"""SCRAM-SHA-256 (RFC 5802, RFC 7677): a login in which the password crosses no wire, not even an encrypted one."""

from __future__ import annotations

import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from typing import Annotated

import msgspec
from scramp import ScramException, ScramMechanism
from scramp.utils import ServerError

from mailserv import hookimpl
from mailserv.mail.plugin import Services, StoreError
from mailserv.mail.sasl import Exchange, Known, Proof, SaslMechanism, SaslView

NAME = "SCRAM-SHA-256"
FOREVER = 100 * 365 * 86_400.0  # seconds
AuthInfo = tuple[bytes, bytes, bytes, int]
"""Salt, StoredKey, ServerKey, iterations."""


class ScramSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    iterations: Annotated[
        int,
        msgspec.Meta(
            ge=4096, le=10_000_000, description="of PBKDF2 for new passwords; the client works for them at each login"
        ),
    ] = 100_000


class Scram:
    """`secret()` makes the salts of those who have none. Any thread."""

    def __init__(self, iterations: int, secret: Callable[[], bytes]) -> None:
        self._secret = secret
        self._iterations = iterations
        self._scram = ScramMechanism(NAME)

    def mechanism(self) -> SaslMechanism:
        return SaslMechanism(NAME, self._exchange, make_verifier=self._make_verifier)

    def _make_verifier(self, password: str) -> str | None:
        """As RFC 5803 writes it; None for a password that SASLprep (RFC 4013) refuses."""
        try:
            salt, stored_key, server_key, iterations = self._scram.make_auth_info(password, self._iterations)
        except ScramException:
            return None
        return f"{NAME}${iterations}:{_text(salt)}${_text(stored_key)}:{_text(server_key)}"

    def _exchange(self, view: SaslView) -> Exchange:
        """RFC 5802 §5. The server's last message is a challenge with an empty answer: neither AUTH has a place for it."""
        found: list[Known] = []

        def auth_info(name: str) -> AuthInfo:
            found.append(view.look_up(name))
            return self._auth_info(found[0])

        server = self._scram.make_server(auth_info)
        client_first, header = _for_oneself((yield b"").decode("utf-8"))
        try:
            server.set_client_first(client_first)
        except ScramException as error:
            if isinstance(error.__cause__, StoreError):
                raise error.__cause__ from None
            raise ValueError(str(error)) from error
        server.gs2_header = header
        client_final = yield server.get_server_first().encode("ascii")
        try:
            server.set_client_final(client_final.decode("utf-8"))
        except ScramException as error:
            if error.server_error is not ServerError.INVALID_PROOF:
                raise ValueError(str(error)) from error
            return Proof(found[0].address, is_good=False)
        if (yield server.get_server_final().encode("ascii")):
            raise ValueError("there is nothing more to say")
        return Proof(found[0].address, is_good=True)

    def _auth_info(self, known: Known) -> AuthInfo:
        """Who is not known gets a salt all the same, the same one at each try, and keys that no password has."""
        if known.verifier is None:
            return self._fake("salt", known), self._fake("stored key", known), bytes(32), self._iterations
        _, rest, keys = known.verifier.split("$")
        iterations, salt = rest.split(":")
        stored_key, server_key = keys.split(":")
        return b64decode(salt), b64decode(stored_key), b64decode(server_key), int(iterations)

    def _fake(self, what: str, known: Known) -> bytes:
        return hmac.digest(self._secret(), f"{what} of {known.address}".encode("utf-8", "surrogatepass"), "sha256")


class _Header:
    """A gs2-header as it came, which the client's last message has to repeat."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def make_cbind_input(self, _: object) -> bytes:
        """There is no channel binding."""
        return self._octets


def _for_oneself(client_first: str) -> tuple[str, _Header]:
    """The message without its authzid, and its gs2-header (RFC 5802 §7).

    The library takes no authzid, but some clients name the user twice, neomutt for one. A ValueError when they name two.
    """
    flag, authzid, bare = client_first.split(",", 2)
    if authzid and authzid.casefold() != f"a{bare.partition(',')[0][1:]}".casefold():
        raise ValueError("nobody acts for somebody else")
    return f"{flag},,{bare}", _Header(f"{flag},{authzid},".encode())


class Plugin:
    Settings = ScramSettings

    def __init__(self, settings: ScramSettings, services: Services) -> None:
        self._services = services
        self._scram = Scram(settings.iterations, self._secret)
        self._own = secrets.token_bytes()
        self._is_kept = False

    @hookimpl
    def startup(self) -> None:
        """The secret outlives the server: a salt that changed with each restart would be known for a false one."""
        if self._services.table.get("secret") is None:
            self._services.table.put("secret", self._own.hex(), self._services.now() + FOREVER)

    def _secret(self) -> bytes:
        """Read when it is first wanted: by then all processes of a server that has just been set up agree on one."""
        if not self._is_kept and (kept := self._services.table.get("secret")):
            self._own, self._is_kept = bytes.fromhex(kept), True
        return self._own

    @hookimpl
    def register_sasl_mechanisms(self) -> Iterable[SaslMechanism]:
        return [self._scram.mechanism()]


def _text(octets: bytes) -> str:
    return b64encode(octets).decode("ascii")
