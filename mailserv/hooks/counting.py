"""What Prometheus is told of plugins, read from the implementations' own counts when somebody asks.

A Prometheus counter takes its lock at each addition: with ten plugins and seven hooks that would cost more than the plugins.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from mailserv.hooks.implementation import Implementation
    from mailserv.hooks.runner import Runner

LABELS = ("plugin", "hook")
RUNNERS: weakref.WeakSet[Runner] = weakref.WeakSet()
"""The runners of this process's servers."""


class PluginCollector(Collector):
    """Asked by the registry at each scrape, on its thread."""

    def collect(self) -> Iterable[Metric]:
        """One sample for each plugin's hook."""
        calls = CounterMetricFamily("mailserv_plugin_calls", "Calls of a plugin's hook", labels=LABELS)
        seconds = CounterMetricFamily("mailserv_plugin_seconds", "Time that they took", labels=LABELS)
        failures = CounterMetricFamily("mailserv_plugin_failures", "Calls without a usable answer", labels=LABELS)
        refusals = CounterMetricFamily("mailserv_plugin_refusals", "Verdicts, observed ones too", labels=LABELS)
        paused = GaugeMetricFamily("mailserv_plugin_paused", "1 while the breaker is open", labels=LABELS)
        abandoned = GaugeMetricFamily("mailserv_plugin_abandoned", "Calls that hang, waited for no more", labels=LABELS)
        for labels, some in _by_labels():
            calls.add_metric(labels, sum(each.calls for each in some))
            seconds.add_metric(labels, sum(each.seconds for each in some))
            failures.add_metric(labels, sum(each.failures for each in some))
            refusals.add_metric(labels, sum(each.refused for each in some))
            paused.add_metric(labels, max(each.breaker.is_open for each in some))
            abandoned.add_metric(labels, sum(each.abandoned for each in some))
        return (calls, seconds, failures, refusals, paused, abandoned)


def _by_labels() -> Iterator[tuple[tuple[str, str], list[Implementation]]]:
    """Two servers in one process share a sample: a registry knows no name twice."""
    found: dict[tuple[str, str], list[Implementation]] = {}
    for runner in list(RUNNERS):
        for each in runner.implementations:
            found.setdefault((each.plugin, each.hook), []).append(each)
    yield from found.items()


REGISTRY.register(PluginCollector())
