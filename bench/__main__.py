"""`python -m bench`."""

from __future__ import annotations

import signal
import sys

from bench.cli import main

signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that servers and folders go, too
sys.exit(main(sys.argv[1:]))
