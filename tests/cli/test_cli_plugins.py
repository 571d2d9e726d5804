"""`mailserv plugin list`, `order`, `new`, `test`: what is there, and what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli_kit import Command

from mailserv.cli.plugin_samples import ORDINARY, STRANGE
from mailserv.hooks.specs import KINDS, Kind

ROOT = Path(__file__).parent.parent.parent
POLITE = '''"""Refuses whom it is told to."""
import msgspec

from mailserv import hookimpl
from mailserv.mail.verdict import reject, tempfail


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    helo: str = "nobody"


class Plugin:
    Settings = Settings

    def __init__(self, settings, services):
        self.helo = settings.helo

    @hookimpl
    def smtp_helo(self, peer):
        return reject("Go away") if peer.helo == self.helo else None

    @hookimpl
    def smtp_rcpt(self, forward_path):
        raise ValueError("what I did not think of")

    @hookimpl
    def message_check(self, content):
        return tempfail("Too long") if content.size > 200 else None
'''

FINDER = """
from mailserv import hookimpl
from mailserv.mail.auth_result import AuthResult
from mailserv.mail.finding import Finding
from mailserv.mail.message import BytesContent

class Plugin:
    def __init__(self, settings, services):
        pass
    @hookimpl
    def message_authenticate(self):
        return [AuthResult("iprev", "fail", reason="no name"), AuthResult("spf", "none")]
    @hookimpl
    def message_scan(self):
        return Finding("spam", 4.5)
    @hookimpl
    def message_rewrite(self, content):
        return BytesContent(b"".join(content.blocks()).replace(b"Subject:", b"Subject: [spam]") + b"-- \\r\\nEnd.\\r\\n")
