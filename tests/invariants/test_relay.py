"""The relay test: no trick makes a stranger's message leave this server for somebody else's (invariant 4)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from talking import Talk, auth_plain, greeted

from mailserv.settings import Service
from mailserv.testing.server import MailServer, mail_server
from mailserv.testing.sink import ScriptedMX

CONTENT = b"From: x@example.net\r\nTo: victim@victim.example\r\nSubject: relay test\r\n\r\nBuy!\r\n"

FORWARD_PATHS = [
    # plainly somebody else's
    "victim@victim.example",
    "victim@VICTIM.EXAMPLE",
    "postmaster@victim.example",
    "alice@victim.example",
    # the % hack, UUCP paths and what they become without a domain
    "victim%victim.example@example.org",
    "victim%victim.example@EXAMPLE.ORG",
    "victim%victim.example@mail.example.org",
    "victim%victim.example@[127.0.0.1]",
    "victim%victim.example",
    "victim%victim.example%example.org@example.org",
    "victim.example!victim@example.org",
    "victim.example!victim",
    "mail.example.org!victim.example!victim",
    "example.org!victim%victim.example@example.org",
    "victim.example!victim%example.org@example.org",
    # an address in the local part, quoted or not
    "victim@victim.example@example.org",
    "victim@example.org@victim.example",
    '"victim@victim.example"@example.org',
    '"victim@victim.example"@[127.0.0.1]',
    '"victim%victim.example"@example.org',
    '"victim.example!victim"@example.org',
    '"victim"@victim.example',
    '"alice@example.org"@victim.example',
    '"victim@victim.example"',
    r'"victim\@victim.example"@example.org',
    r"victim\@victim.example@example.org",
    # source routes (RFC 5321 appendix C: they are ignored, and what is behind them is judged)
    "@example.org:victim@victim.example",
    "@example.org,@mail.example.org:victim@victim.example",
    "@victim.example:victim@victim.example",
    "@example.org:victim%victim.example@example.org",
    "@[127.0.0.1]:victim@victim.example",
    "example.org:victim@victim.example",
    # names that resemble ours
    "victim@victim.example.",
    "alice@example.org.",
    "alice@example.org.victim.example",
    "alice@notexample.org",
    "alice@sub.example.org",
    "victim@mail.example.org",
    "alice@mail.example.org",
    # literals
    "victim@[192.0.2.1]",
    "victim@192.0.2.1",
    "victim@[127.0.0.2]",
    "victim@[IPv6:2001:db8::1]",
    "victim@[IPv6:::ffff:192.0.2.1]",
    "victim@[IPv6:::1]",
    "victim@[127.0.0.1]",
    "victim@[victim.example]",
    "victim@127.1",
    "victim@2130706433",
    # several at once, and what a careless parser cuts off
    "victim@victim.example,alice@example.org",
    "alice@example.org,victim@victim.example",
    "victim@victim.example alice@example.org",
    "victim@victim.example> <alice@example.org",
    "victim@victim.example (alice@example.org)",
    "victim@victim.example:25",
    "victim@victim.example\0@example.org",
    "victim@victim.example\t@example.org",
    "victim@victim.example#@example.org",
    "victim@victim.example/@example.org",
    "<victim@victim.example>@example.org",
    "alice+victim@victim.example",
    "alice+victim%victim.example@victim.example",
    "victim@victim。example",
    "",
]

REVERSE_PATHS = ["x@example.net", "", "alice@example.org", "postmaster@example.org", "postmaster", "x@victim.example"]
GREETINGS = ["client.example.net", "mail.example.org", "localhost", "[127.0.0.1]", "EXAMPLE.ORG"]


@pytest.fixture(scope="module")
def sink() -> Iterator[ScriptedMX]:
    with ScriptedMX() as mx:
        yield mx


@pytest.fixture(scope="module", params=["as it comes", "with a catch-all"])
def server(sink: ScriptedMX, request: pytest.FixtureRequest) -> Iterator[MailServer]:
    """Whatever it relays goes to the sink. A catch-all takes any local part, and must take it as its own."""
    catch_all = {"example.org": "alice@example.org"} if request.param == "with a catch-all" else {}
    routes = {"*": f"smtp:[{sink.host}]:{sink.port}"}
    with mail_server(routes=routes, catch_all=catch_all, aliases={"info@example.org": ("alice@example.org",)}) as it:
        yield it


def attempt(talk: Talk, reverse_path: str, forward_path: str, parameters: str = "") -> str:
    """One whole try; "" when nothing was taken, else how it was taken."""
    taken = ""
    talk.say("RSET")
    mail = talk.say(f"MAIL FROM:<{reverse_path}>{parameters}")
    answer = talk.say(f"RCPT TO:<{forward_path}>")
    if answer.startswith("2"):
        data = talk.say("DATA")
        assert data.startswith("354"), data
        talk.send(CONTENT)
        taken = f"{mail} / {answer} / {talk.say('.')}"
    return taken


def nothing_left(server: MailServer, sink: ScriptedMX) -> bool:
    """Nothing waits for delivery, nothing was delivered, nobody even connected."""
    return server.queue() == [] and sink.messages == [] and sink.connections == 0


@pytest.mark.parametrize("reverse_path", REVERSE_PATHS)
@pytest.mark.parametrize("service", ["smtp", "submission"])
def test_invariant_4_no_forward_path_relays_for_a_stranger(
    server: MailServer, sink: ScriptedMX, service: Service, reverse_path: str
) -> None:
    taken = {}
    for forward_path in FORWARD_PATHS:  # each in a session of its own: refusals are counted
        with greeted(server.address(service)) as talk:
            taken[forward_path] = attempt(talk, reverse_path, forward_path)
    assert nothing_left(server, sink), {path: how for path, how in taken.items() if how}
    if service == "submission":
        assert not any(taken.values())
    for path, how in taken.items():  # what was taken, the catch-all took
        assert not how or server.server.settings.catch_all, path


@pytest.mark.parametrize("name", GREETINGS)
def test_invariant_4_no_greeting_relays(server: MailServer, sink: ScriptedMX, name: str) -> None:
    for verb in ("EHLO", "HELO"):
        with Talk.to(server.address("smtp")) as talk:
            talk.hear()
            talk.say(f"{verb} {name}")
            assert not attempt(talk, "alice@example.org", "victim@victim.example")
    assert nothing_left(server, sink)


@pytest.mark.parametrize(
    "parameters",
    [" AUTH=alice@example.org", " AUTH=<>", " BODY=8BITMIME AUTH=alice@example.org", " XFORWARD=yes", " RELAY=yes"],
)
@pytest.mark.parametrize("service", ["smtp", "submission"])
def test_invariant_4_no_parameter_relays(
    server: MailServer, sink: ScriptedMX, service: Service, parameters: str
) -> None:
    with greeted(server.address(service)) as talk:
        assert not attempt(talk, "alice@example.org", "victim@victim.example", parameters)
    assert nothing_left(server, sink)


@pytest.mark.parametrize(
    "command",
    [
        "XCLIENT ADDR=127.0.0.1 LOGIN=alice@example.org",
        "XFORWARD ADDR=127.0.0.1",
        "VRFY victim@victim.example",
        "EXPN victim@victim.example",
        "ETRN victim.example",
        "SEND FROM:<alice@example.org>",
        "SAML FROM:<alice@example.org>",
        "TURN",
        auth_plain("alice@example.org", "wrong"),
        auth_plain("alice@example.org", ""),
        auth_plain("", ""),
        "AUTH ANONYMOUS eA==",
        "AUTH EXTERNAL YWxpY2VAZXhhbXBsZS5vcmc=",
        "AUTH LOGIN\r\n*",
    ],
)
@pytest.mark.parametrize("service", ["smtp", "submission"])
def test_invariant_4_no_other_command_opens_the_way(
    server: MailServer, sink: ScriptedMX, service: Service, command: str
) -> None:
    with greeted(server.address(service)) as talk:
        talk.say_all(*command.split("\r\n"))
        assert not attempt(talk, "alice@example.org", "victim@victim.example")
    assert nothing_left(server, sink)


def test_invariant_4_a_login_by_pop3_opens_no_way_for_smtp(server: MailServer, sink: ScriptedMX) -> None:
    with Talk.to(server.address("pop3")) as reader:
        reader.line()
        assert reader.say("USER alice@example.org").startswith("+OK")
        assert reader.say("PASS secret").startswith("+OK")
        for service in ("smtp", "submission"):
            with greeted(server.address(service)) as talk:
                assert not attempt(talk, "alice@example.org", "victim@victim.example")
        reader.say("QUIT")
    assert nothing_left(server, sink)


def test_invariant_4_a_good_recipient_brings_no_other_along(server: MailServer, sink: ScriptedMX) -> None:
    with greeted(server.address("smtp")) as talk:
        before = len(server.mailbox("alice@example.org"))
        replies = talk.say_all(
            "MAIL FROM:<x@example.net>",
            "RCPT TO:<alice@example.org>",
            "RCPT TO:<victim@victim.example>",
            "RCPT TO:<@example.org:victim@victim.example>",
            "DATA",
        )
        assert [reply[:3] for reply in replies] == ["250", "250", "550", "550", "354"]
        talk.send(CONTENT + b"Bcc: victim@victim.example\r\n")
        assert talk.say(b".").startswith("250")
    assert len(server.mailbox("alice@example.org")) == before + 1
    assert nothing_left(server, sink)


def test_invariant_4_a_login_ends_with_its_session_and_reaches_no_other(server: MailServer, sink: ScriptedMX) -> None:
    with greeted(server.address("submission")) as mine, greeted(server.address("submission")) as other:
        assert mine.say(auth_plain("alice@example.org", "secret")).startswith("235")
        assert not attempt(other, "alice@example.org", "victim@victim.example")
        mine.say("QUIT")
    with greeted(server.address("submission")) as talk:
        assert not attempt(talk, "alice@example.org", "victim@victim.example")
    assert nothing_left(server, sink)


def test_invariant_4_the_test_can_fail_a_login_relays() -> None:
    with ScriptedMX() as sink, mail_server(routes={"*": f"smtp:[{sink.host}]:{sink.port}"}) as server:
        with greeted(server.address("submission")) as talk:
            assert talk.say(auth_plain("alice@example.org", "secret")).startswith("235")
            assert attempt(talk, "alice@example.org", "victim@victim.example")
        assert sink.wait_for_messages(1)[0].rcpts == ("<victim@victim.example>",)
        assert not nothing_left(server, sink)
