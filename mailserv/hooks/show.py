"""docs/hooks.md, printed from the specifications, so that page and code cannot part."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from mailserv.hooks import specs
from mailserv.hooks.specs import KINDS, Kind

MARKS = ("Called", "Thread", "Answer", "Raises")  # what every specification says after its own words

_INTRODUCTION = """\
# Hooks

Printed from `mailserv/hooks/specs.py` by `python -m mailserv.cli.docs docs`.

A plugin is a class named `Plugin` whose methods with `@hookimpl` are hooks. It is found by an entry point in the group
`mailserv.plugins`, or as a single file in the folder `[plugins] path`; it runs when `[plugins] enabled` names it, and
plugins are called in the order of that list. This file, `/etc/mailserv/plugins/nightwatch.py`, is a whole plugin:

```python
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.verdict import tempfail


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    networks: Annotated[list[str], msgspec.Meta(description="beginnings of addresses that have to wait")] = []


class Plugin:
    Settings = Settings

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

- An implementation names only the arguments that it wants. A hook's name that is misspelt stops the start.
- `settings` is the plugin's own struct, read from `[plugin.NAME]` and checked like our own settings; `None` for a plugin
  without one. `services` is a `mailserv.mail.plugin.Services`: name, hostname, the clock, a logger. Never the server.
- A plugin imports `mailserv`, `mailserv.mail` and `mailserv.testing`, and nothing else of ours: the rest may change.
- No hook runs inside a database transaction, and none for each line or block of content.
- Plugins run in the server's process: they are trusted code. One that raises costs one command a 451, and is named
  in the log (`plugin_failed`, `plugin_lied`). One that hangs holds its session's thread; nothing can kill a Python thread.
- `mailserv.testing.server.mail_server(plugins=…)` starts the real server around a plugin under test.

## Kinds
"""

_KINDS = {
    Kind.COLLECT: "asked once at the start; all answers count, and two that contradict each other stop it",
    Kind.DECIDE: "`None`, or a `Verdict`; the strictest of all wins, the first of equals. It can refuse, never permit",
    Kind.PROVIDE: "the first answer that is not `None` wins",
    Kind.NOTIFY: "the answer is ignored, and what goes wrong is logged",
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
