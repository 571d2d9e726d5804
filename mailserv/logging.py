"""The log: one structured line for each event, queue_id first; built on structlog."""

from __future__ import annotations

from typing import Any

import structlog


def get_logger(name: str) -> Any:
    """A logger whose lines carry `logger=name`. Any thread."""
    return structlog.get_logger(logger=name)
