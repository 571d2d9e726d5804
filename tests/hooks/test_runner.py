"""A plugin that raises or lies costs one command; the strictest verdict wins."""

from __future__ import annotations

from typing import Any

import pluggy
import pytest

from mailserv import hookimpl
from mailserv.hooks import specs
from mailserv.hooks.runner import Runner
from mailserv.hooks.specs import KINDS, Kind
from mailserv.mail.address import parse_mailbox
from mailserv.mail.envelope import Envelope
from mailserv.mail.message import BytesContent
from mailserv.mail.peer import Peer
from mailserv.mail.reply import LOCAL_ERROR
from mailserv.mail.verdict import Action, Verdict, disconnect, reject, tempfail

PEER = Peer("192.0.2.1", 4321, "smtp", "0123")
ENVELOPE = Envelope(parse_mailbox("a@example.net"))
ARGUMENTS: dict[str, dict[str, Any]] = {
    "smtp_connect": {"peer": PEER},
    "smtp_helo": {"peer": PEER},
    "smtp_mail": {"peer": PEER, "envelope": ENVELOPE},
    "smtp_rcpt": {"peer": PEER, "envelope": ENVELOPE, "forward_path": parse_mailbox("b@example.org")},
    "smtp_data": {"peer": PEER, "envelope": ENVELOPE},
    "message_check": {"peer": PEER, "envelope": ENVELOPE, "content": BytesContent(b"\r\n")},
    "message_accepted": {"queue_id": "Q", "peer": PEER, "envelope": ENVELOPE},
}
DECIDING = [name for name, kind in KINDS.items() if kind is Kind.DECIDE]
NOTIFYING = [name for name, kind in KINDS.items() if kind is Kind.NOTIFY]


def runner(*answers: Any, hook: str = "smtp_connect") -> Runner:
    """One plugin for each answer; an exception is raised, anything else returned."""
    manager = pluggy.PluginManager("mailserv")
    manager.add_hookspecs(specs)
    for number, answer in reversed(list(enumerate(answers))):

        def implementation(answer: Any = answer) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        plugin = type("Plugin", (), {hook: staticmethod(hookimpl(implementation))})
        manager.register(plugin(), f"plugin{number}")
    return Runner(manager)


def test_nobody_there_means_no_verdict() -> None:
    assert not runner().has("smtp_connect")
    assert runner().decide("smtp_connect", peer=PEER) is None


def test_the_strictest_verdict_wins_and_the_first_of_equals_is_kept() -> None:
    answers = (tempfail("later"), None, reject("first"), reject("second"), tempfail("later still"))
    assert runner(*answers).decide("smtp_connect", peer=PEER) == reject("first")
    assert runner(*answers, disconnect("go")).decide("smtp_connect", peer=PEER) == disconnect("go")


@pytest.mark.parametrize("hook", DECIDING)
@pytest.mark.parametrize("answer", [RuntimeError("boom"), True, "yes", 250, object()])
def test_a_plugin_that_raises_or_lies_answers_451(hook: str, answer: Any) -> None:
    verdict = runner(answer, hook=hook).decide(hook, **ARGUMENTS[hook])
    assert verdict is not None
    assert verdict.action is Action.TEMPFAIL
    assert verdict.reply == LOCAL_ERROR


def test_a_failing_plugin_does_not_soften_another_ones_verdict() -> None:
    assert runner(RuntimeError("boom"), reject("no")).decide("smtp_connect", peer=PEER) == reject("no")


@pytest.mark.parametrize("hook", NOTIFYING)
@pytest.mark.parametrize("answer", [None, RuntimeError("boom"), Verdict(Action.REJECT, LOCAL_ERROR)])
def test_nothing_that_a_notified_plugin_does_matters(hook: str, answer: Any) -> None:
    runner(answer, hook=hook).notify(hook, **ARGUMENTS[hook])


def test_a_plugin_names_only_the_arguments_it_wants() -> None:
    manager = pluggy.PluginManager("mailserv")
    manager.add_hookspecs(specs)
    seen: list[Any] = []

    class Plugin:
        @hookimpl
        def smtp_rcpt(self, forward_path: Any) -> None:
            seen.append(forward_path)

    manager.register(Plugin(), "narrow")
    Runner(manager).decide("smtp_rcpt", **ARGUMENTS["smtp_rcpt"])
    assert seen == [ARGUMENTS["smtp_rcpt"]["forward_path"]]
