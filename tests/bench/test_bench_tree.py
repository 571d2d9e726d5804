"""What the benchmark reads of a server's processes."""

from __future__ import annotations

import subprocess
import sys

from bench.tree import Tree

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "sum(range(8_000_000)); print('done', flush=True); input()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
print(child.pid, flush=True)
input()
child.communicate(b"\\n")
print("waited for", flush=True)
input()
"""


def test_the_tree_is_the_process_with_its_descendants_and_keeps_the_cpu_of_those_that_ended() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        tree = Tree(process.pid)
        child = int(process.stdout.readline())
        assert tree.pids() == sorted([process.pid, child])
        assert tree.memory() > 2 * 2**20
        used = tree.cpu()
        assert used > Tree(child).cpu() > 0
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "waited for\n"
        assert tree.pids() == [process.pid]
        assert tree.cpu() >= used
        process.stdin.write("\n")
