"""What shipped plugins register fails: a verb, a parameter, a keyword, a mechanism, a transport. It costs one command or one
attempt, names the plugin, opens no relay and loses nothing (invariant 8). The walk is over what they register.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from faulty import SHIPPED, Switch, faulty, registered, settings_of
from smtp_talk import SmtpTalk
from trusting import Trust

from mailserv.mail.delivery import Attempt, Delivery
from mailserv.mail.extension import SMTPExtension
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import MailServer, mail_server

ALICE = "alice@example.org"
TEXT = b"Subject: x\r\n\r\nx\r\n"
SAID = {"raise": "plugin_failed", "lie": "plugin_lied"}
LATER = 3600.0  # seconds: longer than any wait of [queue] retry at the beginning
EXTENSIONS = [(name, each) for name in SHIPPED for each in registered(name, "register_smtp_extensions")]
MECHANISMS = [(name, each) for name in SHIPPED for each in registered(name, "register_sasl_mechanisms")]
POP3_VERBS = [
    pytest.param(name, verb.name, id=f"{name}-{verb.name}")
    for name in SHIPPED
    for extension in registered(name, "register_pop3_extensions")
    for verb in extension.verbs
]
TRANSPORTS = [(name, transport) for name in SHIPPED for transport, _ in registered(name, "register_transports")]


def boom(*_: Any) -> Any:
    raise RuntimeError("boom")


# ---------------------------------------------------------------- SMTP extensions and SASL mechanisms


@pytest.fixture(scope="module")
def switch() -> Switch:
    return Switch()


@pytest.fixture(scope="module")
def server(switch: Switch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailServer]:
    """With every plugin of ours that brings an extension or a mechanism."""
    folder = tmp_path_factory.mktemp("doors")
    pop3 = [name for name in SHIPPED if list(registered(name, "register_pop3_extensions"))]
    names = list(dict.fromkeys([*(name for name, _ in [*EXTENSIONS, *MECHANISMS]), *pop3]))
    with mail_server(
        plugins=[faulty(name, switch) for name in names],
        plugin={name: settings_of(name, folder) for name in names},
        tls=Trust.make(folder).tls,
    ) as running:
        yield running


def stages(extension: SMTPExtension) -> Iterator[str]:
    """What the server calls of it, as the switch names it."""
    if callable(extension.advertise):
        yield f"keyword {extension.keyword}"
    yield from (f"{'payload' if verb.payload else 'verb'} {verb.name}" for verb in extension.verbs)
    yield from (f"MAIL {'/'.join(each.claims)}" for each in extension.mail_params)
    yield from (f"RCPT {'/'.join(each.claims)}" for each in extension.rcpt_params)


CASES = [
    pytest.param(name, extension, stage, id=f"{name}-{stage}")
    for name, extension in EXTENSIONS
    for stage in stages(extension)
]


def said_after(talk: SmtpTalk, stage: str) -> str:
    """The reply to what calls that stage."""
    kind, _, name = stage.partition(" ")
    match kind:
        case "keyword":
            return talk.ask("EHLO client.example.net")
        case "MAIL":
            return talk.say(f"MAIL FROM:<smith@example.net> {name.split('/')[0]}")
        case "RCPT":
            assert talk.say(f"MAIL FROM:<{ALICE}>").startswith("250")
            return talk.say(f"RCPT TO:<{ALICE}> {name.split('/')[0]}")
        case _:
            return talk.say(f"{name} {ALICE}")


def session(server: MailServer, extension: SMTPExtension) -> SmtpTalk:
    """Where the extension is offered: to a stranger, or to who may log in."""
    talk = SmtpTalk(server.connect("smtp" if "smtp" in extension.services else "submission"))
    talk.ask("EHLO client.example.net")
    return talk


def no_relay_is_open(talk: SmtpTalk) -> bool:
    talk.say("RSET")
    return talk.message("smith@example.net", "carol@far.example").startswith(("530", "550"))


@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize(("name", "extension", "stage"), CASES)
def test_invariant_8_a_shipped_extension_that_fails_costs_one_command(
    server: MailServer, switch: Switch, name: str, extension: SMTPExtension, stage: str, kind: str
) -> None:
    before = len(server.log.matching(SAID[kind], plugin=name))
    with session(server, extension) as talk:
        if stage.startswith("RCPT") and extension.services == {"submission"}:
            talk.log_in(ALICE, "secret")
        with switch.failing(boom if kind == "raise" else object, stage):
            answer = said_after(talk, stage)
        server.wait_for_log(SAID[kind], before + 1, plugin=name)
        if stage.startswith("payload"):
            assert answer.startswith("501")  # nobody knows what follows
            assert talk.is_closed()
            return
        if stage.startswith("keyword"):
            assert answer.startswith("250")
            assert extension.keyword not in {line[4:].partition(" ")[0] for line in answer.splitlines()}
        else:
            assert answer.startswith("451 4.3.0")
        assert talk.say("NOOP").startswith("250")
        assert no_relay_is_open(talk)
    server.send("smith@example.net", [ALICE], TEXT)


@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize("verb", ["VRFY", "EXPN", "ETRN"])
def test_invariant_8_a_shipped_verb_that_cannot_tell_costs_one_command(
    server: MailServer, switch: Switch, verb: str, kind: str
) -> None:
    """The second half of a verb that looks something up."""
    before = len(server.log.matching(SAID[kind], plugin=verb.lower()))
    with SmtpTalk(server.connect("submission")) as talk:
        talk.ask("EHLO client.example.net")
        talk.log_in(ALICE, "secret")
        with switch.failing(boom if kind == "raise" else object, f"tell {verb}"):
            assert talk.say(f"{verb} {'example.org' if verb == 'ETRN' else ALICE}").startswith("451 4.3.0")
        server.wait_for_log(SAID[kind], before + 1, plugin=verb.lower())
        assert talk.say("NOOP").startswith("250")


def lying_exchange(*_: Any) -> Any:
    yield from ()
    return object()


@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize(("name", "mechanism"), [(name, each.name) for name, each in MECHANISMS])
def test_invariant_8_a_shipped_mechanism_that_fails_is_no_login(
    server: MailServer, switch: Switch, name: str, mechanism: str, kind: str
) -> None:
    before = len(server.log.matching(SAID[kind], plugin=name))
    with SmtpTalk(server.connect("submission")) as talk:
        talk.ask("EHLO client.example.net")
        with switch.failing(boom if kind == "raise" else lying_exchange, f"AUTH {mechanism}"):
            assert talk.say(f"AUTH {mechanism}").startswith("454 4.7.0")
        server.wait_for_log(SAID[kind], before + 1, plugin=name)
        assert no_relay_is_open(talk)
        assert talk.log_in(ALICE, "secret").startswith("235")


@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize(("name", "verb"), POP3_VERBS)
def test_invariant_8_a_shipped_pop3_verb_that_fails_costs_one_command(
    server: MailServer, switch: Switch, name: str, verb: str, kind: str
) -> None:
    before = len(server.log.matching(SAID[kind], plugin=name))
    with SmtpTalk(server.connect("pop3")) as talk:
        with switch.failing(boom if kind == "raise" else object, f"verb {verb}"):
            assert talk.say(f"{verb} {ALICE}").startswith("-ERR [SYS/TEMP]")
        server.wait_for_log(SAID[kind], before + 1, plugin=name)
        assert talk.say("STAT").startswith("-ERR")  # nobody was let in
        assert talk.say(f"USER {ALICE}").startswith("+OK")
        assert talk.say("PASS secret").startswith("+OK")


# ---------------------------------------------------------------- transports


Deliveries = Iterable[Delivery]


def takes_one_and_raises(deliveries: Deliveries) -> Iterator[Attempt]:
    next(iter(deliveries))
    raise RuntimeError("boom")
    yield


def takes_one_and_is_silent(deliveries: Deliveries) -> Iterator[Attempt]:
    next(iter(deliveries))
    return
    yield


def says_nothing_of_recipients(deliveries: Deliveries) -> Iterator[Attempt]:
    yield from (Attempt(delivery, ()) for delivery in deliveries)


def yields_no_attempt(deliveries: Deliveries) -> Iterator[Any]:
    yield from (object() for _ in deliveries)


FAULTS: dict[str, Callable[[], Any]] = {
    "raise": boom,
    "raise in the middle": lambda: takes_one_and_raises,
    "no word": lambda: takes_one_and_is_silent,
    "no outcome": lambda: says_nothing_of_recipients,
    "lie": lambda: yields_no_attempt,
}


class Post:
    """A server with all transports of ours, each with a domain that leads to it, and a clock to move."""

    def __init__(self, server: MailServer, switch: Switch, clock: FakeClock) -> None:
        self.server = server
        self.switch = switch
        self.clock = clock

    def send(self, transport: str) -> None:
        self.server.send(ALICE, [f"x@{transport}.example"], TEXT, login=(ALICE, "secret"))

    def delivered(self, transport: str) -> int:
        return len(self.server.log.matching("delivery", outcome="delivered", route=f"{transport}:there"))

    def wait_delivered(self, transport: str, count: int) -> None:
        self.server.wait_for_log("delivery", count, outcome="delivered", route=f"{transport}:there")

    def later(self) -> None:
        self.clock.advance(LATER)
        self.server.wake_queue()


@pytest.fixture(scope="module")
def post(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Post]:
    folder, clock, switch = tmp_path_factory.mktemp("post"), FakeClock(), Switch()
    names = list(dict.fromkeys(name for name, _ in TRANSPORTS))
    with mail_server(
        plugins=[faulty(name, switch) for name in names],
        plugin={name: settings_of(name, folder) for name in names},
        routes={f"{transport}.example": f"{transport}:there" for _, transport in TRANSPORTS},
        clock=clock,
    ) as server:
        yield Post(server, switch, clock)


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("transport", [transport for _, transport in TRANSPORTS])
def test_invariant_8_a_shipped_transport_that_fails_loses_nothing(post: Post, transport: str, kind: str) -> None:
    route, before = f"{transport}:there", post.delivered(transport)
    broke = len(post.server.log.matching("delivery_broke", route=route))
    with post.switch.failing(FAULTS[kind], f"transport {transport}"):
        post.send(transport)
        post.server.wait_for_log("delivery_broke", broke + 1, route=route)
        post.server.wait_for_log("delivery", outcome="deferred", route=route)
        assert [entry.state for entry in post.server.queue()] == ["ready"]
    post.later()
    post.wait_delivered(transport, before + 1)
    post.server.wait_for_empty_queue()


@pytest.mark.parametrize("transport", [transport for _, transport in TRANSPORTS])
def test_invariant_8_a_shipped_transport_that_hangs_holds_up_nobody_else(post: Post, transport: str) -> None:
    other = next(each for _, each in TRANSPORTS if each != transport)
    before, others = post.delivered(transport), post.delivered(other)
    freed = threading.Event()

    with post.switch.failing(lambda: freed.wait() and None, f"transport {transport}"):
        post.send(transport)
        post.send(other)
        post.wait_delivered(other, others + 1)
        assert len(post.server.queue()) == 1
        freed.set()
        post.wait_delivered(transport, before + 1)
    post.server.wait_for_empty_queue()
