"""`mailserv plugin check`: a rule that is broken is named, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_kit import Command

FOLDER = Path(__file__).parent.parent.parent / "plugins"
SHIPPED = sorted(path.parent.name.removeprefix("mailserv_") for path in FOLDER.glob("mailserv_*/__init__.py"))
HEAD = """import os
import threading
import time
from typing import Any

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import Address
from mailserv.mail.extension import LookUp, Parameter, Payload, SMTPExtension, Verb
from mailserv.mail.message import BytesContent, header_section
from mailserv.mail.pop3_extension import Pop3Answer, Pop3Extension, Pop3Verb
from mailserv.mail.reply import Reply
from mailserv.mail.sasl import Proof, SaslMechanism
from mailserv.mail.verdict import reject

never = threading.Event()


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    text: str = "x"


class Plugin:
    Settings = Settings

    def __init__(self, settings, services):
        self.services = services
        self.calls = 0

    @hookimpl
    def smtp_connect(self, peer):
        return None
"""
BROKEN = {
    "imports only what lasts": """
    @hookimpl
    def message_accepted(self):
        import mailserv.mail.fields, mailserv.store.sqlite
        from mailserv.settings import Limits
""",
    "8-bit header": """
    @hookimpl
    def message_check(self, content):
        header_section(content).decode("utf-8")
""",
    "header of 2 MB": """
    @hookimpl
    def message_check(self, content):
        assert content.size < 1_000_000
""",
    "the null reverse-path": """
    @hookimpl
    def smtp_mail(self, envelope):
        assert envelope.reverse_path.domain
""",
    "50 threads": """
    @hookimpl
    def smtp_rcpt(self):
        calls = self.calls = self.calls + 1
        never.wait(0.01)
        assert calls == self.calls
""",
    "no thread is left": """
    @hookimpl
    def startup(self):
        threading.Thread(target=never.wait, args=(30,), daemon=True, name="left behind").start()
""",
    "loaded again": """
    @hookimpl
    def shutdown(self):
        os.environ["PROBE"] = "used"

    def __init__(self, settings, services):
        assert os.environ["PROBE"] == "new"
""",
    "keyword XBAD": """
    @hookimpl
    def register_smtp_extensions(self):
        yield SMTPExtension("XBAD", lambda view: "two\\r\\nlines")
""",
    "verb XBAD": """
    @hookimpl
    def register_smtp_extensions(self):
        yield SMTPExtension("", "", verbs=(Verb("XBAD", lambda view, argument: Reply(250, "", argument.split()[0])),))
""",
    "verb XLOOK": """
    @hookimpl
    def register_smtp_extensions(self):
        look = LookUp(Address("a", ""), lambda address, found: Reply(250, "", found.mailboxes[0][0]))
        yield SMTPExtension("", "", verbs=(Verb("XLOOK", lambda view, argument: look),))
""",
    "verb XBRING": """
    @hookimpl
    def register_smtp_extensions(self):
        yield SMTPExtension("", "", verbs=(Verb("XBRING", None, payload=lambda argument: Payload(int(argument), True)),))
""",
    "MAIL parameter XBAD": """
    @hookimpl
    def register_smtp_extensions(self):
        yield SMTPExtension("XBAD", "", mail_params=(Parameter("XBAD", lambda view, value: value.upper() and None),))
""",
    "RCPT parameter XBAD=A": """
    @hookimpl
    def register_smtp_extensions(self):
        good = Reply(250, "", "fine")
        yield SMTPExtension("XBAD", "", rcpt_params=(Parameter("XBAD", lambda *_: good, values=frozenset({"A"})),))
""",
    "POP3 capability XBAD": """
    @hookimpl
    def register_pop3_extensions(self):
        yield Pop3Extension("XBAD", lambda view: view.peer.login.split("@")[1])
""",
    "POP3 verb XBAD": """
    @hookimpl
    def register_pop3_extensions(self):
        verb = Pop3Verb("XBAD", lambda view, argument: Pop3Answer(True, "lines", [argument + "\\r\\n"]))
        yield Pop3Extension("", "", verbs=(verb,))
""",
    "POP3 verb XOPEN": """
    @hookimpl
    def register_pop3_extensions(self):
        verb = Pop3Verb("XOPEN", lambda view, argument: Pop3Answer(True, "come in"), logs_in=True)
        yield Pop3Extension("", "", verbs=(verb,))
""",
    "mechanism XBAD": """
    @hookimpl
    def register_sasl_mechanisms(self):
        def begin(view):
            name = yield b""
            return Proof(name.decode("latin-1"), is_good=True)
        yield SaslMechanism("XBAD", begin)
""",
    "transport xbad": """
    @hookimpl
    def register_transports(self):
        return [("xbad", self)]

    def deliver(self, deliveries):
        yield next(deliveries)

    def close(self):
        pass
