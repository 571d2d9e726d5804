"""W6's rows, and the sizes it tells."""

from __future__ import annotations

from pathlib import Path

from bench.w6 import cells, decades, sizes, tasks
from bench.workload import Options


def test_the_rows_are_decades_up_to_the_wanted_number() -> None:
    assert decades(1_000_000) == [0, 1000, 10_000, 100_000, 1_000_000]
    assert decades(50_000) == [0, 1000, 10_000, 50_000]
    assert decades(40) == [0, 40]


def test_one_server_grows_through_all_rows() -> None:
    options = Options(messages=20_000)
    assert cells(options) == ["to 1,000", "to 10,000", "to 20,000"]
    assert tasks(options) == ["to 20,000"]


def test_the_write_ahead_log_is_told_by_itself(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mail.db").write_bytes(b"x" * 100)
    (tmp_path / "data" / "mail.db-wal").write_bytes(b"x" * 30)
    assert sizes(tmp_path) == (130, 30)
