"""A plugin that hangs on a session's own thread costs one command: the session goes on on another thread (invariants 8, 11)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hook_kit import run_to
from smtp_talk import SmtpTalk
from trusting import Trust

from mailserv import hookimpl
from mailserv.accept.tally import Tally
from mailserv.hooks.breaker import FAILURES
from mailserv.hooks.implementation import MOST_ABANDONED
from mailserv.mail.verdict import disconnect, reject
from mailserv.settings import Limits
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import MailServer, mail_server

ALICE, CAROL = "alice@example.org", "carol@far.example"
SOON = "0.05s"  # a budget that a hang uses up
REPLIES = {  # what a hang costs, by hook: the beginning of the reply to each step of `exchange`, 250 where none is given
    "smtp_helo": {"EHLO": "451 4.3.0"},
    "smtp_mail": {"MAIL": "451 4.3.0"},
    "resolve_recipient": {"RCPT": "451 4.3.0"},
    "expand_recipient": {"RCPT": "451 4.3.0"},
    "smtp_rcpt": {"RCPT": "451 4.3.0"},
    "smtp_data": {"DATA": "451 4.3.0"},
    "message_check": {".": "451 4.3.0"},
    "message_scan": {".": "451 4.3.0"},
    "message_authenticate": {},
    "message_rewrite": {},
    "message_accepted": {},
}
"""Of hooks with `on_error` "tempfail"; the last ones are skipped, or ignored."""


class Hang:
    """What a plugin does in one hook: it hangs in its first calls until it is freed, and notes its threads."""

    def __init__(self, times: int = 1, late: Any = None) -> None:
        """`late`: what a call that hung answers in the end."""
        self.freed = threading.Event()
        self.called: list[threading.Thread] = []
        self._times = times
        self._late = late

    def __call__(self) -> Any:
        self.called.append(threading.current_thread())
        if len(self.called) > self._times:
            return None
        self.freed.wait()
        return self._late


def listens(name: str, **hooks: Any) -> type:
    """A plugin; each hook is a function without arguments, or an answer."""

    def method(answer: Any) -> Any:
        def implementation() -> Any:
            return answer() if callable(answer) else answer

        return staticmethod(hookimpl(implementation))

    class Plugin:
        def __init__(self, settings: None, services: object) -> None:
            """Nothing is kept."""

    return type(name, (Plugin,), {hook: method(answer) for hook, answer in hooks.items()})


@contextmanager
def served(
    *plugins: type, hang: Hang, policy: Mapping[str, str] | None = None, **settings: Any
) -> Iterator[MailServer]:
    """`policy`: of the plugin Hangs, besides its budget."""
    config = {"plugins": {"policy": {"hangs": {"budget": SOON, **(policy or {})}}}}
    with mail_server(plugins=plugins, config=config, **settings) as server:
        try:
            yield server
        finally:
            hang.freed.set()


def talk_to(server: MailServer) -> SmtpTalk:
    talk = SmtpTalk(server.connect())
    assert talk.ask("EHLO client.example.net")[:3] in ("250", "451")
    return talk


def abandoned(server: MailServer) -> int:
    """Calls that hang, and nobody waits for."""
    return sum(each.abandoned for each in server.server._plugins.runner.implementations)


def exchange(talk: SmtpTalk) -> dict[str, str]:
    """What is said to each step of a message that is sent twice over as long as it is refused."""
    replies: dict[str, str] = {}
    for step in ("EHLO client.example.net", f"MAIL FROM:<{CAROL}>", f"RCPT TO:<{ALICE}>", "DATA"):
        word = step.partition(" ")[0]
        replies[word] = talk.ask(step)
        if replies[word][0] not in "23":
            talk.ask(step)
    talk.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
    replies["."] = talk.reply()
    return replies


@pytest.mark.parametrize("hook", REPLIES)
def test_invariant_8_a_hang_on_the_sessions_thread_costs_one_command_and_the_session_goes_on(hook: str) -> None:
    hang = Hang()
    with served(listens("Hangs", **{hook: hang}), hang=hang) as server, SmtpTalk(server.connect()) as talk:
        replies = exchange(talk)
        expected = {"EHLO": "250", "MAIL": "250", "RCPT": "250", "DATA": "354", ".": "250"} | REPLIES[hook]
        assert {step: said[: len(expected[step])] for step, said in replies.items()} == expected
        assert talk.message(CAROL, ALICE).startswith("250")
        assert len(server.mailbox(ALICE)) == 2 - (hook in ("message_check", "message_scan"))
        assert len(server.wait_for_log("plugin_overran", plugin="hangs", hook=hook)) == 1
        assert not server.log.matching("session_failed")
        assert talk.say("QUIT").startswith("221")
        assert talk.is_closed()


@pytest.mark.parametrize("hook", [hook for hook, costs in REPLIES.items() if costs])
def test_invariant_8_a_hang_that_may_be_skipped_costs_nothing(hook: str) -> None:
    hang = Hang()
    plugin = listens("Hangs", **{hook: hang})
    with served(plugin, hang=hang, policy={"on_error": "skip"}) as server, SmtpTalk(server.connect()) as talk:
        assert not [said for said in exchange(talk).values() if said[0] not in "23"]
        assert len(server.mailbox(ALICE)) == 1
        assert talk.say("QUIT").startswith("221")


def test_invariant_8_a_hang_before_the_greeting_is_a_421() -> None:
    hang = Hang()
    with served(listens("Hangs", smtp_connect=hang), hang=hang) as server:
        with SmtpTalk(server.connect()) as talk:
            assert talk.greeting.startswith("421 4.3.0")
            assert talk.is_closed()
        with talk_to(server) as talk:
            assert talk.message(CAROL, ALICE).startswith("250")


def test_a_session_asks_on_its_own_thread_and_keeps_it_while_nobody_hangs() -> None:
    hang = Hang(times=0)
    hooks = ("smtp_connect", *REPLIES)
    with served(listens("Hangs", **dict.fromkeys(hooks, hang)), hang=hang) as server, talk_to(server) as talk:
        assert talk.message(CAROL, ALICE).startswith("250")
        assert len(hang.called) == len(hooks)
        assert len(set(hang.called)) == 1
        assert hang.called[0].name == "session"


@pytest.mark.parametrize(
    ("hook", "line"),
    [
        ("may_send_as", f"MAIL FROM:<{ALICE}>"),
        ("route_delivery", f"RCPT TO:<{CAROL}>"),
        ("resolve_recipient", f"VRFY {ALICE}"),
    ],
)
def test_invariant_8_a_hang_costs_somebody_who_has_logged_in_one_command(hook: str, line: str) -> None:
    hang = Hang()
    with (
        served(listens("Hangs", **{hook: hang}), hang=hang) as server,
        SmtpTalk(server.connect("submission")) as talk,
    ):
        talk.ask("EHLO client.example.net")
        assert talk.log_in(ALICE, "secret").startswith("235")
        if line.startswith("RCPT"):
            assert talk.say(f"MAIL FROM:<{ALICE}>").startswith("250")
        assert talk.say(line).startswith("451 4.3.0")
        assert talk.say(line).startswith("25")
        assert not server.log.matching("session_failed")
        assert [thread.name for thread in hang.called] == ["session"] * len(hang.called)


def test_those_before_and_behind_the_one_that_hangs_are_each_asked_once_and_the_strictest_verdict_counts() -> None:
    hang, before, behind = Hang(), Hang(times=0), Hang(times=0)
    plugins = (
        listens("Before", smtp_rcpt=before),
        listens("Hangs", smtp_rcpt=hang),
        listens("Behind", smtp_rcpt=behind),
        listens("Last", smtp_rcpt=reject("not here")),
    )
    with served(*plugins, hang=hang) as server, talk_to(server) as talk:
        assert talk.say(f"MAIL FROM:<{CAROL}>").startswith("250")
        assert talk.say(f"RCPT TO:<{ALICE}>").startswith("550 5.7.1 not here")
        assert (len(before.called), len(behind.called)) == (1, 1)
        assert before.called != behind.called


def test_a_disconnect_behind_one_that_hangs_ends_the_session() -> None:
    hang = Hang()
    plugins = (listens("Hangs", smtp_mail=hang), listens("Behind", smtp_mail=disconnect("go away")))
    with served(*plugins, hang=hang) as server, talk_to(server) as talk:
        assert talk.say(f"MAIL FROM:<{CAROL}>").endswith("go away")
        assert talk.is_closed()
        server.wait_for_log("session", reason="refused")


def test_invariant_11_a_call_that_returns_late_touches_nothing_and_its_thread_serves_others_again() -> None:
    hang = Hang(late=disconnect("too late"))
    with served(listens("Hangs", smtp_mail=hang), hang=hang) as server:
        threads = server.server._threads
        with talk_to(server) as talk:
            assert talk.say(f"MAIL FROM:<{CAROL}>").startswith("451")
            assert not threads.idle
            assert abandoned(server) == 1
            hang.freed.set()
            assert run_to(lambda: abandoned(server) == 0)
            assert run_to(lambda: threads.idle == 1)
            assert talk.message(CAROL, ALICE).startswith("250")
            assert talk.say("QUIT").startswith("221")
        assert len(server.wait_for_log("session")) == 1
        assert run_to(lambda: threads.idle == 2)
        with talk_to(server) as one, talk_to(server) as other:
            assert one.message(CAROL, ALICE).startswith("250")
            assert other.message(CAROL, ALICE).startswith("250")
        assert hang.called[0] in hang.called[1:]


def test_a_session_under_tls_goes_on_under_it(tmp_path: Path) -> None:
    hang, trust = Hang(), Trust.make(tmp_path)
    with served(listens("Hangs", message_check=hang), hang=hang, tls=trust.tls) as server, talk_to(server) as talk:
        talk.start_tls(trust.context())
        talk.ask("EHLO client.example.net")
        assert talk.message(CAROL, ALICE).startswith("451")
        assert talk.message(CAROL, ALICE).startswith("250")
        assert talk.say("QUIT").startswith("221")
        assert talk.is_closed()


def test_a_client_that_another_one_speaks_for_is_refused_when_a_plugin_hangs_at_its_greeting() -> None:
    hang = Hang()
    calls: list[None] = []

    def second_time() -> Any:
        calls.append(None)
        return hang() if len(calls) == 2 else None

    config = {
        "plugins": {"policy": {"hangs": {"budget": SOON}}},
        "plugin": {"xclient": {"networks": ["127.0.0.0/8"]}},
    }
    plugins = ("xclient", listens("Hangs", smtp_connect=second_time))
    with mail_server(plugins=plugins, config=config) as server, talk_to(server) as talk:
        assert talk.say("XCLIENT ADDR=192.0.2.1").startswith("421 4.3.0")
        assert talk.is_closed()
        hang.freed.set()


def test_a_session_may_lose_its_thread_again_and_again() -> None:
    hang, both = Hang(times=3), Hang()
    plugins = (listens("Hangs", smtp_mail=hang, message_check=hang), listens("Hangs2", smtp_rcpt=both))
    config = {"plugins": {"policy": {"hangs": {"budget": SOON}, "hangs2": {"budget": SOON}}}}
    with mail_server(plugins=plugins, config=config) as server, talk_to(server) as talk:
        try:
            for _ in range(2):
                assert talk.say(f"MAIL FROM:<{CAROL}>").startswith("451")
            assert talk.message(CAROL, ALICE).startswith("451")  # the third time
            assert talk.say(f"MAIL FROM:<{CAROL}>").startswith("250")
            assert talk.say(f"RCPT TO:<{ALICE}>").startswith("451")
            assert talk.say("RSET").startswith("250")
            assert talk.message(CAROL, ALICE).startswith("250")
            assert len({*hang.called, *both.called}) == 5
        finally:
            hang.freed.set()
            both.freed.set()


def test_two_that_hang_in_one_hook_are_given_up_one_after_the_other() -> None:
    first, second = Hang(), Hang()
    plugins = (listens("Hangs", smtp_rcpt=first), listens("Hangs2", smtp_rcpt=second))
    config = {"plugins": {"policy": {"hangs": {"budget": SOON}, "hangs2": {"budget": SOON, "on_error": "skip"}}}}
    with mail_server(plugins=plugins, config=config) as server, talk_to(server) as talk:
        try:
            assert talk.message(CAROL, ALICE).startswith("451")
            assert {line["plugin"] for line in server.wait_for_log("plugin_overran", 2)} == {"hangs", "hangs2"}
            assert talk.say("RSET").startswith("250")
            assert talk.message(CAROL, ALICE).startswith("250")
        finally:
            first.freed.set()
            second.freed.set()


def test_a_hang_in_session_closed_keeps_neither_the_place_nor_the_connection() -> None:
    hang = Hang(times=100)
    one = Limits(sessions=1, sessions_per_ip=0, connections_per_minute=0)
    with served(listens("Hangs", session_closed=hang), hang=hang, policy={"budget": "60s"}, limits=one) as server:
        for _ in range(2):
            with talk_to(server) as talk:
                assert talk.message(CAROL, ALICE).startswith("250")
                assert talk.say("RSET").startswith("250")
                talk.send(b"BDAT x\r\n" * 30)  # too many errors: the server ends it
                while talk.reply():
                    pass
            assert run_to(lambda: not server.server._smtp_gate._places)
        assert run_to(lambda: len(hang.called) == 2)
        hang.freed.set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_ours_at_the_end_keeps_neither_the_place_nor_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    hang = Hang()
    monkeypatch.setattr(Tally, "ended", lambda *_: 1 // 0)
    with served(listens("Hangs", smtp_helo=hang), hang=hang) as server, talk_to(server) as talk:
        assert len(server.wait_for_log("plugin_overran")) == 1
        talk.send(b"BDAT x\r\n" * 30)  # too many errors: the server ends it, on the thread that took it over
        while talk.reply():
            pass
        assert run_to(lambda: not server.server._smtp_gate._places)


def test_a_client_that_leaves_while_a_plugin_hangs_costs_no_more_than_a_session() -> None:
    hang = Hang()
    with served(listens("Hangs", smtp_mail=hang), hang=hang) as server:
        with talk_to(server) as talk:
            talk.send(f"MAIL FROM:<{CAROL}>\r\n".encode())
            assert run_to(lambda: bool(hang.called))
        server.wait_for_log("session", reason="lost")
        server.wait_for_log("plugin_overran")
        with talk_to(server) as talk:
            assert talk.message(CAROL, ALICE).startswith("250")


def test_a_server_ends_though_a_thread_of_a_session_hangs_and_the_message_is_taken_before() -> None:
    hang = Hang()
    config = {"plugins": {"policy": {"hangs": {"budget": "0.3s", "on_error": "skip"}}}}
    with mail_server(plugins=[listens("Hangs", message_check=hang)], config=config) as server:
        stopping = threading.Thread(target=server.server.stop)
        with talk_to(server) as talk:
            for line in (f"MAIL FROM:<{CAROL}>", f"RCPT TO:<{ALICE}>", "DATA"):
                talk.say(line)
            talk.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
            assert run_to(lambda: bool(hang.called))
            stopping.start()
            assert talk.reply().startswith("250")
            assert talk.reply().startswith("421")
        stopping.join(20)
        assert not stopping.is_alive()
        assert not server.log.matching("drain_timeout")
        assert hang.called[0].is_alive()
        hang.freed.set()


def test_invariant_8_threads_that_hang_are_bounded_and_the_breaker_gives_the_answer_at_once() -> None:
    hang, clock = Hang(times=1000), FakeClock()
    with served(listens("Hangs", smtp_mail=hang), hang=hang, clock=clock) as server, talk_to(server) as talk:
        for _ in range(FAILURES):
            assert talk.say(f"MAIL FROM:<{CAROL}>").startswith("451")
        server.wait_for_log("plugin_paused")
        for _ in range(FAILURES):
            assert talk.say(f"MAIL FROM:<{CAROL}>").startswith("451")
        assert len(hang.called) == FAILURES
        for _ in range(2 * MOST_ABANDONED):
            clock.advance(30.0)
            assert talk.say(f"MAIL FROM:<{CAROL}>").startswith("451")
        assert len(hang.called) == MOST_ABANDONED
        hang.freed.set()
        assert run_to(lambda: abandoned(server) == 0)


def test_a_hang_in_a_chunk_refuses_the_chunk() -> None:
    hang = Hang()
    with served(listens("Hangs", smtp_data=hang), hang=hang) as server, talk_to(server) as talk:
        for _ in range(2):
            assert talk.say(f"MAIL FROM:<{CAROL}>").startswith("250")
            assert talk.say(f"RCPT TO:<{ALICE}>").startswith("250")
            talk.send(b"BDAT 8 LAST\r\nhello.\r\n")
            said = talk.reply()
        assert said.startswith("250")
        assert len(server.mailbox(ALICE)) == 1
        assert len(server.wait_for_log("refused", command="bdat")) == 1
