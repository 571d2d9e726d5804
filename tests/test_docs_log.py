"""docs/log.md lists every event that the code logs, with its fields, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mailserv.logging.lines import Line, logfmt

ROOT = Path(__file__).parent.parent
METHODS = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "critical": "error",
}
NOT_LOGGED_BY_NAME = {"library_log", "log_dropped"}  # made inside mailserv.logging
MORE = "…"


class Call(NamedTuple):
    """One place in the code that logs."""

    where: str
    event: str
    level: str
    fields: frozenset[str]


class Row(NamedTuple):
    levels: frozenset[str]
    fields: frozenset[str]


def calls() -> Iterator[Call]:
    for path in sorted([*(ROOT / "mailserv").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]):
        if path.is_relative_to(ROOT / "mailserv" / "logging"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and is_log(node.func):
                yield read(node, f"{path.relative_to(ROOT)}:{node.lineno}")


def is_log(function: ast.expr) -> bool:
    return (
        isinstance(function, ast.Attribute)
        and function.attr in METHODS
        and re.search(r"(^|[._])log(ger)?(\(|$|\.bind)", ast.unparse(function.value)) is not None
    )


def read(node: ast.Call, where: str) -> Call:
    assert isinstance(node.func, ast.Attribute)
    assert node.args, f"{where}: no event"
    event = node.args[0]
    assert isinstance(event, ast.Constant), f"{where}: the event is no literal word"
    fields = {keyword.arg or MORE for keyword in node.keywords}
    if node.func.attr == "exception" or "exc_info" in fields:
        fields = (fields - {"exc_info"}) | {"traceback"}
    return Call(where, str(event.value), METHODS[node.func.attr], frozenset(fields))


def documented() -> dict[str, Row]:
    text = (ROOT / "docs" / "log.md").read_text(encoding="utf-8").split("## Events")[1]
    rows = re.findall(r"^\| `(\w+)` \| ([\w ·]+) \|([^|]*)\| [^|]+ \|$", text, re.MULTILINE)
    return {event: Row(frozenset(levels.split(" · ")), frozenset(fields.split())) for event, levels, fields in rows}


@pytest.mark.parametrize("call", list(calls()), ids=lambda call: f"{call.where}-{call.event}")
def test_an_event_is_documented_with_its_level_and_fields(call: Call) -> None:
    row = documented().get(call.event)
    assert row, f"{call.where}: docs/log.md does not know the event {call.event}"
    assert call.level in row.levels, f"{call.where}: {call.event} is {call.level}"
    assert call.fields <= row.fields, f"{call.where}: {call.event} has {sorted(call.fields - row.fields)} too"


def test_no_event_is_documented_that_the_code_does_not_log() -> None:
    assert set(documented()) - {call.event for call in calls()} - NOT_LOGGED_BY_NAME == set()


def reasons(module: str) -> Iterator[str]:
    """What a session's module gives as its reason: assigned to one, or said first to what ends the session."""
    for node in ast.walk(ast.parse((ROOT / "mailserv" / module).read_text(encoding="utf-8"))):
        said: ast.expr | None = None
        if isinstance(node, ast.Assign) and "reason" in ast.unparse(node.targets[0]):
            said = node.value.elts[0] if isinstance(node.value, ast.Tuple) else node.value
        elif isinstance(node, ast.Return):
            said = node.value
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("._end", "._end_for", "._farewell")):
            said = node.args[0]
        for each in (said.body, said.orelse) if isinstance(said, ast.IfExp) else (said,):
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                yield each.value


@pytest.mark.parametrize("module", ["accept/session.py", "accept/tally.py", "accept/serving.py", "pop3/session.py"])
def test_a_reason_for_the_end_of_a_session_is_documented(module: str) -> None:
    text = (ROOT / "docs" / "log.md").read_text(encoding="utf-8")
    table = text.partition("## Why a session ended")[2].partition("## ")[0]
    told = {
        word for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for word in re.findall(r"`([^`]+)`", row)
    }
    found = set(reasons(module))
    assert found
    assert found <= told


def test_the_table_is_in_order() -> None:
    assert list(documented()) == sorted(documented())


def test_an_event_is_a_lower_case_word() -> None:
    assert [call for call in calls() if not re.fullmatch(r"[a-z][a-z0-9_]*", call.event)] == []


def test_the_fail2ban_filter_finds_a_failed_login_and_nothing_that_a_client_wrote() -> None:
    text = (ROOT / "docs" / "log.md").read_text(encoding="utf-8")
    pattern = re.search(r"^failregex = (.*)$", text, re.MULTILINE)
    assert pattern
    expression = re.compile(pattern.group(1).replace("<ADDR>", r"(?P<ip>[0-9a-f.:]+)"))
    found = expression.search(
        logfmt(Line(0.0, "warning", "filter.logins", "auth_failed", {"ip": "192.0.2.1", "login": "x"}))
    )
    assert found
    assert found["ip"] == "192.0.2.1"
    forged = "x ts=1 level=warning event=auth_failed logger=a ip=198.51.100.1 "
    assert not expression.search(logfmt(Line(0.0, "info", "x", "refused", {"helo": forged})))
