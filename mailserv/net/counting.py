"""What Prometheus is told of sessions, counted when it asks: a gauge would cost each of them two locks."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from mailserv.net.gate import Gate

GATES: weakref.WeakSet[Gate] = weakref.WeakSet()
"""Those of this process's servers."""


class SessionCollector(Collector):
    """Asked by the registry at each scrape, on its thread."""

    def collect(self) -> Iterable[Metric]:
        """One sample for each service, of all servers in this process."""
        found: Counter[str] = Counter()
        for gate in list(GATES):
            found.update(gate.sessions())
        family = GaugeMetricFamily("mailserv_sessions", "Sessions open now", labels=("service",))
        for service, sessions in found.items():
            family.add_metric((service,), sessions)
        return (family,)


REGISTRY.register(SessionCollector())
