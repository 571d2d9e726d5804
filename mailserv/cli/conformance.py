"""The rules of docs/plugins-rules.md, tried on one plugin without a server. It gets a real table in a temporary store."""

from __future__ import annotations

import ast
import inspect
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from mailserv.cli import conformance_doors
from mailserv.cli.failing import failing_answers
from mailserv.cli.finding import Finding, raised
from mailserv.cli.plugin_found import load_alone
from mailserv.cli.plugin_samples import ORDINARY, STRANGE, Sample
from mailserv.clock import SystemClock
from mailserv.errors import ConfigError
from mailserv.hooks.host import available_plugins
from mailserv.hooks.implementation import Implementation
from mailserv.hooks.kinds import fault
from mailserv.hooks.rooms import Rooms
from mailserv.hooks.specs import KINDS, SPECS, Kind
from mailserv.mail.verdict import Verdict
from mailserv.settings import Settings
from mailserv.store.sqlite import open_store

THREADS = 50
WRONG: tuple[Any, ...] = ([[]], {"": [{}]}, 3.25, "\0", True, -1)  # no setting takes all of these
THREADS_END = 2.0  # seconds that a plugin's own threads have after the end


def check(name: str, settings: Settings) -> list[Finding]:
    """Every rule. Raises ConfigError when the plugin cannot be loaded. Waits for hooks for as long as their budget."""
    before = set(threading.enumerate())
    with _rooms() as rooms:
        findings = [_loads(name, settings, rooms), _imports(name, settings)]
        plugins = load_alone(name, settings, rooms=rooms)
        everything = plugins.runner.implementations
        hooks = [each for each in everything if KINDS[each.hook] is not Kind.COLLECT]
        plugins.runner.notify("startup")
        findings += [_types(name, settings), *_samples(hooks), _at_once(hooks), *_failing(hooks)]
        findings += conformance_doors.check(everything)
        plugins.runner.notify("shutdown")
        plugins.runner.close()
        findings.append(_reload(name, settings, rooms))
    findings.append(_threads(before))
    return findings


@contextmanager
def _rooms() -> Iterator[Rooms]:
    """No DNS: a question says "later", as it does when the network is away."""
    with tempfile.TemporaryDirectory(prefix="mailserv-check-") as folder:
        store = open_store(Path(folder), SystemClock())
        try:
            yield Rooms(table=store.plugin_table)
        finally:
            store.close()


def _loads(name: str, settings: Settings, rooms: Rooms) -> Finding:
    plugins = load_alone(name, settings, rooms=rooms)
    plugins.runner.close()
    hooks = sorted({each.hook for each in plugins.runner.implementations})
    return Finding("it loads and has a hook", bool(hooks), " ".join(hooks) or "none of its methods has @hookimpl")


def _imports(name: str, settings: Settings) -> Finding:
    """What else of ours a plugin takes changes without notice."""
    plugin = available_plugins(settings.plugins.path)[name]()
    file = Path(inspect.getfile(plugin))
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    taken = [f"{found} ({each.name})" for each in files for found in _taken(each) if not _MAY_BE_TAKEN.match(found)]
    return Finding("it imports only what lasts", not taken, ", ".join(taken))


_MAY_BE_TAKEN = re.compile(r"mailserv\.(?:hookimpl|__version__|mail|testing)(?:\.|$)|mailserv$")


def _taken(file: Path) -> Iterator[str]:
    """Every name of ours that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in names if name.partition(".")[0] == "mailserv")


def _reload(name: str, settings: Settings, rooms: Rooms) -> Finding:
    """A restart within one process, as tests do it: what the first one left must not be in the second one's way."""
    try:
        load_alone(name, settings, rooms=rooms).runner.close()
    except ConfigError as error:
        return Finding("it can be loaded again", False, "; ".join(error.problems))
    return Finding("it can be loaded again", True, "")


def _types(name: str, settings: Settings) -> Finding:
    """Each setting refuses at least one of some values of different types, and an unknown setting is refused."""
    struct = getattr(available_plugins(settings.plugins.path)[name](), "Settings", None)
    fields = msgspec.structs.fields(struct) if struct else ()
    sections = {field.name: [{field.name: value} for value in WRONG] for field in fields}
    sections["an unknown setting"] = [{"no such setting": 1}]
    takes_all = [what for what, wrong in sections.items() if not any(_is_refused(name, settings, one) for one in wrong)]
    return Finding(
        "wrong settings are refused", not takes_all, f"accepted: {', '.join(takes_all)}" if takes_all else ""
    )


def _is_refused(name: str, settings: Settings, section: dict[str, Any]) -> bool:
    try:
        load_alone(name, settings, section=dict(settings.plugin.get(name, {})) | section).runner.close()
    except ConfigError:
        return True
    return False


def _samples(hooks: Sequence[Implementation]) -> Iterator[Finding]:
    for sample in (ORDINARY, *STRANGE):
        problems = _problems(hooks, sample)
        yield Finding(f"it answers to {sample.what}", not problems, "; ".join(problems))


def _problems(hooks: Sequence[Implementation], sample: Sample) -> list[str]:
    found = (_problem(each, sample) for each in hooks if each.hook not in ("startup", "shutdown"))
    return list(dict.fromkeys(filter(None, found)))


def _problem(hook: Implementation, sample: Sample) -> str:
    """What is wrong with one call, "" when nothing is."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(hook.attempt(sample.arguments(hook.hook))), daemon=True)
    thread.start()
    thread.join(hook.budget)
    if not answers:
        return f"{hook.hook} took longer than its budget of {hook.budget:g} s"
    answer, error, *_ = answers[0]
    if error is not None:
        return f"{hook.hook} {raised(error)}"
    why = None if answer is None else fault(SPECS[hook.hook].is_answer, answer)
    return "" if why is None else f"{hook.hook} answered with a {type(answer).__name__}{why and f': {why}'}"


def _at_once(hooks: Sequence[Implementation]) -> Finding:
    """Every hook whose answer a session waits for, from many threads that start together."""
    deciding = [each for each in hooks if KINDS[each.hook] in (Kind.DECIDE, Kind.PROVIDE, Kind.GATHER)]
    problems: list[str] = []
    together = threading.Barrier(THREADS)

    def session() -> None:
        together.wait()
        problems.extend(_problems(deciding, ORDINARY))

    threads = [threading.Thread(target=session, daemon=True) for _ in range(THREADS)]
    _run(threads)
    detail = "; ".join(dict.fromkeys(problems)) or ("" if deciding else "it has no hook that a session waits for")
    return Finding(f"{THREADS} threads may call it at once", not problems, detail)


def _run(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _failing(hooks: Sequence[Implementation]) -> Iterator[Finding]:
    """What a client gets when a hook raises or hangs; our side of the contract, with the operator's policy."""
    for hook in dict.fromkeys(each.hook for each in hooks):
        (implementation,) = [each for each in hooks if each.hook == hook]
        for how, answer in failing_answers(implementation, ORDINARY.arguments(hook)).items():
            kept = not isinstance(answer, Verdict) or answer.reply.code == 451
            yield Finding(f"{hook} may {how}", kept, f"the session goes on: {_told(answer)}")


def _told(answer: object) -> str:
    return str(answer.reply) if isinstance(answer, Verdict) else str(answer)


def _threads(before: set[threading.Thread]) -> Finding:
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(THREADS_END)
    names = sorted(thread.name for thread in left if thread.is_alive())
    return Finding("no thread is left", not names, f"still running: {', '.join(names)}" if names else "")
