"""A plugin that raises, hangs or lies costs one command; the strictest verdict wins; a breaker opens and recovers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hook_kit import PEER, arguments, plugin, run_plugins, run_to, say
from prometheus_client import REGISTRY

from mailserv import hookimpl, logging
from mailserv.errors import PluginError
from mailserv.hooks.breaker import FAILURES, REST
from mailserv.hooks.implementation import MOST_ABANDONED
from mailserv.hooks.runner import Runner
from mailserv.hooks.specs import KINDS, SPECS, Kind
from mailserv.mail.reply import LOCAL_ERROR, OK, Reply
from mailserv.mail.verdict import Action, Observed, Verdict, disconnect, reject, tempfail
from mailserv.settings import Duration, PluginPolicy
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import LogLines

DECIDING = [name for name, spec in SPECS.items() if spec.kind is Kind.DECIDE and spec.on_error == "tempfail"]
NOTIFYING = [name for name, kind in KINDS.items() if kind is Kind.NOTIFY]
SOON = PluginPolicy(budget=Duration(0.05))


def runner(*answers: Any, hook: str = "smtp_connect", **more: Any) -> Runner:
    """One plugin for each answer; an exception is raised, anything else returned."""
    plugins = {f"plugin{number}": plugin(hook, say(each)) for number, each in enumerate(answers)}
    return run_plugins(plugins, **more)


@contextmanager
def captured_log() -> Iterator[LogLines]:
    lines = LogLines()
    logging.configure("json", "debug", lines)
    try:
        yield lines
    finally:
        logging.close()


def test_nobody_there_means_no_verdict() -> None:
    assert not runner().has("smtp_connect")
    assert runner().decide("smtp_connect", peer=PEER) is None


def test_the_strictest_verdict_wins_and_the_first_of_equals_is_kept() -> None:
    answers = (tempfail("later"), None, reject("first", reason="why"), reject("second"), tempfail("later still"))
    verdict = runner(*answers).decide("smtp_connect", peer=PEER)
    assert verdict == reject("first", reason="plugin2: why")
    verdict = runner(*answers, disconnect("go")).decide("smtp_connect", peer=PEER)
    assert verdict == disconnect("go", reason="plugin5: go")


def test_plugins_are_called_in_the_operators_order() -> None:
    seen: list[int] = []

    def note(number: int) -> Callable[[], None]:
        return lambda: seen.append(number)

    run_plugins({str(n): plugin("smtp_connect", note(n)) for n in range(5)}).decide("smtp_connect", peer=PEER)
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("hook", DECIDING)
@pytest.mark.parametrize(
    "answer",
    [
        RuntimeError("boom"),
        SystemExit(1),
        True,
        "yes",
        250,
        object(),
        Verdict(Action.REJECT, OK),
        Verdict(Action.REJECT, Reply(550, "5.7.1", "no\r\n250 yes")),
    ],
)
def test_a_plugin_that_raises_or_lies_answers_451(hook: str, answer: Any) -> None:
    verdict = runner(answer, hook=hook).decide(hook, **arguments(hook))
    assert verdict is not None
    assert verdict.action is Action.TEMPFAIL
    assert verdict.reply == LOCAL_ERROR


def test_a_failing_plugin_does_not_soften_another_ones_verdict() -> None:
    verdict = runner(RuntimeError("boom"), reject("no")).decide("smtp_connect", peer=PEER)
    assert verdict is not None
    assert verdict.action is Action.REJECT


def test_a_plugin_that_may_be_skipped_is_skipped_when_it_fails() -> None:
    policies = {"plugin0": PluginPolicy(on_error="skip")}
    assert runner(RuntimeError("boom"), policies=policies).decide("smtp_connect", peer=PEER) is None


@pytest.mark.parametrize("hook", NOTIFYING)
@pytest.mark.parametrize("answer", [None, RuntimeError("boom"), Verdict(Action.REJECT, LOCAL_ERROR)])
def test_nothing_that_a_notified_plugin_does_matters(hook: str, answer: Any) -> None:
    runner(answer, hook=hook).notify(hook, **arguments(hook))


def test_a_plugin_names_only_the_arguments_it_wants() -> None:
    seen: list[Any] = []

    class Plugin:
        @hookimpl
        def smtp_rcpt(self, forward_path: Any) -> None:
            seen.append(forward_path)

    run_plugins({"narrow": Plugin()}).decide("smtp_rcpt", **arguments("smtp_rcpt"))
    assert seen == [arguments("smtp_rcpt")["forward_path"]]


class Hostile:
    """Whatever is asked of it raises."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")

    def __repr__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("hook", [hook for hook, spec in SPECS.items() if spec.kind is not Kind.COLLECT])
def test_an_answer_that_raises_when_it_is_looked_at_is_none(hook: str) -> None:
    with captured_log() as log:
        made = run_plugins({"hostile": plugin(hook, Hostile)}, traced=frozenset({"all"}))
        with suppress(PluginError):
            if KINDS[hook] is Kind.NOTIFY:
                made.notify(hook, **arguments(hook))
            elif KINDS[hook] is Kind.TRANSFORM:
                made.transform(hook, **arguments(hook))
            else:
                made.provide(hook, **arguments(hook))
    assert len(log.matching("plugin_call", plugin="hostile", hook=hook)) == 1
    assert len(log.matching("plugin_lied", plugin="hostile", hook=hook)) == (KINDS[hook] is not Kind.NOTIFY)


