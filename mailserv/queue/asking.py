"""The hooks of the queue: a typed face for the runner."""

from __future__ import annotations

from mailserv.errors import PluginError
from mailserv.hooks.runner import Runner
from mailserv.logging import get_logger
from mailserv.mail.delivery import Delivery, QueuedRow
from mailserv.mail.outcome import Outcome
from mailserv.mail.value import replace

_log = get_logger("queue")

SHORTEST_DELAY = 1.0  # seconds: with none at all a row would be due again before its turn has ended
LONGEST_DELAY = 30 * 86_400.0  # seconds: a plugin that means milliseconds must not make mail wait for years


class QueueHooks:
    """Called on queue workers, never inside a transaction of the store (invariant 7). Without a runner: nobody."""

    def __init__(self, runner: Runner | None = None) -> None:
        self._runner = runner
        self._finishes = runner is not None and runner.has("delivery_finished")
        self._delays = runner is not None and runner.has("retry_delay")
        self._rewrites = runner is not None and (runner.has("rewrite_sender") or runner.has("delivery_rewrite"))

    def prepare(self, delivery: Delivery) -> Delivery | None:
        """What the transport gets: `delivery` itself when nobody changes it, None when a plugin that must have failed."""
        if not self._runner or not self._rewrites:
            return delivery
        try:
            reverse_path = self._runner.provide("rewrite_sender", delivery=delivery)
            if reverse_path is not None:
                delivery = replace(delivery, reverse_path=reverse_path)
            content = self._runner.transform("delivery_rewrite", delivery=delivery, content=delivery.content)
        except PluginError as error:
            _log.warning("delivery_unfit", queue_id=delivery.queue_id, error=str(error))
            return None
        return delivery if content is delivery.content else replace(delivery, content=content)

    def finished(self, delivery: Delivery, row: QueuedRow, outcome: Outcome) -> None:
        """A recipient has left the queue."""
        if self._runner and self._finishes:
            self._runner.notify("delivery_finished", delivery=delivery, row=row, outcome=outcome)

    def delay(self, delivery: Delivery, row: QueuedRow, outcome: Outcome, delay: float) -> float:
        """Seconds until the next attempt; `delay` is the schedule's, also when a plugin fails."""
        if not self._runner or not self._delays:
            return delay
        try:
            answer = self._runner.provide("retry_delay", delivery=delivery, row=row, outcome=outcome, delay=delay)
        except PluginError:
            return delay
        return delay if answer is None else max(SHORTEST_DELAY, min(float(answer), LONGEST_DELAY))

    def longest_delay(self, schedule: float) -> float:
        """What `delay` answers at most where the schedule's longest is `schedule`."""
        return max(schedule, LONGEST_DELAY) if self._delays else schedule
