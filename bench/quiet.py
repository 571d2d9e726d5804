"""What plugins without an opinion cost: W1 with ten of them, and with none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench import w1
from bench.workload import Options

CELLS = ("1 one", "1 many", "10 many")


def cells(options: Options) -> Sequence[str]:
    return w1.cells(options) if options.sessions or options.modes else CELLS


PLUGINS = replace(
    w1.W1,
    name="plugins",
    title="ten plugins without an opinion",
    peers=("mailserv-plugins", "mailserv"),
    cells=cells,
    pairs=("accepted", "cpu"),
    notes=(
        "As W1; mailserv-plugins has ten, each of which listens to seven hooks and has no opinion "
        "(docs/decisions/0030-a-call-that-hangs-keeps-its-thread.md)."
    ),
)
