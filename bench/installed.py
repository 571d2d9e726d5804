"""Where what `bench/run --install` brings lies, beyond the system's own packages."""

from __future__ import annotations

import os
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mailserv-bench"
