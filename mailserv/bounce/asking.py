"""The hooks of notices: a typed face for the runner."""

from __future__ import annotations

from mailserv.errors import PluginError
from mailserv.hooks.runner import Runner
from mailserv.logging import get_logger
from mailserv.mail.delivery import QueuedRow
from mailserv.mail.fields import printable
from mailserv.mail.notice import Notice, NoticeWords
from mailserv.mail.outcome import Outcome
from mailserv.mail.trace import TraceEntry, observed_entry
from mailserv.mail.verdict import Action, Observed, Verdict

_log = get_logger("bounce")

Rows = tuple[tuple[QueuedRow, Outcome], ...]


class NoticeHooks:
    """Any thread, never inside a transaction of the store (invariant 7). Each raises PluginError: the notice waits, and so
    do the rows that it is about. Without a runner: nobody."""

    def __init__(self, runner: Runner | None = None) -> None:
        self._runner = runner
        self._decides = runner is not None and runner.has("dsn_policy")
        self._composes = runner is not None and runner.has("dsn_compose")

    def permitted(self, notice: Notice, trace: list[TraceEntry] | None) -> Rows:
        """Those of its rows that may be told. What is not told is logged, and goes to the `trace` of the message."""
        if not self._runner or not self._decides:
            return notice.rows
        return tuple(pair for pair in notice.rows if self._may_tell(self._runner, notice, *pair, trace))

    def words(self, notice: Notice, words: NoticeWords) -> NoticeWords:
        """What it says to a person."""
        if not self._runner or not self._composes:
            return words
        changed: NoticeWords = self._runner.transform("dsn_compose", notice=notice, words=words)
        return changed

    def _may_tell(
        self, runner: Runner, notice: Notice, row: QueuedRow, outcome: Outcome, trace: list[TraceEntry] | None
    ) -> bool:
        observed: list[Observed] = []
        verdict: Verdict | None = runner.decide("dsn_policy", observed, notice=notice, row=row, outcome=outcome)
        if trace is not None:
            trace += [observed_entry(notice.now, each, str(row.forward_path)) for each in observed]
        if verdict is None:
            return True
        if verdict.action is Action.TEMPFAIL:
            raise PluginError("?", "dsn_policy", verdict.reason)
        detail = {"notice": notice.kind.value, "to": str(notice.to), "why": printable(verdict.reason)}
        _log.info("notice_stopped", queue_id=notice.delivery.queue_id, recipient=str(row.forward_path), **detail)
        if trace is not None:
            trace.append(TraceEntry(notice.now, "notice_stopped", str(row.forward_path), detail))
        return False
