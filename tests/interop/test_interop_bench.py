"""The benchmark runs: mailserv alone, each workload with little to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from interop_kit import run

RUN = Path(__file__).parent.parent.parent / "bench" / "run"

pytestmark = [pytest.mark.interop, pytest.mark.needs("smtp-source", "smtp-sink")]


@pytest.mark.parametrize(
    ("arguments", "row"),
    [
        ("W1 --sessions 2 --modes many --messages 20", r"\| 2 many +\| mailserv +\| [1-9][\d,]* "),
        ("W2 --sessions 2 --modes one --messages 20", r"\| 2 one +\| mailserv +\| [1-9][\d,]* "),
        ("W3 --messages 2", r"\| 4 +\| mailserv +\| [1-9][\d,]* "),
        ("W4 --sessions 40", r"\| 40 +\| mailserv +\| 40 "),
        ("W5 --sessions 1 --messages 30", r"\| 1 × 30 +\| mailserv +\| [1-9][\d,.]* "),
        ("W6 --sessions 2 --messages 40", r"\| 40 +\| mailserv +\| [1-9][\d,]* "),
    ],
    ids=["W1", "W2", "W3", "W4", "W5", "W6"],
)
def test_a_workload_measures_mailserv(arguments: str, row: str, tmp_path: Path) -> None:
    ran = run(RUN, *arguments.split(), "--peers", "mailserv", "--repeat", "1", home=tmp_path)
    assert re.search(row, ran.out.decode()), ran.text


def test_plugins_without_an_opinion_are_measured(tmp_path: Path) -> None:
    arguments = "plugins --messages 20 --sessions 2 --modes many --peers mailserv-plugins --repeat 1"
    ran = run(RUN, *arguments.split(), home=tmp_path)
    assert re.search(r"\| 2 many +\| mailserv-plugins +\| [1-9]", ran.out.decode()), ran.text
