"""Finding, enabling and ordering plugins, and what is said of those that can't be used."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from mailserv.errors import ConfigError
from mailserv.hooks.brought import Plugins
from mailserv.hooks.host import SHIPPED_EXTENSIONS, load_plugins
from mailserv.settings import PluginPolicy
from mailserv.testing.clock import FakeClock

EXTENSION = """
from mailserv import hookimpl
from mailserv.mail.extension import SMTPExtension, Verb
from mailserv.mail.reply import OK

class Plugin:
    def __init__(self, settings, services):
        self.services = services

    @hookimpl
    def register_smtp_extensions(self):
        return [SMTPExtension("{keyword}", lambda view: "", verbs=(Verb("{verb}", lambda view, argument: OK),))]
"""


def load(
    folder: Path, enabled: tuple[str, ...] = (), disabled: tuple[str, ...] = (), **sections: dict[str, Any]
) -> Plugins:
    return load_plugins(enabled, disabled, folder, sections, hostname="mail.example.org", clock=FakeClock())


def problems(folder: Path, *enabled: str, **sections: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as raised:
        load(folder, enabled, **sections)
    return "\n".join(raised.value.problems)


def test_what_is_shipped_is_on_and_in_order(tmp_path: Path) -> None:
    plugins = load(tmp_path)
    assert plugins.names == SHIPPED_EXTENSIONS
    keywords = [extension.keyword for extension in plugins.extensions if extension.keyword]
    assert keywords[:5] == ["SIZE", "8BITMIME", "PIPELINING", "ENHANCEDSTATUSCODES", "SMTPUTF8"]


@pytest.mark.parametrize("name", SHIPPED_EXTENSIONS)
def test_each_shipped_extension_can_be_switched_off_by_name(tmp_path: Path, name: str) -> None:
    assert name not in load(tmp_path, disabled=(name,)).names


def test_a_single_file_is_a_plugin_and_comes_after_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "xclock.py").write_text(EXTENSION.format(keyword="XCLOCK", verb="XCLOCK"))
    plugins = load(tmp_path, ("xclock",))
    assert plugins.names[-1] == "xclock"
    assert plugins.extensions[-1].keyword == "XCLOCK"


def test_installed_is_not_enabled(tmp_path: Path) -> None:
    (tmp_path / "xclock.py").write_text(EXTENSION.format(keyword="XCLOCK", verb="XCLOCK"))
    assert "xclock" not in load(tmp_path).names


def test_a_misspelt_name_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    (tmp_path / "xclock.py").write_text(EXTENSION.format(keyword="XCLOCK", verb="XCLOCK"))
    assert "did you mean 'xclock'?" in problems(tmp_path, "xclok")


def test_a_misspelt_disabled_name_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'vrfy'"):
        load(tmp_path, disabled=("vrfi",))


def test_two_claims_of_one_keyword_name_both_plugins(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(EXTENSION.format(keyword="XA", verb="XA"))
    (tmp_path / "two.py").write_text(EXTENSION.format(keyword="XA", verb="XB"))
    assert "plugins one and two both bring EHLO keyword XA" in problems(tmp_path, "one", "two")


def test_a_plugin_may_not_take_a_shipped_verb(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(EXTENSION.format(keyword="XA", verb="vrfy"))
    assert "plugins vrfy and mine both bring verb VRFY" in problems(tmp_path, "mine")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise RuntimeError('broken')", "plugin bad: cannot be loaded: RuntimeError: broken"),
        ("raise SystemExit(3)", "plugin bad: cannot be loaded: SystemExit: 3"),
        ("import asyncio\nraise asyncio.CancelledError", "plugin bad: cannot be loaded: CancelledError"),
        (
            "import no_such_module",
            f"plugin bad: cannot be loaded: it needs the Python module no_such_module, which is not installed in {sys.prefix}",
        ),
        ("Plugin = 3", "plugin bad: its entry point is no class"),
        ("x = 1", "bad.py has no class Plugin"),
        ("class Plugin:\n    def __init__(self): pass", "plugin bad: cannot be loaded: TypeError"),
        (
            EXTENSION.replace("return [", "raise OSError('x')\n        return ["),
            "register_smtp_extensions raised OSError",
        ),
        (EXTENSION.replace("return [", "return ['nothing']\n        return ["), "gave 'nothing', not a SMTPExtension"),
        (
            EXTENSION.replace("register_smtp_extensions", "register_smtp_extension"),
            "plugin bad: there is no hook register_smtp_extension; did you mean 'register_smtp_extensions'?",
        ),
        (
            EXTENSION.replace("register_smtp_extensions(self)", "register_smtp_extensions(self, peer)"),
            "plugin bad: register_smtp_extensions has no argument peer; it may name none",
        ),
        (EXTENSION.replace("def register", "async def register"), "register_smtp_extensions is async"),
        (
            EXTENSION.replace("    @hookimpl\n", ""),
            "plugin bad: register_smtp_extensions has the name of a hook and no @hookimpl: it would never be called",
        ),
        (
            EXTENSION.replace("return [", "return 3\n        return ["),
            "plugin bad: register_smtp_extensions gave 3, not a list of SMTPExtension",
        ),
        (
            EXTENSION.replace("return [", "return None\n        return ["),
            "plugin bad: register_smtp_extensions gave None, not a list of SMTPExtension",
        ),
        (
            EXTENSION.replace("register_smtp_extensions", "check_config").replace(
                "return [", "return 'wrong'\n        return ["
            ),
            "plugin bad: check_config gave 'wrong', not a list of str",
        ),
        (
            EXTENSION.replace("register_smtp_extensions(self)", "smtp_rcpt(self, peer, rcpt, envelope=None)"),
            "plugin bad: smtp_rcpt has no argument rcpt; it may name peer, envelope, forward_path",
        ),
        (
            EXTENSION.replace("class Plugin:", "class Plugin:\n    Settings = {'a': 1}"),
            "bad: its Settings is no msgspec.Struct",
        ),
    ],
)
def test_a_plugin_that_cannot_be_used_is_named(tmp_path: Path, source: str, said: str) -> None:
    (tmp_path / "bad.py").write_text(source.replace("{keyword}", "XA").replace("{verb}", "XA"))
    found = problems(tmp_path, "bad")
    assert said in found
    assert "bad" in found


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("raise RuntimeError('broken')")
    found = problems(tmp_path, "bad", "missing")
    assert "bad" in found
    assert "'missing'" in found


SETTINGS = """
import msgspec
from mailserv import hookimpl
from mailserv.mail.reply import Reply
from mailserv.mail.verdict import reject