"""


@pytest.fixture
def polite(mailserv: Command) -> Command:
    """`[plugins] path` has two files, and one is enabled."""
    folder = mailserv.folder / "plugins"
    folder.mkdir()
    (folder / "polite.py").write_text(POLITE)
    (folder / "broken.py").write_text("import nothing_of_this_name\n")
    (folder / "leaving.py").write_text("raise SystemExit(3)\n")
    with mailserv.config.open("a") as file:
        file.write('[plugins]\npath = "plugins"\nenabled = ["polite"]\n[plugin.polite]\nhelo = "spammer"\n')
    return mailserv


def test_list_shows_version_state_source_and_hooks_of_each(polite: Command) -> None:
    rows = {row["name"]: row for row in json.loads(polite("plugin", "list", "--json").out)}
    assert rows["size"]["enabled"]
    assert rows["size"]["source"] == "shipped"
    assert rows["size"]["version"]
    assert not rows["maildir"]["enabled"]
    assert rows["polite"]["enabled"]
    assert rows["polite"]["source"].endswith("plugins/polite.py")
    assert rows["polite"]["hooks"] == ["smtp_helo", "smtp_rcpt", "message_check"]


def test_list_tells_of_one_that_cannot_be_imported_and_goes_on(polite: Command) -> None:
    ran = polite("plugin", "list")
    assert ran.code == 0
    assert "ModuleNotFoundError" in next(line for line in ran.out.splitlines() if line.startswith("broken "))
    assert "SystemExit" in next(line for line in ran.out.splitlines() if line.startswith("leaving "))
    assert "vrfy " in ran.out


def test_order_is_the_order_of_enabled(polite: Command) -> None:
    (polite.folder / "plugins" / "second.py").write_text(POLITE)
    polite.config.write_text(polite.config.read_text().replace('["polite"]', '["second", "polite"]'))
    rows = json.loads(polite("plugin", "order", "smtp_helo", "--json").out)
    assert [(row["hook"], row["plugin"]) for row in rows] == [("smtp_helo", "second"), ("smtp_helo", "polite")]
    table = polite("plugin", "order").out.splitlines()
    assert ["register_smtp_extensions", "size", "-", "-", "enforce"] in map(str.split, table)
    assert ["smtp_helo", "polite", "10s", "tempfail", "enforce"] in map(str.split, table)


def test_order_of_a_hook_that_is_not_there_is_wrong_usage(polite: Command) -> None:
    ran = polite("plugin", "order", "smtp_reception")
    assert (ran.code, "smtp_reception" in ran.err) == (2, True)


def test_test_shows_each_hooks_answer_reason_and_time(polite: Command) -> None:
    rows = json.loads(polite("plugin", "test", "polite", "--helo", "spammer", "--json").out)
    assert [row["hook"] for row in rows] == ["smtp_helo", "smtp_rcpt", "message_check"]
    assert rows[0]["answer"] == "550 5.7.1 Go away"
    assert rows[1]["answer"].startswith("451 ")
    assert rows[1]["reason"] == "polite: it raised ValueError"
    assert rows[2]["answer"] == "no opinion"
    assert all(row["ms"] >= 0 for row in rows)


def test_test_reads_the_message_from_a_file_as_the_wire_would_bring_it(polite: Command) -> None:
    message = polite.folder / "message.eml"
    message.write_bytes(b"Subject: x\n\n" + b"x" * 200 + b"\n")
    out = polite("plugin", "test", "polite", "--message", str(message)).out
    assert "451 4.7.1 Too long" in out


def test_test_shows_what_was_found_in_a_message_and_what_was_made_of_it(polite: Command) -> None:
    (polite.folder / "plugins" / "finder.py").write_text(FINDER)
    polite.config.write_text(polite.config.read_text().replace('["polite"]', '["polite", "finder"]'))
    rows = json.loads(polite("plugin", "test", "finder", "--json").out)
    assert [(row["hook"], row["answer"], row["reason"]) for row in rows] == [
        ("message_authenticate", "iprev=fail, spf=none", "no name "),
        ("message_scan", "found spam, score 4.5", ""),
        ("message_rewrite", "changed: -1 +3 lines", ""),
    ]


def test_test_refuses_what_is_no_address(polite: Command) -> None:
    ran = polite("plugin", "test", "polite", "--rcpt", "nobody@")
    assert ran.code == 1
    assert ran.err.startswith("Error: 'nobody@' is no address")


def test_test_refuses_what_is_no_ip_address(polite: Command) -> None:
    ran = polite("plugin", "test", "polite", "--ip", "192.0.2")
    assert (ran.code, ran.err) == (1, "Error: '192.0.2' is no IP address\n")


@pytest.mark.parametrize("command", ["test", "check", "uninstall"])
def test_a_misspelt_name_gets_the_nearest_one(polite: Command, command: str) -> None:
    ran = polite("plugin", command, "politee")
    assert ran.code == 1
    assert ran.err == "[plugins] enabled: no plugin 'politee' is installed; did you mean 'polite'?\n"


def test_new_writes_a_package_whose_test_passes_and_whose_types_are_right(
    mailserv: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mailserv.folder)
    ran = mailserv("plugin", "new", "fresh_air")
    assert (ran.code, ran.out) == (0, "wrote mailserv-fresh_air; next: mailserv plugin install ./mailserv-fresh_air\n")
    assert complaints("pytest", "-q", "-p", "no:cacheprovider", folder=mailserv.folder / "mailserv-fresh_air") == ""
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    assert (
        complaints("mypy", "--strict", "mailserv_fresh_air", "tests", folder=mailserv.folder / "mailserv-fresh_air")
        == ""
    )


def complaints(module: str, *arguments: str, folder: Path) -> str:
    """What it says against a package, "" when it is content."""
    ran = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    return ran.stdout + ran.stderr if ran.returncode else ""


@pytest.mark.parametrize(
    ("name", "reason"),
    [("Fresh", "is no name"), ("9lives", "is no name"), ("class", "is no name"), ("vrfy", "is a plugin vrfy already")],
)
def test_new_refuses_a_name_that_cannot_be_one(mailserv: Command, name: str, reason: str) -> None:
    ran = mailserv("plugin", "new", name)
    assert (ran.code, reason in ran.err) == (1, True)


def test_new_overwrites_nothing(mailserv: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mailserv.folder)
    (mailserv.folder / "mailserv-fresh").mkdir()
    assert mailserv("plugin", "new", "fresh").err == "Error: mailserv-fresh is there already\n"


@pytest.mark.parametrize("hook", [hook for hook, kind in KINDS.items() if kind is not Kind.COLLECT])
def test_there_is_a_sample_for_every_argument_of_every_hook(hook: str) -> None:
    for sample in (ORDINARY, *STRANGE):
        assert all(value is not None for value in sample.arguments(hook).values())


def test_the_service_lmtp_and_the_plugin_lmtp_do_not_exclude_each_other(mailserv: Command) -> None:
    text = mailserv.config.read_text().replace('service = "smtp"', 'service = "lmtp"')
    mailserv.config.write_text(text + '[plugins]\nenabled = ["lmtp"]\n')
    ran = mailserv("check")
    assert (ran.code, ran.err) == (0, "")
