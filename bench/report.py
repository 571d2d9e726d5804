"""What a run says: on the terminal, and in docs/performance.md between marks."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from bench.tables import paired, plot, table
from bench.workload import Results, Workload

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


def section(
    workload: Workload,
    results: Results,
    cells: Sequence[str],
    versions: Mapping[str, str],
    *,
    command: str,
    rounds: int,
) -> list[str]:
    """A workload's heading, table, and how they came about."""
    lines = [f"## {workload.name}: {workload.title}", "", *table(workload, results, cells, list(versions)), ""]
    for column in workload.columns:
        if column.key in workload.plots:
            lines += ["```", *plot(column, results, cells, list(versions)), "```", ""]
    for column in workload.columns:
        if column.key in workload.pairs:
            lines += [*paired(column, results, cells, list(versions)), ""]
    lines += [
        f"`{command}`, {date.today():%Y-%m-%d}, {machine()}. " + "; ".join(dict.fromkeys(versions.values())) + "."
    ]
    lines += [
        f"Medians of {rounds} rounds in turn (least–most); “×”: how many times better mailserv is. {workload.notes}"
    ]
    lines += [f"- {cell}, {peer}: {what}" for cell, peer, what in dict.fromkeys(results.failures)]
    return lines


def machine() -> str:
    """This machine in a few words."""
    text = Path("/proc/cpuinfo").read_text()
    models = re.findall(r"^model name\s*: (.*)$", text, re.MULTILINE)
    model = re.sub(r"\s+", " ", models[0]) if models else platform.machine()
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, {system}, Linux {platform.release()}"


def put_between_marks(text: str, name: str, lines: Sequence[str]) -> str:
    """The page with this workload's part exchanged. ValueError when it has no place for it."""
    mark, end = f"<!-- bench {name} -->", f"<!-- /bench {name} -->"
    head, found, rest = text.partition(mark)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the page has no place for {name}: {mark} … {end}")
    return "\n".join([head + mark, *lines, end]) + tail
