"""The benchmark's tables, and their places in docs/performance.md."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.cli import WORKLOADS, parser
from bench.report import PAGE, put_between_marks, section
from bench.tables import plot, table
from bench.workload import Column, Options, Results, Workload

COLUMNS = (Column("rate", "rate/s", better="more"), Column("wait", "wait ms", 1, "less"), Column("memory", "MiB"))
WORKLOAD = Workload("W0", "nothing", ("a", "mailserv"), COLUMNS, lambda options: ("10", "50"), lambda *all: ())


def results() -> Results:
    found = Results()
    for rate in (1000.0, 3000.0, 2000.0):
        found.add("10", "mailserv", {"rate": rate, "wait": 2.0, "memory": 64.0})
        found.add("10", "a", {"rate": rate / 4, "wait": 30.0, "memory": 16.0})
    return found


def test_a_table_has_medians_ranges_and_how_many_times_better_ours_is() -> None:
    assert table(WORKLOAD, results(), ("10", "50"), ("a", "mailserv")) == [
        "| cell | server   | rate/s                | wait ms    | MiB |",
        "|------|----------|-----------------------|------------|-----|",
        "| 10   | a        | 500 (250–750) · 4.00× | 30.0 · 15× | 16  |",
        "| 10   | mailserv | 2,000 (1,000–3,000)   | 2.0        | 64  |",
    ]


def test_a_plot_has_a_bar_for_each_row() -> None:
    found = results()
    found.add("50", "mailserv", {"rate": 1000.0})
    title, *drawn = plot(COLUMNS[0], found, ("10", "50"), ("a", "mailserv"))
    assert title == "rate/s"
    assert [line.count("█") for line in drawn] == [12, 50, 25]
    assert drawn[-1] == f"50, mailserv {'█' * 25} 1,000"


def test_a_section_has_the_plots_that_its_workload_wants() -> None:
    drawn = replace(WORKLOAD, plots=("wait",))
    lines = section(drawn, results(), ("10", "50"), {"a": "a 1", "mailserv": "m 1"}, command="bench/run W0", rounds=3)
    start = lines.index("```")
    assert lines[start + 1 : start + 5] == ["wait ms", f"10, a        {'█' * 50} 30.0", "10, mailserv ███ 2.0", "```"]


def test_a_small_difference_is_told_round_by_round() -> None:
    found = Results()
    for ours, theirs in ((1000.0, 900.0), (2000.0, 1900.0), (500.0, 480.0)):  # 0.90, 0.95, 0.96
        found.add("10", "mailserv", {"rate": ours})
        found.add("10", "a", {"rate": theirs})
    told = replace(WORKLOAD, pairs=("rate",))
    lines = section(told, found, ("10",), {"a": "a 1", "mailserv": "m 1"}, command="bench/run W0", rounds=3)
    (line,) = (line for line in lines if line.startswith("Round by round"))
    assert "rate/s of a at 10: 0.950 of mailserv's in the same round" in line
    assert "0.900–0.960" in line
    found.add("10", "a", {"rate": 1.0})  # a round of ours has failed: nobody knows which belong together
    lines = section(told, found, ("10",), {"a": "a 1", "mailserv": "m 1"}, command="bench/run W0", rounds=3)
    assert not any(line.startswith("Round by round") for line in lines)


def test_without_ours_there_are_no_ratios() -> None:
    found = Results()
    found.add("10", "a", {"rate": 7.0, "wait": 1.0, "memory": 1.0})
    assert table(WORKLOAD, found, ("10",), ("a", "mailserv"))[-1] == "| 10   | a      | 7      | 1.0     | 1   |"


def test_what_has_not_been_measured_stays_empty() -> None:
    found = results()
    found.add("50", "a", {"rate": 7.0, "wait": float("nan")})
    last = table(WORKLOAD, found, ("10", "50"), ("a", "mailserv"))[-1]
    assert [cell.strip() for cell in last.split("|")[1:-1]] == ["50", "a", "7", "", ""]


def test_writing_changes_only_what_is_between_the_marks() -> None:
    page = "before\n<!-- bench W1 -->\nold\n<!-- /bench W1 -->\nafter\n"
    assert put_between_marks(page, "W1", ["new", "lines"]) == (
        "before\n<!-- bench W1 -->\nnew\nlines\n<!-- /bench W1 -->\nafter\n"
    )
    with pytest.raises(ValueError, match="no place for W2"):
        put_between_marks(page, "W2", [])


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_page_has_a_place_for_each_workload(name: str) -> None:
    assert put_between_marks(PAGE.read_text(encoding="utf-8"), name, [])


def test_sessions_and_modes_make_the_cells() -> None:
    cells = WORKLOADS["W1"].cells
    assert cells(Options(sessions=(10, 200), modes=("one",))) == ["10 one", "200 one"]
    assert list(cells(Options())) == ["10 one", "50 one", "200 one", "10 many", "50 many"]


def test_postfix_on_the_command_line_is_both_of_its_settings() -> None:
    wanted = parser().parse_args(["W1", "--peers", "postfix,mailserv", "--sessions", "10,50"])
    assert wanted.peers == ("postfix", "postfix-tuned", "mailserv")
    assert wanted.sessions == (10, 50)


def test_an_unknown_peer_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["W1", "--peers", "postfux"])
    assert "no server 'postfux'" in capsys.readouterr().err
