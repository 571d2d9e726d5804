"""Invariant 9 in the plugins' sources: who asks the system for time, names or chance is named here, with the reason."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
ASKING = {
    "time": {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
    "random": {"random", "randint", "randrange", "choice", "choices", "shuffle", "sample", "uniform", "Random", "SystemRandom"},
    "secrets": {"token_bytes", "token_hex", "token_urlsafe", "choice", "randbelow"},
    "os": {"urandom", "getrandom"},
    "uuid": {"uuid1", "uuid4"},
    "socket": {"getaddrinfo", "gethostbyname", "gethostbyaddr", "getnameinfo", "getfqdn"},
}  # fmt: skip
MAY = {
    "plugins/mailserv_lmtp/session.py": "the absolute deadline of a socket, which the kernel keeps",
    "plugins/mailserv_scram/__init__.py": "a secret that nobody may foresee",
    "plugins/mailserv_pipe/running.py": "the absolute deadline of a process, which the kernel keeps",
}


def asks(text: str) -> list[str]:
    """Every call of a function of `ASKING`."""
    return [
        f"{node.func.value.id}.{node.func.attr}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.attr in ASKING.get(node.func.value.id, ())
    ]


def imports_a_function(text: str) -> list[str]:
    """`from time import sleep` would go unseen by `asks`."""
    return [
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name in ASKING.get(node.module or "", ())
    ]


def test_invariant_9_a_plugin_asks_its_services_for_time_names_and_chance() -> None:
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in (ROOT / "plugins").rglob("*.py")}
    assert {name for name, text in texts.items() if asks(text) or imports_a_function(text)} == set(MAY)


def test_invariant_9_the_test_sees_what_it_looks_for() -> None:
    text = "import time\nfrom random import choice\ntime.sleep(1)\nsocket.getaddrinfo(h, 1)\nclock.now()\ndatetime.now(UTC)\n"
    assert asks(text) == ["time.sleep", "socket.getaddrinfo", "datetime.now"]
    assert imports_a_function(text) == ["random.choice"]
