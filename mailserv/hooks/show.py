"""docs/hooks.md, printed from the specifications, so that page and code cannot part."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

from mailserv import mail
from mailserv.config.units import show_duration
from mailserv.hooks import specs
from mailserv.hooks.specs import KINDS, SPECS, Kind

MARKS = ("Called", "Thread", "Answer", "Raises")  # what every specification says after its own words

_INTRODUCTION = """\
# Hooks

Printed from `mailserv/hooks/specs.py` by `.venv/bin/python -m mailserv.cli.docs docs`.

A plugin is a class named `Plugin` whose methods with `@hookimpl` are hooks. It is found by an entry point in the group
`mailserv.plugins`, or as a single file in the folder `[plugins] path`; it runs when `[plugins] enabled` names it, and
plugins are called in the order of that list. This file, `/etc/mailserv/plugins/nightwatch.py`, is a whole plugin:

```python
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.verdict import tempfail


class NightwatchSettings(msgspec.Struct, forbid_unknown_fields=True):
    networks: Annotated[list[str], msgspec.Meta(description="beginnings of addresses that have to wait")] = []


class Plugin:
    Settings = NightwatchSettings

    def __init__(self, settings, services):
        self.networks = tuple(settings.networks)
        self.log = services.log

    @hookimpl
    def smtp_rcpt(self, peer, envelope, forward_path):
        if not peer.login and self.networks and peer.ip.startswith(self.networks):
            return tempfail("Please come again later", reason=f"{peer.ip} is on the list")
```

```toml
[plugins]
path = "/etc/mailserv/plugins"
enabled = ["nightwatch"]

[plugin.nightwatch]
networks = ["192.0.2."]
```

