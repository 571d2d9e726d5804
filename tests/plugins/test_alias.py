"""mailserv_alias: an aliases(5) file, its mistakes, and that it is read again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mailserv.config import read_section
from mailserv.errors import ConfigError
from mailserv.hooks.host import load_plugins
from mailserv.settings import Plugins
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import MailServer, mail_server
from mailserv_alias import AliasSettings, parse

CONTENT = b"Subject: x\r\n\r\nx\r\n"


def running(file: Path) -> dict[str, object]:
    return {
        "accounts": {"alice@example.org": "secret", "bob@example.org": "secret"},
        "plugins": Plugins(enabled=("alias",)),
        "plugin": {"alias": {"file": str(file), "domain": "example.org"}},
    }


def counts(server: MailServer) -> tuple[int, int]:
    return len(server.mailbox("alice@example.org")), len(server.mailbox("bob@example.org"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("# nothing\n\n   # more\n", {}),
        ("info: alice", {"info@example.org": ["alice@example.org"]}),
        ("Info:alice,bob@example.net", {"info@example.org": ["alice@example.org", "bob@example.net"]}),
        ("a: b,\n  c\n\td", {"a@example.org": ["b@example.org", "c d"]}),
        ("a: b,\n  c,\n\td", {"a@example.org": ["b@example.org", "c@example.org", "d@example.org"]}),
        ("a@example.com: b", {"a@example.com": ["b@example.org"]}),
    ],
)
def test_the_file_is_read_as_aliases_5_says(text: str, found: dict[str, list[str]]) -> None:
    if any(" " in target for targets in found.values() for target in targets):
        with pytest.raises(ValueError, match="line 1: c d"):
            parse(text, "example.org")
    else:
        assert {key: list(map(str, targets)) for key, targets in parse(text, "example.org").items()} == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no colon", "line 1: an alias is written"),
        ("a: b\n: c", "line 2: an alias is written"),
        ("a:", "line 1: an alias is written"),
        ("a: b\na: c", "line 2: a@example.org is there twice"),
        ("a: |/bin/sh", "line 1: |/bin/sh: commands, files and includes"),
        ('a: "|/bin/sh -c x"', "commands, files and includes"),
        ("a: /var/mail/x", "commands, files and includes"),
        ("a: :include:/x", "commands, files and includes"),
        ("a: b@", "line 1: b@: "),
    ],
)
def test_a_mistake_names_its_line(text: str, said: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse(text, "example.org")
    assert said in str(raised.value)


def test_without_a_file_it_does_nothing() -> None:
    assert read_section(AliasSettings, {}, "alias") == AliasSettings()
    with mail_server(plugins=Plugins(enabled=("alias",))) as server:
        server.send("x@example.net", ["alice@example.org"], CONTENT)
        assert len(server.mailbox("alice@example.org")) == 1


def test_hook_expand_recipient_follows_the_file_as_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "aliases"
    file.write_text("team: alice, bob\n")
    with mail_server(**running(file)) as server:
        server.send("x@example.net", ["team@example.org"], CONTENT)
        assert counts(server) == (1, 1)
        file.write_text("team: bob\n")
        server.send("x@example.net", ["team@example.org"], CONTENT)
        assert counts(server) == (1, 2)
        file.write_text("team\n")
        os.utime(file, (1, 1))
        server.send("x@example.net", ["team@example.org"], CONTENT)
        assert counts(server) == (1, 3)
        server.wait_for_log("alias_file_unusable")
        file.unlink()
        server.send("x@example.net", ["team@example.org"], CONTENT)
        assert counts(server) == (1, 4)


def test_an_alias_of_its_own_name_reaches_the_account_and_the_others(tmp_path: Path) -> None:
    file = tmp_path / "aliases"
    file.write_text("alice: alice, bob\n")
    with mail_server(**running(file)) as server:
        server.send("x@example.net", ["alice@example.org"], CONTENT)
        assert counts(server) == (1, 1)


def test_a_file_with_a_mistake_does_not_start(tmp_path: Path) -> None:
    file = tmp_path / "aliases"
    file.write_text("team\n")
    with pytest.raises(ConfigError, match="line 1"), mail_server(**running(file)):
        pass
    with pytest.raises(ConfigError, match="No such file"), mail_server(**running(tmp_path / "missing")):
        pass


def test_a_byte_order_mark_belongs_to_no_name(tmp_path: Path) -> None:
    file = tmp_path / "aliases"
    file.write_text("\ufeffroot: alice@example.org\n", encoding="utf-8")
    with mail_server(**running(file)) as server:
        server.send("bob@example.net", ["root@example.org"], b"Hi.\r\n")
        assert len(server.wait_for_mail("alice@example.org")) == 1


@pytest.mark.parametrize(
    ("settings", "words"), [({"domain": "x y"}, "domain"), ({"file": "/not/there"}, "No such file")]
)
def test_what_cannot_be_used_is_named_by_its_setting(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=rf"^plugin\.alias\..*{words}") as refused:
        load_plugins(("alias",), (), None, {"alias": settings}, hostname="mail.example.org", clock=FakeClock())
    assert "Errno" not in str(refused.value)
