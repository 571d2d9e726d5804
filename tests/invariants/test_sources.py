"""Invariant 9 in the sources: who asks the system for the time, for names or for chance is named here, with the reason."""

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
    "mailserv/clock.py": "the clock itself",
    "mailserv/server.py": "makes the source of chance that everybody is given",
    "mailserv/logging/__init__.py": "a line of the log tells the machine's time, whatever a test's clock says",
    "mailserv/logging/writer.py": "the same",
    "mailserv/config/certificates.py": "is a certificate valid today? Before there is a server; a test passes its own",
    "mailserv/cli/queue.py": "`queue simulate` answers the same each time: a seed, no chance",
    "mailserv/cli/serve.py": "systemd wants the machine's monotonic time",
    "mailserv/cli/try_it.py": "makes a certificate that is valid from today",
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


def test_invariant_9_time_names_and_chance_are_asked_for_in_few_places() -> None:
    found = set()
    for path in [*(ROOT / "mailserv").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
        name = str(path.relative_to(ROOT))
        text = path.read_text(encoding="utf-8")
        if not name.startswith("mailserv/testing/") and (asks(text) or imports_a_function(text)):
            found.add(name)
    assert found <= set(MAY)
    assert {"mailserv/clock.py", "mailserv/server.py"} <= found


def test_invariant_9_the_test_sees_what_it_looks_for() -> None:
    text = "import time\nfrom random import choice\ntime.sleep(1)\nsocket.getaddrinfo(h, 1)\nclock.now()\ndatetime.now(UTC)\n"
    assert asks(text) == ["time.sleep", "socket.getaddrinfo", "datetime.now"]
    assert imports_a_function(text) == ["random.choice"]
