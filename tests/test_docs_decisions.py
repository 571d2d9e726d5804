"""docs/decisions/: numbered without a gap, one page each, of one shape, naming code that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "decisions").glob("*.md"))
ONE_PAGE = 60  # lines


def test_they_are_numbered_without_a_gap() -> None:
    assert [int(page.name[:4]) for page in PAGES] == list(range(1, len(PAGES) + 1))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_decision_is_one_page_that_says_what_was_asked_and_what_it_costs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.match(rf"# {int(page.name[:4])}\. \S", text)
    assert [word for word in ("**Question.**", "**Decision.**", "**Price.**") if text.count(word) != 1] == []
    assert len(text.splitlines()) <= ONE_PAGE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_decision_names_code_that_is_there(page: Path) -> None:
    named = re.findall(r"`((?:mailserv|plugins|tests)/[^` ]*|setup\.py)`", page.read_text(encoding="utf-8"))
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_libraries_of_the_table_are_those_that_are_installed() -> None:
    table = (ROOT / "docs" / "decisions" / "0008-libraries.md").read_text(encoding="utf-8")
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    block = re.search(r"install_requires=\[(.*?)\]", setup, re.DOTALL)
    assert block
    assert re.findall(r"^\| ([a-z0-9-]+) \|", table, re.MULTILINE)[1:] == re.findall(r'"([a-z0-9-]+)', block.group(1))
