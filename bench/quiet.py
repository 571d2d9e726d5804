"""What plugins without an opinion cost: W1 with ten of them, on the session's thread or on helpers', and with none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench import w1
from bench.workload import Options

CELLS = ("10 many",)


def cells(options: Options) -> Sequence[str]:
    return w1.cells(options) if options.sessions or options.modes else CELLS


PLUGINS = replace(
    w1.W1,
    name="plugins",
    title="ten plugins without an opinion",
    peers=("mailserv-inline", "mailserv-helpers", "mailserv"),
    cells=cells,
    notes=(
        "As W1; each plugin listens to seven hooks and has no opinion. inline: called on the session's own thread; helpers: as "
        "plugins that may wait are called, on another one (docs/decisions/0015-who-may-wait-gets-a-thread.md)."
    ),
)
