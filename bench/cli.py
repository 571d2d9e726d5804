"""The command line: `bench/run W1 W2 --peers postfix,mailserv --repeat 3`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench.errors import Failed
from bench.growth import GROWTH
from bench.meter import wait_for_quiet
from bench.quiet import PLUGINS
from bench.report import PAGE, put_between_marks, section
from bench.server import Peer
from bench.servers import choose
from bench.w1 import W1
from bench.w2 import W2
from bench.w3 import W3
from bench.w4 import W4
from bench.w5 import W5
from bench.w6 import W6
from bench.workload import Options, Results, Workload

WORKLOADS = {workload.name: workload for workload in (W1, W2, W3, W4, W5, W6, PLUGINS, GROWTH)}


def main(arguments: Sequence[str]) -> int:
    """0; 1 when something could not be measured."""
    wanted = parser().parse_args(arguments)
    failed = False
    for name in wanted.workloads:
        workload = WORKLOADS[name]
        options = Options(wanted.sessions, wanted.modes, wanted.messages)
        peers, versions = _present(wanted.peers or workload.peers, wanted.mailserv_processes)
        results = run(workload, peers, options, wanted.repeat, wanted.quiet)
        command = " ".join(["bench/run", name, *(word for word in arguments if word not in wanted.workloads)])
        cells = workload.cells(options)
        lines = section(workload, results, cells, versions, command=command, rounds=wanted.repeat)
        print("\n".join(lines), flush=True)
        if wanted.write:
            PAGE.write_text(put_between_marks(PAGE.read_text(), name, lines))
        failed |= bool(results.failures)
    return int(failed)


def run(workload: Workload, peers: Sequence[Peer], options: Options, rounds: int, quiet: float = 0.0) -> Results:
    """Everything in turn: each peer in each cell, then all of it again."""
    results = Results()
    for number in range(1, rounds + 1):
        for task in (workload.tasks or workload.cells)(options):
            for peer in peers:
                wait_for_quiet(quiet)
                _measure(workload, peer, task, options, results, f"{workload.name} {number}/{rounds}")
    return results


def _measure(workload: Workload, peer: Peer, task: str, options: Options, results: Results, round_: str) -> None:
    try:
        for cell, values in workload.measure(peer, task, options):
            results.add(cell, peer.name, values)
            figures = "  ".join(f"{key} {value:,.2f}" for key, value in values.items())
            _say(f"{round_} {cell}, {peer.name}: {figures}")
    except Failed as failure:
        results.failures.append((task, peer.name, str(failure)))
        _say(f"{round_} {task}, {peer.name}: {failure}")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="bench/run",
        description="Measure mailserv and its peers, in turn, on this machine, over loopback.",
        epilog="bench/run --install brings the peers: Debian packages (nothing of them is started) and Haraka from npm.",
    )
    made.add_argument("workloads", nargs="+", choices=sorted(WORKLOADS), metavar="W", help=", ".join(sorted(WORKLOADS)))
    made.add_argument("--peers", type=_peers, default=(), help="with commas; “postfix” is both of its settings")
    made.add_argument("--sessions", type=_numbers, default=(), help="at once, with commas: 10,50,200")
    made.add_argument("--modes", type=_names, default=(), help="one, many or one,many: messages a connection")
    made.add_argument("--messages", type=int, default=0, help="how many, instead of the workload's own number")
    made.add_argument("--repeat", type=int, default=3, help="rounds (default: 3)")
    made.add_argument("--mailserv-processes", type=int, default=0, metavar="N", help="[limits] processes = N")
    made.add_argument(
        "--quiet",
        type=float,
        default=0.0,
        metavar="S",
        help="before each, wait up to S seconds until nobody else works",
    )
    made.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    return made


def _present(names: Sequence[str], processes: int) -> tuple[list[Peer], dict[str, str]]:
    """The peers that can be started here, and what they say they are."""
    peers, versions = [], {}
    for peer in choose(names, processes):
        try:
            versions[peer.name] = peer.version()
        except Failed as failure:
            _say(f"not measured: {peer.name}: {failure}")
        else:
            peers.append(peer)
    return peers, versions


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _peers(text: str) -> tuple[str, ...]:
    try:
        return tuple(peer.name for peer in choose(_names(text)))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, _names(text)))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
