"""The drawing in ARCHITECTURE.md and the imports in the code are one and the same rule."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mailserv"
FORBIDDEN_IN_CORES = {"socket", "ssl", "threading", "time", "logging", "sqlite3", "dns", "sqlite_utils", "structlog"}


def layers() -> dict[str, int]:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    block = re.search(r"```layers\n(.*?)```", text, re.DOTALL)
    assert block, "ARCHITECTURE.md has no ```layers block"
    lines = block.group(1).strip().splitlines()
    return {room.strip(): depth for depth, line in enumerate(lines) for room in line.split("|")}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def breaches(path: Path, rank: dict[str, int]) -> list[str]:
    here = room_of(path)
    found = []
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "mailserv" or len(parts) < 2 or parts[1] in {"__version__", "hookimpl"}:
            continue
        there = parts[1]
        if there != here and rank[there] <= rank[here]:
            found.append(f"{path.relative_to(ROOT)} imports {name}: {there} is not below {here}")
    return found


def test_every_room_has_a_place_in_the_drawing() -> None:
    rooms = {room_of(path) for path in modules()} - {"__init__", "__main__"}
    assert rooms == set(layers())


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_only_its_own_folder_and_lines_below(path: Path) -> None:
    if room_of(path) in {"__init__", "__main__"}:
        assert not [name for name in imported(path) if name.startswith("mailserv.mail")] or path.name != "__init__.py"
        return
    assert breaches(path, layers()) == []


def test_the_layer_test_notices_an_import_upwards(tmp_path: Path) -> None:
    rank = layers()
    probe = PACKAGE / "mail" / "probe.py"
    tree = ast.parse("from mailserv.store.interface import Store")
    names = [f"{n.module}.{a.name}" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names]
    there = names[0].split(".")[1]
    assert rank[there] <= rank[room_of(probe)]


@pytest.mark.parametrize(
    "path", sorted([*(PACKAGE / "protocol").rglob("*.py"), *(PACKAGE / "mail").rglob("*.py")]), ids=lambda p: p.name
)
def test_protocol_and_mail_do_no_input_or_output(path: Path) -> None:
    allowed = {"threading"} if path.name == "queue_id.py" else set()
    assert {name.split(".")[0] for name in imported(path)} & (FORBIDDEN_IN_CORES - allowed) == set()


@pytest.mark.parametrize("path", sorted((ROOT / "plugins").rglob("*.py")), ids=lambda p: p.parent.name)
def test_a_shipped_plugin_imports_only_what_a_third_party_may(path: Path) -> None:
    for name in imported(path):
        if name.split(".")[0] == "mailserv":
            assert name in {"mailserv.hookimpl", "mailserv.__version__"} or name.split(".")[1] in {"mail", "testing"}, (
                name
            )


@pytest.mark.parametrize(
    "path", [*modules(), *sorted((ROOT / "plugins").rglob("*.py"))], ids=lambda p: str(p.relative_to(ROOT))
)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400, "over 400 lines: look for the second reason to exist"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is over 60 lines"


def test_what_test_files_share_has_a_name_of_its_own() -> None:
    """pytest has one `conftest` and one module of a name at a time: any choice of folders must be collected together."""
    files = [path for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    names = [path.name for path in files]
    assert [name for name in names if names.count(name) > 1] == []
    assert [path for path in files if any(name.startswith("conftest.") for name in imported(path))] == []
