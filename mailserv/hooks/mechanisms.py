"""A plugin's SASL mechanisms, so wrapped that a failure costs one login and is named (invariant 8)."""

from __future__ import annotations

from typing import Any

from mailserv.errors import StoreError
from mailserv.hooks.guard import guard
from mailserv.logging import get_logger
from mailserv.mail.reply import AUTH_UNAVAILABLE
from mailserv.mail.sasl import Credentials, Exchange, Outcome, Proof, SaslFailed, SaslMechanism, SaslView
from mailserv.mail.value import replace

_log = get_logger("hooks")
_HOOK = "register_sasl_mechanisms"
_OUTCOMES = (Credentials, Proof, SaslFailed)


def guarded_mechanism(plugin: str, mechanism: SaslMechanism) -> SaslMechanism:
    """The same, but: an exchange that raises or lies is a temporary failure, a verifier that cannot be made is none."""

    def begin(view: SaslView) -> Exchange:
        try:
            outcome: Outcome = yield from mechanism.begin(view)
        except (ValueError, GeneratorExit, KeyboardInterrupt):  # a malformed answer, as an Exchange may say; its end
            raise
        except StoreError as error:
            peer = view.peer
            _log.error("auth_unavailable", ip=peer.ip, service=peer.service, session=peer.session_id, error=str(error))
            return SaslFailed(AUTH_UNAVAILABLE)
        except BaseException:  # noqa: BLE001 - one of the three places: a plugin may raise anything
            _log.exception("plugin_failed", plugin=plugin, hook=_HOOK, stage=mechanism.name)
            return SaslFailed(AUTH_UNAVAILABLE)
        if isinstance(outcome, _OUTCOMES):
            return outcome
        _log.error("plugin_lied", plugin=plugin, hook=_HOOK, stage=mechanism.name, answer=type(outcome).__name__)
        return SaslFailed(AUTH_UNAVAILABLE)

    make = mechanism.make_verifier and guard(
        plugin, _HOOK, f"{mechanism.name} verifier", mechanism.make_verifier, _is_verifier, None
    )
    return replace(mechanism, begin=begin, make_verifier=make)


def _is_verifier(answer: Any) -> bool:
    return answer is None or isinstance(answer, str)
