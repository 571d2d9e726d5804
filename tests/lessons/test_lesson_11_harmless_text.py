"""Lesson 11: a browser's request ends the session; no submitted text reaches a shell, a path or SQL text."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from talking import Talk, greeted

from mailserv.settings import Service
from mailserv.testing.server import MailServer, mail_server

ROOT = Path(__file__).parents[2]
ALICE = "alice@example.org"
VERBS = ["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "CONNECT", "PATCH"]
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "subprocess", "commands", "pty", "dill", "yaml", "xmlrpc"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "system", "popen", "execve", "execv", "spawnv", "fork"}
NASTY = [
    "'; DROP TABLE message; --",
    "../../../../etc/passwd",
    "$(touch owned)",
    "`touch owned`",
    "|touch owned",
    "%s%n{0}{__class__}",
    "\\x00\\r\\n",
]


@pytest.mark.parametrize("service", ["smtp", "submission", "pop3"])
def test_lesson_11_http_ends_the_session_before_its_body_is_read(server: MailServer, service: Service) -> None:
    body = f"MAIL FROM:<x@example.net>\r\nRCPT TO:<{ALICE}>\r\nDATA\r\nSubject: by browser\r\n\r\n.\r\nQUIT\r\n"
    for verb in VERBS:
        with Talk.to(server.address(service)) as talk:
            talk.line()
            talk.send(f"{verb} / HTTP/1.1\r\nHost: mail.example.org\r\n\r\nEHLO x\r\n{body}".encode())
            assert talk.hear().startswith(("421 ", "-ERR")), verb
            assert talk.ended(), verb
    server.wait_for_log("pop3_session" if service == "pop3" else "session", count=len(VERBS))
    assert server.mailbox(ALICE) == []
    assert not server.log.matching("accepted")


@pytest.mark.parametrize("text", NASTY)
def test_lesson_11_what_a_client_writes_is_text_wherever_it_goes(tmp_path: Path, text: str) -> None:
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    with mail_server(data_dir=tmp_path / "data", catch_all={"example.org": ALICE}) as server:
        with greeted(server.address("smtp")) as talk:
            talk.say(f"EHLO {text}")
            talk.say(f"VRFY {text}")
            answer = talk.say(f"MAIL FROM:<{quoted}@example.net>")
            assert answer.startswith("250"), answer
            assert talk.say(f"RCPT TO:<{quoted}@example.org>").startswith("250")
            talk.say("DATA")
            talk.send(f"Subject: {text}\r\nMessage-ID: <{text}>\r\n\r\n{text}\r\n".encode())
            assert talk.say(".").startswith("250")
        with Talk.to(server.address("pop3")) as talk:
            talk.line()
            talk.say_all(f"USER {text}", f"PASS {text}", f"APOP {text} x")
        (mail,) = server.mailbox(ALICE)
        assert text.encode() in mail
        assert [account.address for account in server.server.store.accounts()] == [ALICE]
        names = {path.name for path in tmp_path.rglob("*")}
        assert "owned" not in names
        assert names <= {
            "data",
            "spool",
            "lock",
            "nudge",
            "ballast",
            "mailserv.db",
            "mailserv.db-wal",
            "mailserv.db-shm",
        }
    assert not list(Path.cwd().glob("owned"))


def sources() -> list[Path]:
    return sorted([*(ROOT / "mailserv").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")])


def misuses(text: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
            found.append(str(node.module))
        elif isinstance(node, ast.Call):
            function = node.func
            is_compile = isinstance(function, ast.Attribute) and function.attr == "compile"  # of a regular expression
            name = getattr(function, "id", getattr(function, "attr", ""))
            if name in FORBIDDEN_CALLS and not is_compile:
                found.append(name)
            found += ["shell=True" for keyword in node.keywords if keyword.arg == "shell"]
    return found


STARTS_PROGRAMS = {  # a list of arguments each, never a shell's line: pip by an operator, and the commands of [plugin.pipe]
    "mailserv/cli/plugin_install.py",
    "plugins/mailserv_pipe/running.py",
}
FORKS = "mailserv/cli/processes.py"  # itself, and no program


def test_lesson_11_no_shell_no_pickle_no_eval() -> None:
    seen = {str(path.relative_to(ROOT)): misuses(path.read_text(encoding="utf-8")) for path in sources()}
    assert {path: found for path, found in seen.items() if found} == {
        FORKS: ["fork"],
        **{path: ["subprocess"] for path in STARTS_PROGRAMS},
    }


def test_lesson_11_the_test_sees_what_it_looks_for() -> None:
    bad = "import pickle\nfrom subprocess import run\nrun(x, shell=True)\neval(y)\nos.system(z)\nre.compile(a)\n"
    assert misuses(bad) == ["pickle", "subprocess", "shell=True", "eval", "system"]


def sql_made_of_values(text: str) -> list[int]:
    """Lines where `execute…` gets SQL that is put together at run time."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", getattr(node.func, "id", "")) in {"execute", "executemany", "executescript"}
        and node.args
        and isinstance(node.args[0], ast.BinOp | ast.JoinedStr | ast.Call)
    ]


def test_lesson_11_sql_is_never_put_together_from_what_comes_in() -> None:
    """What is put together is of our own constants, in one place: SQLite's PRAGMA takes no parameters."""
    found = {str(path.relative_to(ROOT)) for path in sources() if sql_made_of_values(path.read_text())}
    assert found == {"mailserv/store/connection.py"}
