"""conf/mailserv.toml shows every setting, each with its very default, and works when the comment signs are taken away."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import tomli

from mailserv.config import load
from mailserv.config.show import Row, rows

CONF = Path(__file__).parent.parent / "conf" / "mailserv.toml"
EXAMPLES = {  # settings whose default is nothing, so that an example says more
    "hostname",
    "local_domains",
    "postmaster",
    "catch_all",
    "listen.service",
    "listen.address",
    "tls.certificate",
    "tls.key",
    "routes.to",
    "routes.user",
    "routes.password",
    "routes.tls",
    "plugins.path",
}
SHOWN_BY_THEIR_TABLE = {"listen", "aliases", "routes", "plugin"}


def uncommented() -> str:
    return re.sub(r'^#(?=[a-z"\[])', "", CONF.read_text(encoding="utf-8"), flags=re.MULTILINE)


def shown(row: Row) -> Any:
    """The row's value in the uncommented file."""
    raw = tomli.loads(uncommented())
    tables = {"": raw, "listen": raw["listen"][0], "routes": raw["routes"]["*"]}
    table = tables.get(row.table) or raw.get(row.table, {})
    assert row.name in table, f"conf/mailserv.toml has no line #{row.name} = {row.default} under [{row.table}]"
    return table[row.name]


def full(row: Row) -> str:
    return f"{row.table}.{row.name}" if row.table else row.name


@pytest.mark.parametrize("row", rows(), ids=full)
def test_every_setting_is_in_the_file_with_its_default(row: Row) -> None:
    value = shown(row)
    if full(row) in EXAMPLES:
        assert value
    elif full(row) not in SHOWN_BY_THEIR_TABLE:
        assert value == tomli.loads(f"x = {row.default}")["x"]


def test_no_setting_with_a_default_hides_behind_an_example() -> None:
    with_default = {full(row) for row in rows() if row.default not in ("", '""', "[]", "{}")}
    assert with_default & EXAMPLES == {"routes.tls"}


def test_nothing_is_set_as_the_file_is_shipped() -> None:
    assert tomli.loads(CONF.read_text(encoding="utf-8")) == {}


def test_without_the_comment_signs_it_is_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "mailserv.toml"
    path.write_text(uncommented(), encoding="utf-8")
    path.chmod(0o600)
    loaded = load(path, check_files=False)
    assert loaded.settings.hostname == "mail.example.org"
    assert loaded.warnings == []
