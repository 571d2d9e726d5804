"""Whatever a shipped plugin does in a hook: the peer gets the right reply, no mail is lost, no relay opens (invariant 8).

The walk is over the shipped plugins and `specs.KINDS`: a new plugin and a new hook are in it, and fail until some part of
the exchange calls them. One server serves all cases of a plugin.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from faulty import ONCE, SHIPPED, Fault, Switch, faulty, hooks_of, plugin_class, settings_of
from faulty_world import ALICE, STRANGER, TEXT, World, world

from mailserv.errors import ConfigError
from mailserv.hooks.breaker import FAILURES, REST
from mailserv.hooks.host import load_plugins
from mailserv.hooks.specs import KINDS, SPECS, Kind
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import mail_server

ON_WORKERS = {  # no reply depends on them
    "retry_delay",
    "delivery_finished",
    "rewrite_sender",
    "delivery_rewrite",
    "tls_policy",
    "dsn_policy",
    "dsn_compose",
}
SAID = {"raise": "plugin_failed", "lie": "plugin_lied", "hang": "plugin_overran"}
TINY = "0.05s"  # a budget that a hang uses up
LATER = {421, 451, 454}
REPEATED = [name for name in SHIPPED if any(hook not in ONCE for hook in hooks_of(name))]


def cases() -> Iterator[tuple[str, str, str]]:
    """Plugin, kind and hook, in an order in which a server lasts long."""
    for name in REPEATED:
        for kind in SAID:
            yield from ((name, kind, hook) for hook in hooks_of(name) if hook not in ONCE)


class Worlds:
    """The server of the last case, for the next one if it is about the same plugin and budget."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._key = ("", "")
        self._stack = ExitStack()

    def get(self, name: str, budget: str) -> World:
        if self._key != (name, budget):
            self.close()
            made = world(self._factory.mktemp(name), name, {"budget": budget}, runs_own_code=budget != TINY)
            self._world = self._stack.enter_context(made)
            self._key = (name, budget)
        return self._world

    def close(self) -> None:
        self._key = ("", "")
        self._stack.close()


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    made = Worlds(tmp_path_factory)
    yield made
    made.close()


def boom() -> None:
    raise RuntimeError("boom")


def fault(kind: str, freed: threading.Event) -> Fault:
    return {"raise": boom, "hang": freed.wait, "lie": object}[kind]


def tempfails(hook: str) -> bool:
    """Whether a reply tells of its failure, when the operator has said nothing."""
    return SPECS[hook].kind is not Kind.NOTIFY and SPECS[hook].on_error == "tempfail" and hook not in ON_WORKERS


@pytest.mark.parametrize(("name", "kind", "hook"), list(cases()))
def test_invariant_8_whatever_a_shipped_plugin_does_costs_one_command_and_heals(
    worlds: Worlds, name: str, kind: str, hook: str
) -> None:
    there = worlds.get(name, TINY if kind == "hang" else "10s")
    part, log = there.part_of[hook], there.server.log
    is_ignored = kind == "lie" and KINDS[hook] is Kind.NOTIFY  # whose answer nobody looks at
    said = len(log.matching(SAID[kind], hook=hook))
    paused, resumed = (len(log.matching(event, hook=hook)) for event in ("plugin_paused", "plugin_resumed"))
    freed = threading.Event()
    there.codes.clear()
    with there.switch.failing(fault(kind, freed), hook):
        for _ in range(FAILURES):
            part()
        refused = [code for code in there.codes if code >= 400]
        assert set(refused) <= LATER
        assert bool(refused) is (tempfails(hook) and not is_ignored)
        if not is_ignored:
            there.server.wait_for_log("plugin_paused", paused + 1, plugin=there.name, hook=hook)
            assert len(log.matching(SAID[kind], plugin=there.name, hook=hook)) == said + 1
        there.check()
        calls = there.switch.calls[hook]
        if not is_ignored:
            part()
            assert there.switch.calls[hook] == calls
        freed.set()
    there.clock.advance(REST)
    there.server.wake_queue()
    there.codes.clear()
    part()
    assert max(there.codes) < 400
    if not is_ignored:
        there.server.wait_for_log("plugin_resumed", resumed + 1, plugin=there.name, hook=hook)
    there.check()


@pytest.mark.parametrize("name", [name for name in REPEATED if any(map(tempfails, hooks_of(name)))])
def test_invariant_8_a_plugin_that_may_be_skipped_costs_nothing(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    hooks = [hook for hook in hooks_of(name) if hook not in ONCE]
    with world(tmp_path_factory.mktemp(name), name, {"on_error": "skip"}) as there:
        before = there.switch.calls.copy()
        with there.switch.failing(boom, *hooks):
            for part in dict.fromkeys(there.part_of.values()):
                part()
            assert max(there.codes) < 400
            there.check()
        assert set(hooks) <= (there.switch.calls - before).keys()


@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize(
    ("name", "hook"), [(name, hook) for name in SHIPPED for hook in hooks_of(name) if hook in ONCE]
)
def test_invariant_8_a_server_starts_and_ends_whatever_a_shipped_plugin_does(
    name: str, hook: str, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    freed, switch = threading.Event(), Switch(runs_own_code=False)
    config = {
        "plugins": {"policy": {name: {"budget": TINY if kind == "hang" else "10s"}}},
        "plugin": {name: settings_of(name, tmp_path_factory.mktemp(name))},
    }
    with (
        switch.failing(fault(kind, freed), hook),
        mail_server(plugins=[faulty(name, switch)], config=config) as server,
    ):
        server.send(STRANGER, [ALICE], TEXT)
        assert len(server.mailbox(ALICE)) == 1
    freed.set()
    assert switch.calls[hook] == 1
    if not (kind == "lie" and KINDS[hook] is Kind.NOTIFY):
        assert len(server.wait_for_log(SAID[kind], plugin=name, hook=hook)) == 1


@pytest.mark.parametrize("kind", ["raise", "lie"])
@pytest.mark.parametrize(("name", "hook"), [(name, hook) for name in SHIPPED for hook in hooks_of(name, Kind.COLLECT)])
def test_invariant_8_a_shipped_plugin_that_fails_at_start_is_refused_by_name(
    name: str, hook: str, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    switch = Switch()
    own = plugin_class(name)
    plugin = type("Plugin", (own,), {hook: switch.at(hook, getattr(own, hook))})
    answer: Fault = boom if kind == "raise" else lambda: [object()]
    with switch.failing(answer, hook), pytest.raises(ConfigError) as raised:
        load_plugins(
            (name,),
            (),
            None,
            {name: settings_of(name, tmp_path_factory.mktemp(name))},
            hostname="mail.example.org",
            clock=FakeClock(),
            classes={name: plugin},
        )
    (problem,) = raised.value.problems
    assert problem.startswith(f"plugin {name}: {hook} {'raised' if kind == 'raise' else 'gave'} ")
