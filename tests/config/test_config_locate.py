"""The line of a key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli

from mailserv.config.locate import line_of, locate

TRICKY = Path(__file__).parent.parent / "configs" / "tricky.toml"


def text() -> str:
    return TRICKY.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (("top",), "top = 1"),
        (("quoted key",), '"quoted key"'),
        (("literal",), "'literal'"),
        (("a", "b", "c"), "a.b.c"),
        (("a", "b", "d"), '"a"."b".d'),
        (("table",), "[table]"),
        (("table", "x", 1, 1), "[2, 3]"),
        (("table", "x", 2, "z"), "{ y = 5"),
        (("table", "long"), "long ="),
        (("table", "after"), "after ="),
        (("list", 0, "name"), '"first"'),
        (("list", 1, "name"), '"second"'),
        (("list", 0, "inner", "deep"), "deep = true"),
        (("list", 1, "inner", "deep"), "deep = false"),
        (("list", 0, "more", 1, "n"), "n = 2"),
        (("list", 1, "more", 0, "n"), "n = 3"),
        (("spaced", "out", "café"), "caf"),
    ],
)
def test_a_key_is_found_on_its_line(path: tuple[str | int, ...], content: str) -> None:
    assert content in text().splitlines()[locate(text())[path] - 1]


def paths(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, element in inner:
        yield from paths(element, (*path, key))


def test_everything_that_tomli_reads_has_a_line_and_nothing_else_has() -> None:
    assert set(locate(text())) == set(paths(tomli.loads(text())))


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parent.parent / "configs").rglob("*.toml")), ids=lambda p: p.stem
)
def test_it_agrees_with_tomli_on_every_file_we_have(path: Path) -> None:
    content = path.read_text(encoding="utf-8")
    try:
        raw = tomli.loads(content)
    except tomli.TOMLDecodeError:
        return
    assert set(locate(content)) == set(paths(raw))


@pytest.mark.parametrize(
    ("source", "path", "line"),
    [
        ("", ("x",), 1),
        ("\n\n[t]\n", ("t", "missing"), 3),
        ("\r\nx = 1\r\ny = 2\r\n", ("y",), 3),
        ("x = {\n a = 1,\n b = 2,\n}\n", ("x", "b"), 3),
        ("x = ''\ny = \"\"\nz = 1", ("z",), 3),
        ('x = """a"""""\ny = 1', ("y",), 2),
        ("x = 1 # c\n", ("x", "deeper", 3), 1),
    ],
)
def test_what_has_no_line_of_its_own_takes_the_one_around_it(
    source: str, path: tuple[str | int, ...], line: int
) -> None:
    assert line_of(locate(source), path) == line


def test_text_that_is_no_toml_is_refused() -> None:
    with pytest.raises(ValueError, match="no TOML"):
        locate("!!!")