# ---------------------------------------------------------------- time


def test_one_that_hangs_is_waited_for_no_longer_than_its_budget_and_the_others_are_heard() -> None:
    freed = threading.Event()
    plugins = {
        "before": plugin("smtp_connect", say(tempfail("before"))),
        "hangs": plugin("smtp_connect", freed.wait),
        "behind": plugin("smtp_connect", say(reject("behind"))),
    }
    made = run_plugins(plugins, policies={"hangs": SOON})
    try:
        verdict = made.decide("smtp_connect", peer=PEER)
        assert verdict is not None
        assert verdict.reply.text == "behind"
        assert [each.abandoned for each in made.implementations] == [0, 1, 0]
    finally:
        freed.set()


def test_what_an_abandoned_call_says_later_counts_for_nothing_but_its_thread_is_free_again() -> None:
    freed, ended = threading.Event(), threading.Event()

    def hang() -> Verdict:
        freed.wait()
        ended.set()
        return reject("too late")

    made = run_plugins({"hangs": plugin("smtp_connect", hang)}, policies={"hangs": SOON})
    verdict = made.decide("smtp_connect", peer=PEER)
    assert verdict is not None
    assert verdict.reply == LOCAL_ERROR
    freed.set()
    assert ended.wait(5)
    assert run_to(lambda: made.implementations[0].abandoned == 0)
    assert made.implementations[0].breaker.failures == 1


def test_each_call_is_counted_whether_it_was_silent_or_not() -> None:
    freed = threading.Event()
    turns = iter([None, tempfail("later"), RuntimeError("no"), None])

    def middle() -> Verdict | None:
        said = next(turns, None)
        if isinstance(said, Exception):
            raise said
        return said

    plugins = {
        "a": plugin("smtp_connect", say(None)),
        "b": plugin("smtp_connect", middle),
        "c": plugin("smtp_connect", say(None)),
    }
    made = run_plugins(plugins)
    for number in range(1, 5):
        made.decide("smtp_connect", peer=PEER)
        assert [each.calls for each in made.implementations] == [number] * 3
    assert all(each.seconds > 0 for each in made.implementations)
    answered = {
        "a": plugin("retry_delay", say(None)),
        "b": plugin("retry_delay", say(5.0)),
        "c": plugin("retry_delay", say(6.0)),
    }
    made = run_plugins(answered)
    made.provide("retry_delay", **arguments("retry_delay"))
    assert [each.calls for each in made.implementations] == [1, 1, 0]
    plugins["b"] = plugin("smtp_connect", freed.wait)
    made = run_plugins(plugins, policies={"b": SOON})
    try:
        made.decide("smtp_connect", peer=PEER)
        assert [each.calls for each in made.implementations] == [1, 1, 1]
    finally:
        freed.set()
    assert run_to(lambda: made.implementations[1].abandoned == 0)
    assert [each.calls for each in made.implementations] == [1, 1, 1]


def test_a_slow_one_within_its_budget_is_no_failure_even_behind_others() -> None:
    pause = threading.Event()
    slow = {str(n): plugin("smtp_connect", lambda: pause.wait(0.06) or None) for n in range(4)}
    soon = PluginPolicy(budget=Duration(0.1))
    made = run_plugins(slow, policies=dict.fromkeys(slow, soon))
    assert made.decide("smtp_connect", peer=PEER) is None
    assert [each.failures for each in made.implementations] == [0, 0, 0, 0]


def test_calls_that_hang_are_bounded() -> None:
    freed = threading.Event()
    clock = FakeClock()
    made = run_plugins(
        {"hangs": plugin("smtp_connect", freed.wait)},
        clock=clock,
        policies={"hangs": PluginPolicy(budget=Duration(0.001))},
    )
    try:
        for _ in range(3 * MOST_ABANDONED):
            made.decide("smtp_connect", peer=PEER)
            clock.advance(REST)
        assert made.implementations[0].abandoned == MOST_ABANDONED
    finally:
        freed.set()
    assert run_to(lambda: made.implementations[0].abandoned == 0)


# ---------------------------------------------------------------- the breaker


class Moody:
    """Fails until it is well."""

    def __init__(self) -> None:
        self.calls = 0
        self.is_well = False

    def __call__(self) -> None:
        self.calls += 1
        if not self.is_well:
            raise RuntimeError("boom")


