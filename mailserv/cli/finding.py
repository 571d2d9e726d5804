"""What `mailserv plugin check` found out about one rule."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule. `detail` says what was seen, in one line."""

    rule: str
    is_kept: bool
    detail: str


def raised(error: BaseException) -> str:
    """An exception, and where it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"raised {type(error).__name__}: {error}{where}"