class Settings(msgspec.Struct, forbid_unknown_fields=True):
    word: str = "no"

class Plugin:
    Settings = Settings

    def __init__(self, settings, services):
        self.word = settings.word

    @hookimpl
    def smtp_connect(self, peer):
        return reject(self.word)
"""


def test_a_plugin_gets_its_own_settings(tmp_path: Path) -> None:
    (tmp_path / "word.py").write_text(SETTINGS)
    verdict = load(tmp_path, ("word",), word={"word": "never"}).runner.decide("smtp_connect", peer=None)
    assert verdict is not None
    assert verdict.reply.text == "never"


def test_a_plugins_settings_are_checked_like_our_own(tmp_path: Path) -> None:
    (tmp_path / "word.py").write_text(SETTINGS)
    assert "plugin.word" in problems(tmp_path, "word", word={"wrod": "never"})


def test_settings_for_a_plugin_without_any_are_refused(tmp_path: Path) -> None:
    (tmp_path / "xclock.py").write_text(EXTENSION.format(keyword="XCLOCK", verb="XCLOCK"))
    assert "plugin.xclock: the plugin has no settings" in problems(tmp_path, "xclock", xclock={"a": 1})


TRANSPORT = """
from mailserv import hookimpl

class Plugin:
    def __init__(self, settings, services):
        pass

    @hookimpl
    def register_transports(self):
        return [("hole", self)]

    def deliver(self, deliveries):
        return iter(())

    def close(self):
        pass
"""


def test_a_transport_comes_under_its_name(tmp_path: Path) -> None:
    (tmp_path / "hole.py").write_text(TRANSPORT)
    assert list(load(tmp_path, ("hole",)).transports) == ["hole"]
    (tmp_path / "pit.py").write_text(TRANSPORT)
    assert "plugins hole and pit both bring transport hole" in problems(tmp_path, "hole", "pit")


@pytest.mark.parametrize(
    ("registered", "said"),
    [
        ('[("hole",)]', "plugin hole: ('hole',) is no name with a Transport"),
        ('[("hole", "self")]', "plugin hole: ('hole', 'self') is no name with a Transport"),
        ('[("a hole", self)]', "is no name with a Transport"),
        ('{"hole": self}', "plugin hole: register_transports gave 'hole', not a tuple"),
        ('[("smtp", self)]', "plugin hole brings transport smtp, which mailserv has itself"),
    ],
)
def test_what_is_no_transport_stops_the_start(tmp_path: Path, registered: str, said: str) -> None:
    (tmp_path / "hole.py").write_text(TRANSPORT.replace('[("hole", self)]', registered))
    assert said in problems(tmp_path, "hole")


def test_a_policy_for_a_plugin_that_is_not_enabled_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    (tmp_path / "word.py").write_text(SETTINGS)
    with pytest.raises(ConfigError, match="no plugin 'wrod' is enabled; did you mean 'word'"):
        load_plugins(
            ("word",),
            (),
            tmp_path,
            {},
            hostname="mail.example.org",
            clock=FakeClock(),
            policies={"wrod": PluginPolicy(on_error="skip")},
        )


@pytest.mark.parametrize("option", ["tryfirst", "trylast", "hookwrapper", "wrapper"])
def test_only_the_operator_orders_plugins(tmp_path: Path, option: str) -> None:
    source = SETTINGS.replace("@hookimpl", f"@hookimpl({option}=True)").replace("return reject", "yield reject")
    (tmp_path / "word.py").write_text(source)
    assert "plugin word: smtp_connect must not be tryfirst, trylast or a wrapper" in problems(tmp_path, "word")


def test_a_misspelt_hook_to_trace_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILSERV_TRACE_PLUGINS", "smtp_rcpt, smtp_dada")
    assert "MAILSERV_TRACE_PLUGINS: there is no hook smtp_dada; did you mean 'smtp_data'?" in problems(tmp_path)