def test_a_breaker_opens_after_failures_in_a_row_and_recovers() -> None:
    moody, clock = Moody(), FakeClock()
    with captured_log() as log:
        made = run_plugins({"moody": plugin("smtp_connect", moody)}, clock=clock)

        def verdict() -> Verdict | None:
            return made.decide("smtp_connect", peer=PEER)

        for _ in range(FAILURES + 3):
            assert (answer := verdict())
            assert answer.reply == LOCAL_ERROR
        assert moody.calls == FAILURES
        clock.advance(REST)
        assert verdict()
        assert verdict()
        assert moody.calls == FAILURES + 1
        moody.is_well = True
        assert verdict()
        clock.advance(REST)
        assert verdict() is None
        assert verdict() is None
        assert moody.calls == FAILURES + 3
    assert len(log.matching("plugin_failed", plugin="moody", hook="smtp_connect")) == 1
    assert len(log.matching("plugin_paused", plugin="moody", hook="smtp_connect")) == 2
    assert len(log.matching("plugin_resumed", plugin="moody", hook="smtp_connect")) == 1


def test_a_breaker_is_one_hooks_own_and_needs_failures_in_a_row() -> None:
    moody = Moody()

    class Plugin:
        @hookimpl
        def smtp_connect(self) -> None:
            moody()

        @hookimpl
        def smtp_helo(self) -> None:
            """It has no opinion."""

    made = run_plugins({"half": Plugin()})
    for _ in range(FAILURES - 1):
        made.decide("smtp_connect", peer=PEER)
    moody.is_well = True
    made.decide("smtp_connect", peer=PEER)
    moody.is_well = False
    for _ in range(FAILURES - 1):
        made.decide("smtp_connect", peer=PEER)
    assert moody.calls == 2 * FAILURES - 1
    made.decide("smtp_connect", peer=PEER)
    made.decide("smtp_connect", peer=PEER)
    assert moody.calls == 2 * FAILURES
    assert made.decide("smtp_helo", peer=PEER) is None


# ---------------------------------------------------------------- observe, trace, metrics


def test_a_plugin_on_trial_is_heard_and_not_obeyed() -> None:
    policies = {"plugin0": PluginPolicy(mode="observe"), "plugin1": PluginPolicy(mode="observe")}
    made = runner(reject("no"), RuntimeError("boom"), tempfail("later"), policies=policies)
    observed: list[Observed] = []
    assert made.decide("smtp_connect", observed, peer=PEER) == tempfail("later", reason="plugin2: later")
    assert observed == [Observed("plugin0", "smtp_connect", reject("no", reason="plugin0: no"))]


def test_calls_of_a_traced_hook_are_logged_with_answer_and_time() -> None:
    with captured_log() as log:
        made = runner(reject("no"), traced=frozenset({"smtp_connect"}))
        made.decide("smtp_connect", peer=PEER)
        runner(reject("no"), hook="smtp_helo", traced=frozenset({"smtp_connect"})).decide("smtp_helo", peer=PEER)
    (line,) = log.matching("plugin_call")
    assert (line["plugin"], line["hook"]) == ("plugin0", "smtp_connect")
    assert "REJECT" in line["answer"]
    assert line["seconds"] >= 0


def test_prometheus_is_told_of_calls_failures_and_verdicts() -> None:
    answers = {"refuses": reject("no"), "fails": RuntimeError("boom"), "silent": None}
    plugins = {f"counted-{name}": plugin("smtp_connect", say(each)) for name, each in answers.items()}
    made = run_plugins(plugins, policies=dict.fromkeys(plugins, PluginPolicy(on_error="skip")))
    for _ in range(FAILURES):
        made.decide("smtp_connect", peer=PEER)

    def value(metric: str, name: str) -> float | None:
        labels = {"plugin": f"counted-{name}", "hook": "smtp_connect"}
        return REGISTRY.get_sample_value(f"mailserv_plugin_{metric}", labels)

    assert value("calls_total", "silent") == FAILURES
    assert value("refusals_total", "refuses") == FAILURES
    assert value("failures_total", "fails") == FAILURES
    assert value("paused", "fails") == 1
    made.close()
    assert value("calls_total", "silent") is None


# ---------------------------------------------------------------- answers of other kinds


def test_the_first_answer_is_the_one_provided() -> None:
    made = runner(None, "first", "second", hook="smtp_helo")
    with pytest.raises(PluginError, match="plugin1: smtp_helo: it answered with a str"):
        made.provide("smtp_helo", peer=PEER)
    assert runner(None, hook="smtp_helo").provide("smtp_helo", peer=PEER) is None
    assert runner(None, reject("a"), reject("b"), hook="smtp_helo").provide("smtp_helo", peer=PEER) == reject("a")


def test_a_provider_that_fails_is_passed_over_when_the_operator_says_so() -> None:
    policies = {"plugin0": PluginPolicy(on_error="skip")}
    made = runner(RuntimeError("boom"), reject("a"), policies=policies)
    assert made.provide("smtp_connect", peer=PEER) == reject("a")


def test_what_is_gathered_comes_with_its_plugins_name() -> None:
    assert runner(None, reject("a"), reject("b")).gather("smtp_connect", peer=PEER) == [
        ("plugin1", reject("a")),
        ("plugin2", reject("b")),
    ]
    with pytest.raises(PluginError, match="plugin0"):
        runner(RuntimeError("boom"), reject("a")).gather("smtp_connect", peer=PEER)
