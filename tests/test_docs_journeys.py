"""docs/journeys/: each journey has a test of the same name, each such test its page, and every module named is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mailserv.store.interface import Store

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "journeys").glob("*.md"))
TESTS = sorted((ROOT / "tests" / "journeys").glob("test_*.py"))
ROOMS = {path.name for path in (ROOT / "mailserv").iterdir() if (path / "__init__.py").exists()}


def test_there_are_journeys_in_out_and_back() -> None:
    assert {"remote-to-local", "local-to-remote", "bounce"} <= {page.stem for page in PAGES}


def test_each_page_has_its_test_and_each_test_its_page() -> None:
    assert {page.stem.replace("-", "_") for page in PAGES} == {test.stem.removeprefix("test_") for test in TESTS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_its_test_and_has_a_picture(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert f"`tests/journeys/test_{page.stem.replace('-', '_')}.py`" in text
    assert re.search(r"^```\n.*?^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_a_test_is_named_like_its_journey(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    name = path.stem.removeprefix("test_")
    assert f"docs/journeys/{name.replace('_', '-')}.md" in text
    assert re.search(rf"^def test_{name}_", text, re.MULTILINE)


def dotted(text: str) -> set[str]:
    """Words like `route.router`, in prose and pictures."""
    return {f"{room}.{name}" for room, name in re.findall(r"\b(\w+)\.([a-z_]\w*)\b", text) if room in ROOMS}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "ARCHITECTURE.md"], ids=lambda page: page.stem)
def test_every_module_that_is_named_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = []
    for word in sorted(dotted(text)):
        room, name = word.split(".")
        if name in {"toml", "py"} or (ROOT / "mailserv" / room / f"{name}.py").is_file():
            continue
        if not (room == "store" and hasattr(Store, name)):
            missing.append(word)
    assert missing == []


def test_every_module_of_a_room_in_the_architecture_is_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## Rooms")[2]
    rows = re.findall(r"^\| `(\w+)/` \| (.*) \|$", text, re.MULTILINE)
    assert {room for room, _ in rows} == ROOMS | {"bench", "plugins"}
    for room, words in rows:
        for name in re.findall(r"`([a-z][a-z0-9_]*)`", words):
            folder = ROOT / room if room == "bench" else ROOT / "mailserv" / room
            assert (folder / f"{name}.py").is_file(), f"{room}/{name}"
