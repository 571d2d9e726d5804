"""What Prometheus is told: counters and gauges with bounded labels."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

SESSIONS = Gauge("mailserv_sessions", "Sessions open now", ["service"])
SESSIONS_REFUSED = Counter("mailserv_sessions_refused", "Sessions refused at connect", ["service", "reason"])
ACCEPTED = Counter("mailserv_messages_accepted", "Messages accepted with 250", ["service"])
REFUSED = Counter("mailserv_commands_refused", "Commands refused", ["service", "code"])
LOGINS = Counter("mailserv_logins", "Logins", ["service", "result"])
ATTEMPTS = Counter("mailserv_delivery_attempts", "Recipients attempted", ["transport", "outcome"])
BOUNCES = Counter("mailserv_bounces", "Delivery status notifications made", ["kind"])
QUEUED = Gauge("mailserv_queue_claimed", "Rows claimed by this node")
