"""Every hook of the specifications has a test of its own name, and a plugin of ours that needs it."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mailserv.cli.plugin_found import OURS
from mailserv.hooks.host import GROUP
from mailserv.hooks.methods import MARK
from mailserv.hooks.specs import KINDS

TESTS = Path(__file__).parent.parent
PLUGINS = TESTS.parent / "plugins"
SHIPPED = {entry.name: entry for entry in entry_points(group=GROUP) if entry.dist and entry.dist.name == OURS}


def test_the_shipped_plugins_are_the_folders_of_plugins() -> None:
    folders = {path.parent.name.removeprefix("mailserv_") for path in PLUGINS.glob("mailserv_*/__init__.py")}
    assert set(SHIPPED) == folders


@pytest.mark.parametrize("hook", KINDS)
def test_a_shipped_plugin_uses_the_hook(hook: str) -> None:
    users = [name for name, entry in SHIPPED.items() if hasattr(getattr(entry.load(), hook, None), MARK)]
    assert users, f"no plugin of ours implements {hook}: who needs it?"


@pytest.mark.parametrize("hook", KINDS)
def test_the_hook_has_a_test_of_its_name(hook: str) -> None:
    sources = [path.read_text(encoding="utf-8") for path in sorted(TESTS.rglob("test_*.py"))]
    assert any(re.search(rf"def test_hook_{hook}_[a-z]", source) for source in sources), f"def test_hook_{hook}_…"