""",
}


def check(mailserv: Command, source: str, *arguments: str) -> tuple[int, dict[str, str]]:
    """Exit code; the rules that are broken, with what was seen."""
    folder = mailserv.folder / "plugins"
    folder.mkdir(exist_ok=True)
    (folder / "probe.py").write_text(source)
    mailserv.config.write_text(mailserv.config.read_text() + '[plugins]\npath = "plugins"\n')
    ran = mailserv("plugin", "check", "probe", "--json", *arguments)
    return ran.code, {each["rule"]: each["detail"] for each in json.loads(ran.out) if not each["kept"]}


def test_a_plugin_that_keeps_the_rules_passes(mailserv: Command) -> None:
    assert check(mailserv, HEAD) == (0, {})


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_named_and_no_other(mailserv: Command, rule: str) -> None:
    mailserv.monkeypatch.setenv("PROBE", "new")
    code, broken = check(mailserv, HEAD + BROKEN[rule])
    assert code == 1
    assert [rule in each for each in broken] == [True], broken


REWRITE = """
    @hookimpl
    def message_rewrite(self, content):
        return BytesContent(b"".join(content.blocks()){change})
"""


def test_a_rewriter_gets_messages_with_our_received_as_they_are(mailserv: Command) -> None:
    assert check(mailserv, HEAD + REWRITE.format(change='+ b"-- seen\\r\\n"')) == (0, {})


def test_a_lie_is_told_with_what_is_wrong_with_it(mailserv: Command) -> None:
    _, broken = check(mailserv, HEAD + REWRITE.format(change='.replace(b"Received", b"X-Received")'))
    told = "message_rewrite answered with a BytesContent: our Received is not at its top"
    assert broken["it answers to an ordinary message"] == told


def test_a_raise_is_told_with_its_place(mailserv: Command) -> None:
    source = HEAD + BROKEN["header of 2 MB"]
    _, broken = check(mailserv, source)
    place = f"probe.py:{source.count(chr(10))}"
    assert broken == {"it answers to header of 2 MB": f"message_check raised AssertionError:  ({place})"}


def test_a_hang_ends_with_its_budget(mailserv: Command) -> None:
    source = HEAD + "\n    @hookimpl\n    def smtp_helo(self):\n        never.wait(5)\n"
    mailserv.config.write_text(mailserv.config.read_text() + '[plugins.policy.probe]\nbudget = "1s"\n')
    folder = mailserv.folder / "plugins"
    folder.mkdir()
    (folder / "probe.py").write_text(source.replace("wait(5)", "wait(1.2)"))
    mailserv.config.write_text(
        mailserv.config.read_text().replace(
            "[plugins.policy.probe]", '[plugins]\npath = "plugins"\n[plugins.policy.probe]'
        )
    )
    ran = mailserv("plugin", "check", "probe")
    assert ran.code == 1
    assert "smtp_helo took longer than its budget of 1 s" in ran.out


def test_settings_without_a_type_are_found(mailserv: Command) -> None:
    code, broken = check(mailserv, HEAD.replace("text: str", "text: Any"))
    assert (code, broken) == (1, {"wrong settings are refused": "accepted: text"})


def test_what_a_session_gets_when_a_hook_fails_is_shown(mailserv: Command) -> None:
    folder = mailserv.folder / "plugins"
    folder.mkdir()
    (folder / "probe.py").write_text(HEAD)
    mailserv.config.write_text(mailserv.config.read_text() + '[plugins]\npath = "plugins"\n')
    out = mailserv("plugin", "check", "probe").out
    for how in ("raise", "hang", "lie"):
        (line,) = [line for line in out.splitlines() if f"smtp_connect may {how}" in line]
        assert "the session goes on: 451 " in line


def test_load_only_loads(mailserv: Command) -> None:
    assert mailserv("plugin", "check", "vrfy", "--load-only").out == "vrfy can be loaded\n"


def test_a_plugin_that_waits_for_its_settings_is_not_broken(mailserv: Command) -> None:
    folder = mailserv.folder / "plugins"
    folder.mkdir()
    (folder / "probe.py").write_text(HEAD.replace('text: str = "x"', "text: str"))
    mailserv.config.write_text(mailserv.config.read_text() + '[plugins]\npath = "plugins"\n')
    assert mailserv("plugin", "check", "probe", "--load-only").code == 0
    ran = mailserv("plugin", "check", "probe")
    assert (ran.code, ran.err) == (1, "plugin.probe.text: is missing\n")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_plugin_keeps_the_rules_or_waits_for_its_settings(mailserv: Command, name: str) -> None:
    ran = mailserv("plugin", "check", name)
    missing = [line for line in ran.err.splitlines() if line.endswith("is missing")]
    assert ran.code == 0 or missing, ran.out + ran.err
