"""The printed pages of docs/ are what the code would print now."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from mailserv.cli.docs import COMMAND, PAGES, docs
from mailserv.config.show import Row, as_toml, rows
from mailserv.mail.values import Duration, Size

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_a_printed_page_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), COMMAND


class Inner(msgspec.Struct):
    key: str = "x"


@pytest.mark.parametrize(
    ("value", "toml"),
    [
        (Duration(300), '"5m"'),
        (Size(50_000_000), '"50MB"'),
        (True, "true"),
        (7, "7"),
        (0.5, "0.5"),
        ((Duration(60), Duration(3600)), '["1m", "1h"]'),
        ({}, "{}"),
        (Inner(), "{}"),
        ("x", '"x"'),
        (None, ""),
    ],
)
def test_a_default_is_shown_as_the_file_would_have_it(value: object, toml: str) -> None:
    assert as_toml(value) == toml


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.table}.{row.name}")
def test_every_setting_says_what_it_means(row: Row) -> None:
    assert row.meaning
    assert row.kind


def test_a_page_that_is_behind_is_told_and_written_anew(tmp_path: Path) -> None:
    (tmp_path / "settings.md").write_text("old")
    ran = CliRunner().invoke(docs, ["--check", str(tmp_path)])
    assert ran.exit_code == 1
    assert "settings.md is not up to date" in ran.stderr
    assert CliRunner().invoke(docs, [str(tmp_path)]).exit_code == 0
    assert CliRunner().invoke(docs, ["--check", str(tmp_path)]).exit_code == 0
    assert (tmp_path / "settings.md").read_text(encoding="utf-8") == PAGES["settings.md"]()
