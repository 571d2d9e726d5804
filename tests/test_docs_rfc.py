"""docs/rfc.md: every module and test that it names is there, and every RFC that the code cites has its place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "rfc.md"
STATES = ("yes", "partial", "no", "see there")


class Row(NamedTuple):
    section: str
    state: str
    modules: list[str]
    tests: list[str]


def rows() -> list[Row]:
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[0] not in {"§", "RFC", "---"}:
            section, _, state, modules, tests = cells
            found.append(Row(section, state, re.findall(r"`([^`]+)`", modules), re.findall(r"`([^`]+)`", tests)))
    return found


def references() -> list[str]:
    """Everything in backticks that names a test, in the tables and between them."""
    text = PAGE.read_text(encoding="utf-8")
    named = re.findall(r"`((?:smtp|pop3)/\w+|[\w/]*test_\w+\.py(?:::\w+)?)`", text)
    return sorted({*named, *(test for row in rows() for test in row.tests)})


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.section)
def test_a_row_says_whether_and_where(row: Row) -> None:
    assert row.state.startswith(STATES)
    if row.state.startswith(("yes", "partial")):
        assert row.modules
        assert row.tests


@pytest.mark.parametrize("module", sorted({module for row in rows() for module in row.modules}))
def test_a_module_that_is_named_is_there(module: str) -> None:
    base = ROOT if module.startswith("plugins/") else ROOT / "mailserv"
    assert (base / module).is_file()


@pytest.mark.parametrize("reference", references())
def test_a_test_that_is_named_is_there(reference: str) -> None:
    file, _, function = reference.partition("::")
    if not file.endswith(".py"):
        assert (ROOT / "tests" / "dialogues" / f"{file}.dialogue").is_file()
        return
    source = (ROOT / "tests" / file).read_text(encoding="utf-8")
    assert not function or re.search(rf"^def {function}\(", source, re.MULTILINE), f"{file} has no {function}"


def test_every_rfc_that_the_code_cites_has_its_place() -> None:
    sources = [*(ROOT / "mailserv").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    cited = {number for path in sources for number in re.findall(r"RFC (\d+)", path.read_text(encoding="utf-8"))}
    text = PAGE.read_text(encoding="utf-8")
    placed = set(re.findall(r"\b\d{4}\b", "\n".join(line for line in text.splitlines() if line.startswith(("|", "#")))))
    assert sorted(cited - placed) == []
