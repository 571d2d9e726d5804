"""docs/plugins/: a page for each shipped plugin that is enabled by name or has settings, with the settings that it has now."""

from __future__ import annotations

import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mailserv.cli.docs import COMMAND, plugin_page
from mailserv.hooks.host import GROUP, SHIPPED_EXTENSIONS

FOLDER = Path(__file__).parent.parent / "docs" / "plugins"
PAGES = sorted(FOLDER.glob("*.md"))
SHIPPED = {path.parent.name for path in (FOLDER.parent.parent / "plugins").glob("mailserv_*/__init__.py")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_the_settings_of_its_plugin(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert f"mailserv_{page.stem}" in SHIPPED
    assert text == plugin_page(page.stem, text), COMMAND


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_an_example_enables_what_is_there(page: Path) -> None:
    examples = [block.partition("```")[0] for block in page.read_text(encoding="utf-8").split("```toml\n")[1:]]
    named = {name for text in examples for name in tomllib.loads(text).get("plugins", {}).get("enabled", ())}
    assert named <= entry_points(group=GROUP).names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_code_and_tests_that_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = [word for word in text.split("`")[1::2] if word.startswith(("plugins/", "tests/"))]
    assert named
    assert [name for name in named if not (FOLDER.parent.parent / name).exists()] == []


@pytest.mark.parametrize("name", sorted(SHIPPED - {f"mailserv_{name}" for name in SHIPPED_EXTENSIONS}))
def test_what_somebody_has_to_enable_has_a_page(name: str) -> None:
    assert (FOLDER / f"{name.removeprefix('mailserv_')}.md").is_file()


def test_a_setting_that_is_not_in_its_page_is_noticed() -> None:
    page = "<!-- settings -->\n<!-- /settings -->\nend\n"
    printed = plugin_page("maildir", page)
    assert "| `path` |" in printed
    assert printed.endswith("<!-- /settings -->\nend\n")
    assert plugin_page("maildir", printed) == printed
    assert entry_points(group=GROUP)["maildir"].load().Settings is not None
