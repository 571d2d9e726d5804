"""Invariants of ARCHITECTURE.md that hold for the code as a whole; the others have their tests where they bite."""

from __future__ import annotations

import ast
import re
import sys
import typing
from collections import Counter
from pathlib import Path

import pytest

from mailserv.hooks import specs
from mailserv.hooks.specs import KINDS
from mailserv.mail.message import Content
from mailserv.mail.plugin import Services
from mailserv.mail.value import Value
from mailserv.settings import Plugins
from mailserv.testing.server import mail_server

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mailserv"
RESPONSIBLE = {
    "time": {"clock.py", "logging/__init__.py", "logging/writer.py", "cli/sd_notify.py", "testing/server.py"},
    "datetime.now": {"config/certificates.py", "cli/try_it.py"},  # when a certificate ends, and one that is made
    "random": {"derived.py", "cli/queue.py"},  # the server's own source of chance; a simulation's, always the same
    "names": {"resolver.py"},
}
LARGE = 3 * 1024 * 1024  # octets: many reads, and a file
SPY = """
import threading
from mailserv import hookimpl

CALLS = []

class Plugin:
    def __init__(self, settings, services):
        self.services = services

    def note(self, hook):
        CALLS.append((hook, threading.current_thread().name))

    @hookimpl
    def smtp_connect(self): self.note("smtp_connect")
    @hookimpl
    def smtp_helo(self): self.note("smtp_helo")
    @hookimpl
    def smtp_mail(self): self.note("smtp_mail")
    @hookimpl
    def smtp_rcpt(self): self.note("smtp_rcpt")
    @hookimpl
    def smtp_data(self): self.note("smtp_data")
    @hookimpl
    def message_check(self, content):
        self.note("message_check")
        self.size = sum(map(len, content.blocks()))
    @hookimpl
    def message_accepted(self): self.note("message_accepted")
"""


def test_every_invariant_has_a_test_that_is_named_for_it() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("## Invariants")[1].split("##")[0]
    numbers = set(re.findall(r"^(\d+)\. ", text, re.MULTILINE))
    sources = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("*.py"))]
    named = {number for source in sources for number in re.findall(r"def test_\w*invariant_(\d+)(?!\d)", source)}
    assert numbers == {str(number) for number in range(1, 12)}
    assert numbers - named == set()


def test_invariant_7_each_hook_is_called_once_a_command_and_never_on_the_thread_that_commits(tmp_path: Path) -> None:
    (tmp_path / "spy.py").write_text(SPY)
    content = b"Subject: large\r\n\r\n" + b"x" * 70 * 14 + b"\r\n" + (b"y" * 78 + b"\r\n") * (LARGE // 80)
    with mail_server(plugins=Plugins(enabled=("spy",), path=tmp_path)) as server:
        server.send("carol@far.example", ["alice@example.org"], content)
        assert len(server.mailbox("alice@example.org")) == 1
    calls: list[tuple[str, str]] = sys.modules["mailserv_plugin_file_spy"].CALLS
    assert Counter(hook for hook, _ in calls) == dict.fromkeys(re.findall(r"def ([a-z]+_\w+)\(", SPY), 1)
    assert {thread for _, thread in calls} == {"session"}


@pytest.mark.parametrize("name", KINDS)
def test_invariant_8_a_hook_is_given_frozen_values_only(name: str) -> None:
    hints = typing.get_type_hints(getattr(specs, name))
    kinds = [(argument, kind) for argument, hint in hints.items() for kind in (typing.get_args(hint) or (hint,))]
    for argument, kind in kinds:
        if argument != "return" and kind not in (str, bytes, float, int, bool, Content, ...):  # tuple[X, ...]
            assert issubclass(kind, Value), f"{name}({argument})"
            assert kind.__struct_config__.frozen, f"{name}({argument})"
            assert kind.__module__.startswith("mailserv.mail.")


def test_invariant_8_the_services_of_a_plugin_are_a_few_values() -> None:
    assert set(Services.__struct_fields__) == {
        "name",
        "hostname",
        "now",
        "log",
        "dns",
        "table",
        "submit",
        "monotonic",
        "metrics",
    }


def sources() -> list[tuple[str, ast.Module]]:
    return [
        (str(path.relative_to(PACKAGE)), ast.parse(path.read_text(encoding="utf-8")))
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


def uses(tree: ast.Module) -> set[str]:
    """What a module asks the machine for: time, today's date, chance, names."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = {node.module or ""} if isinstance(node, ast.ImportFrom) else {alias.name for alias in node.names}
            found |= {"names"} & {"names" for module in modules if module.split(".")[0] == "dns"}
            found |= {"time"} & {"time" for module in modules if isinstance(node, ast.ImportFrom) and module == "time"}
        if isinstance(node, ast.Attribute):
            named = ast.unparse(node)
            found |= {"time"} if re.match(r"time\.(time|monotonic|perf_counter|sleep)", named) else set()
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            found |= {"datetime.now"} if called in {"datetime.now", "datetime.datetime.now"} else set()
            found |= {"random"} if re.match(r"(random|secrets|uuid)\.|os\.urandom", called) else set()
            found |= {"names"} if re.search(r"getaddrinfo|gethostby|getfqdn", called) else set()
    return found


@pytest.mark.parametrize("what", RESPONSIBLE)
def test_invariant_9_time_names_and_chance_are_read_in_few_places(what: str) -> None:
    assert {name for name, tree in sources() if what in uses(tree)} == RESPONSIBLE[what]


def test_invariant_11_sockets_are_read_and_written_by_two_classes_only() -> None:
    owners = {
        name
        for name, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in {"recv", "recv_into", "sendall"}
    }
    assert {name for name in owners if not name.startswith("testing/")} == {
        "net/connection.py",
        "deliver/connections.py",
    }


def test_invariant_11_another_thread_may_only_interrupt_or_abort_a_connection() -> None:
    tree = ast.parse((PACKAGE / "net" / "gate.py").read_text(encoding="utf-8"))
    called = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith(".connection")
    }
    assert called == {"interrupt", "abort"}
