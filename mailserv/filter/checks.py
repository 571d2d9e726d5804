"""The deciding hooks, each in its place: may this pass? Our own rules have been asked before."""

from __future__ import annotations

from typing import Any

from mailserv.hooks.questions import strictest
from mailserv.hooks.round import NOBODY, Asking, Round, asked
from mailserv.hooks.runner import Runner
from mailserv.logging import get_logger
from mailserv.mail.address import Address
from mailserv.mail.auth_result import AuthResults
from mailserv.mail.envelope import Envelope
from mailserv.mail.finding import Finding
from mailserv.mail.message import Content
from mailserv.mail.peer import Peer
from mailserv.mail.value import replace
from mailserv.mail.verdict import Action, Observed, Verdict

_log = get_logger("hooks")
_OF_WHOLE_MESSAGES = ("message_authenticate", "message_check", "message_scan", "message_rewrite")
_OF_THE_SESSION = frozenset({"smtp_connect", "smtp_helo"})


class Checks:
    """A typed face for the runner's questions. Any thread; what one session was told is in its own `SessionChecks`."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._inspecting = frozenset(filter(runner.has, _OF_WHOLE_MESSAGES))

    def session(self) -> SessionChecks:
        """For one session."""
        return SessionChecks(self._runner, self._inspecting)

    def accepted(self, queue_id: str, peer: Peer, envelope: Envelope, results: AuthResults = ()) -> Asking[None]:
        return self._tell(
            "message_accepted", {"queue_id": queue_id, "peer": peer, "envelope": envelope, "results": results}
        )

    def session_closed(self, peer: Peer, messages: int, errors: int, seconds: float, reason: str) -> Asking[None]:
        return self._tell(
            "session_closed",
            {"peer": peer, "messages": messages, "errors": errors, "seconds": seconds, "reason": reason},
        )

    def _tell(self, hook: str, arguments: dict[str, Any]) -> Asking[None]:
        round_ = self._runner.ask.round(hook, arguments)
        return NOBODY if round_ is None else asked(round_)


class SessionChecks:
    """One method for each deciding hook of a session, and what came of them. For `yield from`: the session may have
    another thread afterwards."""

    def __init__(self, runner: Runner, inspecting: frozenset[str]) -> None:
        self._runner = runner
        self._why = ""
        self.inspecting = inspecting
        """Hooks that get whole messages, and that somebody implements."""
        self.ends = False
        """A plugin wants the session to end, after the reply."""
        self.observed: list[Observed] = []
        """Verdicts of plugins on trial: of this transaction, and those before it that are about the session."""

    def connect(self, peer: Peer) -> Asking[Verdict | None]:
        return self._decide("smtp_connect", peer=peer)

    def helo(self, peer: Peer) -> Asking[Verdict | None]:
        return self._decide("smtp_helo", peer=peer)

    def mail(self, peer: Peer, envelope: Envelope) -> Asking[Verdict | None]:
        self.observed = [each for each in self.observed if each.hook in _OF_THE_SESSION]
        return self._decide("smtp_mail", peer=peer, envelope=envelope)

    def rcpt(self, peer: Peer, envelope: Envelope, forward_path: Address) -> Asking[Verdict | None]:
        return self._decide("smtp_rcpt", peer=peer, envelope=envelope, forward_path=forward_path)

    def data(self, peer: Peer, envelope: Envelope) -> Asking[Verdict | None]:
        return self._decide("smtp_data", peer=peer, envelope=envelope)

    def authenticated(self, peer: Peer, envelope: Envelope, content: Content) -> Asking[AuthResults]:
        """All plugins' results, in the order of their calls. Raises PluginError when the operator wants none without."""
        found = yield from self._runner.ask.gather(
            "message_authenticate", peer=peer, envelope=envelope, content=content
        )
        return tuple(result for _, results in found for result in results)

    def message(
        self, peer: Peer, envelope: Envelope, content: Content, results: AuthResults = ()
    ) -> Asking[Verdict | None]:
        return self._decide("message_check", peer=peer, envelope=envelope, content=content, results=results)

    def scanned(
        self, peer: Peer, envelope: Envelope, content: Content, results: AuthResults
    ) -> Asking[tuple[list[tuple[str, Finding]], Verdict | None]]:
        """Every plugin's finding, and the strictest of their verdicts. Raises PluginError when one has none."""
        trial: list[tuple[str, Finding]] = []
        found: list[tuple[str, Finding]] = yield from self._runner.ask.gather(
            "message_scan", trial, peer=peer, envelope=envelope, content=content, results=results
        )
        for plugin, finding in trial:
            if finding.verdict is not None:
                self._observe(Observed(plugin, "message_scan", finding.verdict))
        verdicts = [(plugin, each.verdict) for plugin, each in found if each.verdict is not None]
        if not verdicts:
            return found, None
        plugin, strictest = max(verdicts, key=lambda pair: pair[1].action)  # the first of equals
        self._refused(replace(strictest, reason=f"{plugin}: {strictest.reason or strictest.reply.text}"))
        return found, strictest

    def rewritten(
        self, peer: Peer, envelope: Envelope, content: Content, results: AuthResults = ()
    ) -> Asking[tuple[Content, list[str]]]:
        """`content` itself when nobody changed it; the plugins that did. Raises PluginError when the operator wants no
        message without it."""
        by: list[str] = []
        changed: Content = yield from self._runner.ask.transform(
            "message_rewrite", by, peer=peer, envelope=envelope, content=content, results=results
        )
        return changed, by

    def why(self) -> str:
        """The reason of the last refusal, with the plugin's name before it; "" when it has been told, or was our own."""
        why, self._why = self._why, ""
        return why

    def _decide(self, hook: str, **arguments: Any) -> Asking[Verdict | None]:
        round_ = self._runner.ask.round(hook, arguments)
        return NOBODY if round_ is None else self._asked(round_)

    def _asked(self, round_: Round) -> Asking[Verdict | None]:
        yield round_
        if not round_.answers:
            return None
        verdict = strictest(round_.answers, self.observed)
        if verdict is not None:
            self._refused(verdict)
        return verdict

    def _observe(self, each: Observed) -> None:
        reply, why = str(each.verdict.reply), each.verdict.reason
        _log.info("plugin_observed", plugin=each.plugin, hook=each.hook, reply=reply, why=why)
        self.observed.append(each)

    def _refused(self, verdict: Verdict) -> None:
        self._why = verdict.reason
        self.ends |= verdict.action is Action.DISCONNECT
