"""docs/lessons.md: every lesson has tests that are there, and every `lesson_N` in the tests is a lesson of the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "lessons.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## (\d+)\. .*?(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


def section(number: str) -> str:
    found = re.search(rf"^## {number}\. .*?(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found
    return found.group(0)


def test_lessons_are_numbered_without_a_gap() -> None:
    assert [int(number) for number in SECTIONS] == list(range(1, len(SECTIONS) + 1))


@pytest.mark.parametrize("number", SECTIONS)
def test_a_lesson_names_tests_that_are_there(number: str) -> None:
    references = re.findall(r"`([^`]+)`", section(number).partition("Tests:")[2])
    assert references
    for name in references:
        path = name if name.endswith(".py") else f"dialogues/{name}.dialogue"
        assert (ROOT / "tests" / path).is_file(), name


def test_every_lesson_that_a_test_is_named_for_is_on_the_page() -> None:
    named = {number for path in TESTS for number in re.findall(r"lesson_(\d+)_", path.read_text(encoding="utf-8"))}
    assert named
    assert named - set(SECTIONS) == set()


@pytest.mark.parametrize("path", sorted((ROOT / "mailserv").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_page_that_the_code_refers_to_is_there(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    for number in re.findall(r"docs/lessons\.md (\d+)", source):
        assert number in SECTIONS
    for number in re.findall(r"docs/decisions/(\d{4})", source):
        assert list((ROOT / "docs" / "decisions").glob(f"{number}-*.md"))
