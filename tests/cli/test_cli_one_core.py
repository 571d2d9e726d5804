"""`[limits] one_core`: the server's threads are on one core and let each other finish, or on all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from serving import running

CONFIG = """
hostname = "mail.example.org"
data_dir = "{folder}/data"
local_domains = ["example.org"]
listen = [{{ service = "smtp", address = "127.0.0.1:0" }}]
[limits]
{limit}
"""


def heaps_of_threads(pid: int) -> int:
    """glibc reserves 64 MiB for each, at a multiple of that: what is in use, and behind it what nobody may touch yet."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    parts = [tuple(int(end, 16) for end in line.split()[0].split("-")) for line in maps if " ---p " in line]
    return sum(end % (64 * 2**20) == 0 and end - start > 32 * 2**20 for start, end in parts)


@pytest.mark.parametrize(("limit", "behind"), [("", [0, 5]), ("one_core = false", [0])])
def test_the_one_that_writes_lets_the_others_go_first(tmp_path: Path, limit: str, behind: list[int]) -> None:
    config = tmp_path / "mailserv.toml"
    config.write_text(CONFIG.format(folder=tmp_path, limit=limit))
    with running("serve", "--config", str(config), cwd=tmp_path) as process:
        process.until("^ready ")
        threads = [int(entry.name) for entry in Path(f"/proc/{process.pid}/task").iterdir()]
        nice = [os.getpriority(os.PRIO_PROCESS, thread) - os.getpriority(os.PRIO_PROCESS, 0) for thread in threads]
        process.stop()
    assert sorted(set(nice)) == behind
    assert nice.count(5) == len(behind) - 1


def test_where_there_is_but_one_core_they_let_each_other_finish_too(tmp_path: Path) -> None:
    config = tmp_path / "mailserv.toml"
    config.write_text(CONFIG.format(folder=tmp_path, limit=""))
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(ours)})
    try:
        with running("serve", "--config", str(config), cwd=tmp_path) as process:
            process.until("^ready ")
            threads = [int(entry.name) for entry in Path(f"/proc/{process.pid}/task").iterdir()]
            policies = {os.sched_getscheduler(thread) for thread in threads}
            cores = {frozenset(os.sched_getaffinity(thread)) for thread in threads}
            process.stop()
    finally:
        os.sched_setaffinity(0, ours)
    assert policies == {os.SCHED_BATCH}
    assert cores == {frozenset({min(ours)})}


@pytest.mark.parametrize(("limit", "is_one"), [("", True), ("one_core = true", True), ("one_core = false", False)])
def test_every_thread_is_where_the_setting_says(tmp_path: Path, limit: str, is_one: bool) -> None:
    config = tmp_path / "mailserv.toml"
    config.write_text(CONFIG.format(folder=tmp_path, limit=limit))
    ours = os.sched_getaffinity(0)
    with running("serve", "--config", str(config), cwd=tmp_path) as process:
        process.until("^ready ")
        threads = [int(entry.name) for entry in Path(f"/proc/{process.pid}/task").iterdir()]
        cores = {frozenset(os.sched_getaffinity(thread)) for thread in threads}
        policies = {os.sched_getscheduler(thread) for thread in threads}
        heaps = heaps_of_threads(process.pid)
        process.stop()
    assert len(threads) > 3
    assert bool(heaps) is not is_one
    assert len(cores) == 1, "all threads alike"
    (found,) = cores
    assert found <= ours
    assert len(found) == (1 if is_one else len(ours))
    assert policies == {os.SCHED_BATCH if is_one else os.sched_getscheduler(0)}
