"""mailserv_passwdfile: who logs in by the file, as whom it may send, and that the file is read again."""

from __future__ import annotations

import os
import poplib
import smtplib
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from argon2.low_level import Type
from policing import make_plugins
from smtp_talk import SmtpTalk

from mailserv.errors import ConfigError
from mailserv.testing.server import MailServer, mail_server
from mailserv_passwdfile.entries import Entry, parse

ALICE, BOB, SHOP = "alice@example.org", "bob@example.org", "shop@example.org"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
KEY = CHEAP.hash("key")
OTHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1, type=Type.I).hash("other")
TEXT = b"Subject: x\r\n\r\nx\r\n"


def running(file: Path, text: str) -> Any:
    file.write_text(text)
    return mail_server(
        plugins=["passwdfile"],
        plugin={"passwdfile": {"file": str(file)}},
        accounts={ALICE: "secret", BOB: "secret"},
    )


def log_in(server: MailServer, name: str, password: str) -> str:
    with SmtpTalk(server.connect("submission")) as talk:
        talk.ask("EHLO client.example.net")
        return talk.log_in(name, password)[:3]


def test_hook_authenticate_the_file_goes_before_the_accounts(tmp_path: Path) -> None:
    with running(tmp_path / "passwd", f"# logins\n\nAlice@Example.org:{KEY}\n{SHOP}:{OTHER}:{SHOP}\n") as server:
        assert log_in(server, ALICE, "key") == "235"
        assert log_in(server, "ALICE@example.org", "key") == "235"
        assert log_in(server, ALICE, "secret") == "535"
        assert log_in(server, SHOP, "other") == "235"
        assert log_in(server, BOB, "secret") == "235"
        assert log_in(server, "nobody@example.org", "key") == "535"
        assert log_in(server, "alice", "key") == "535"
        pop = poplib.POP3(*server.address("pop3"))
        pop.user(ALICE)
        assert pop.pass_("key").startswith(b"+OK")
        pop.quit()
        assert KEY not in str(server.log.matching("auth_failed"))


def test_hook_may_send_as_the_list_of_the_file_is_the_whole_list(tmp_path: Path) -> None:
    text = f"{ALICE}:{KEY}\n{SHOP}:{KEY}:@shop.example, News@example.org\n"
    with running(tmp_path / "passwd", text) as server, SmtpTalk(server.connect("submission")) as talk:
        talk.ask("EHLO client.example.net")
        assert talk.log_in(SHOP, "key").startswith("235")
        for path, code in (
            ("any@shop.example", "250"),
            ("news@example.org", "250"),
            (SHOP, "553"),
            ("a@x.shop.example", "553"),
        ):
            assert talk.say(f"MAIL FROM:<{path}>").startswith(code), path
            talk.say("RSET")
        server.send(ALICE, [BOB], TEXT, login=(ALICE, "key"))
        with pytest.raises(smtplib.SMTPSenderRefused):
            server.send("any@shop.example", [BOB], TEXT, login=(ALICE, "key"))


def test_the_file_is_read_again_and_a_broken_one_locks_nobody_out(tmp_path: Path) -> None:
    file = tmp_path / "passwd"
    with running(file, "") as server:
        assert log_in(server, ALICE, "secret") == "235"
        file.write_text(f"{ALICE}:{KEY}\n")
        assert log_in(server, ALICE, "key") == "235"
        file.write_text(f"{ALICE}:{KEY}\nbob@example.org:hunter2\n")
        os.utime(file, (1, 1))
        assert log_in(server, ALICE, "key") == "235"
        (line,) = server.wait_for_log("passwdfile_unusable")
        assert line["error"].startswith("line 2: ")
        assert "hunter2" not in str(line)
        file.unlink()
        assert log_in(server, ALICE, "key") == "235"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alice@example.org", "line 1: after the address"),
        ("\n# x\nalice@example.org:{PLAIN}secret", "line 3: after the address"),
        (f"alice@example.org:{KEY}é", "line 1: after the address"),
        (f"alice@example.org:{KEY[: KEY.rindex('$') + 4]}", "line 1: after the address"),
        (f"alice@example.org:{KEY[: KEY.rindex('$') + 1]}", "line 1: after the address"),
        (f"alice@example.org:{KEY.replace('m=8', 'm=7')}", "line 1: after the address"),
        (f"alice@example.org:{KEY.replace('t=1', 't=0')}", "line 1: after the address"),
        (f"alice:{KEY}", "line 1: a mailbox is"),
        (f"alice@example.org:{KEY}:", "line 1: the local-part"),
        (f"alice@example.org:{KEY}:@", "line 1: the domain"),
        (f"alice@example.org:{KEY}\nALICE@example.org:{KEY}", "line 2: this address is there twice"),
    ],
)
def test_a_mistake_names_its_line_and_stops_the_start(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "passwd").write_text(text)
    with pytest.raises(ConfigError) as raised:
        make_plugins("passwdfile", {"file": str(tmp_path / "passwd")})
    (problem,) = raised.value.problems
    assert problem.startswith(f"plugin.passwdfile.file: {said}")
    assert "secret" not in problem


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        make_plugins("passwdfile", {"file": str(tmp_path / "missing")})


def test_invariant_10_a_hash_is_not_shown() -> None:
    (entry,) = parse(f"{ALICE}:{KEY}").values()
    assert isinstance(entry, Entry)
    assert KEY not in repr(entry)