- An implementation names only the arguments that it wants; [the table at the end](#values) says where their types are. A
  hook that is misspelt, or has no `@hookimpl`, stops the start.
- `settings` is the plugin's own struct, read from `[plugin.NAME]` and checked like our own settings; `None` for a plugin
  without one. `services` is a `mailserv.mail.plugin.Services`: name, hostname, the clock, a logger, DNS, a small table of
  the plugin's own, and `submit` for a message that it makes. Never the server.
- A plugin imports `mailserv`, `mailserv.mail` and `mailserv.testing`, and nothing else of ours: the rest may change.
- No hook runs inside a database transaction, and none for each line or block of content.
- One plugin's hooks are called from many threads at once. "The session's" thread is the one that serves the client; after a
  call that hung the session has another one, so nothing may be kept by thread. For a thread that cannot be replaced (POP3,
  AUTH, a queue worker's) a helper's makes the calls while it waits.
- Plugins run in the server's process: they are trusted code. What one may cost is bounded. If it raises, or answers with
  something that is no answer, this command gets a 451, or what its hook says below; the log says `plugin_failed` or
  `plugin_lied`, once for a row of failures. If it takes longer than its budget, the same, and it is waited for no
  longer: `plugin_overran`. Nothing can end a Python thread, so a call that hangs is counted until it ends by itself.
  If one hook fails five times in a row it is not called for 30 s, and its failure's answer is given at once:
  `plugin_paused`. Then one call tries; a good one ends the pause: `plugin_resumed`.
- The operator decides what a failure means, how long a call may take, and whether a plugin is on trial:

```text
[plugins.policy.nightwatch]
on_error = "skip"      # go on without it; "tempfail": 451. Without a word, what its hooks say below
budget = "5s"
mode = "observe"       # its verdicts go to trace, log and metrics, its changes to the log; neither is applied
```

- `MAILSERV_TRACE_PLUGINS=smtp_rcpt,message_check` (or `all`) in the server's environment logs each call of these hooks with
  its answer and its time (`plugin_call`).
- `/metrics` has `mailserv_plugin_calls`, `…_seconds`, `…_failures`, `…_refusals`, `…_paused` and `…_abandoned`, by plugin
  and hook.
- The pytest fixture `mail_server(plugins=…)` starts the real server around a plugin under test. [tutorial.md](tutorial.md)
  makes a plugin in ten minutes, [plugins-rules.md](plugins-rules.md) says what one may do, `mailserv plugin check` tries it.

## Kinds
"""

_KINDS = {
    Kind.COLLECT: "asked once at the start; all answers count, and two that contradict each other stop it",
    Kind.DECIDE: "`None`, or a `Verdict`; the strictest of all wins, the first of equals. It can refuse, never permit",
    Kind.PROVIDE: "the first answer that is not `None` wins, and whoever is behind it in `[plugins] enabled` is not asked: two "
    "plugins that know one address do not share it",
    Kind.TRANSFORM: "each gets the last one's output; `None` leaves it as it is",
    Kind.GATHER: "asked while mail flows; all answers are kept, each under its plugin's name",
    Kind.NOTIFY: "the answer is ignored, and what goes wrong is logged",
}

_ON_ERROR = {  # what the default of `on_error` is, where there is a choice
    **{(kind, "tempfail"): " `on_error`: tempfail." for kind in Kind},
    **{(kind, "skip"): " `on_error`: skip." for kind in Kind},
    (Kind.NOTIFY, "tempfail"): "",
    (Kind.NOTIFY, "skip"): "",
}


def page() -> str:
    """The whole page."""
    lines = [_INTRODUCTION]
    used = [kind for kind in Kind if kind in KINDS.values()]
    lines += [f"- **{kind.value}**: {_KINDS[kind]}." for kind in used]
    for kind in used:
        lines += ["", f"## Hooks that {kind.value}"]
        for name in (name for name, its in KINDS.items() if its is kind):
            lines += ["", *_section(name)]
    lines += ["", *_values()]
    return "\n".join(lines) + "\n"


def _section(name: str) -> Iterator[str]:
    function: FunctionType = getattr(specs, name)
    words, marks = read(function)
    yield f"### `{name}`"
    yield ""
    yield f"`{_signature(function)}`"
    yield ""
    yield words
    yield ""
    yield from (f"- {mark}: {text}" for mark, text in marks.items())
    spec = SPECS[name]
    if spec.kind is not Kind.COLLECT:
        yield f"- Budget: {show_duration(spec.budget)}.{_ON_ERROR[spec.kind, spec.on_error]}"


def _values() -> Iterator[str]:
    """Every module that a plugin may import from, so that nobody searches for a type that a hook names."""
    yield "## Values"
    yield ""
    yield "What is named above and what helps with it, below `mailserv.mail`. The files are short; their docstrings say what"
    yield "each field means."
    yield ""
    yield "| module | names | |"
    yield "|---|---|---|"
    for file in sorted(Path(mail.__file__).parent.glob("[a-z]*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = " ".join(f"`{name}`" for name in _public(tree.body))
        about = (ast.get_docstring(tree) or "").splitlines()[0]
        yield f"| [{file.stem}](../mailserv/mail/{file.name}) | {names} | {about} |"


def _public(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Classes, functions, and names for types."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name
        elif isinstance(node, ast.Assign):
            names = (target.id for target in node.targets if isinstance(target, ast.Name))
            yield from (name for name in names if re.match("[A-Z]+[a-z]", name))


def read(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """A specification's docstring: its own words, and what follows each of MARKS."""
    text = " ".join(inspect.cleandoc(function.__doc__ or "").split())
    words, *rest = re.split(rf"\b({'|'.join(MARKS)}): ", text)
    return words.strip(), {mark: what.strip() for mark, what in zip(rest[::2], rest[1::2], strict=True)}


def _signature(function: FunctionType) -> str:
    """Annotations are text in specs.py (`from __future__ import annotations`), so they stand as they are written."""
    notes = function.__annotations__
    arguments = ", ".join(f"{name}: {note}" for name, note in notes.items() if name != "return")
    return f"{function.__name__}({arguments}) -> {notes['return']}"
