"""mailserv_audit: a line for each thing that happened, and mail that goes on where no line can be written."""

from __future__ import annotations

import json
import smtplib
from pathlib import Path
from typing import Any

import pytest

from mailserv.errors import ConfigError
from mailserv.settings import Plugins
from mailserv.testing.server import mail_server
from mailserv.testing.sink import ScriptedMX

AUDIT = Plugins(enabled=("audit",))
TEXT = b"Subject: hello\r\n\r\nHi.\r\n"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_login_session_message_and_delivery_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with ScriptedMX({"RCPT TO:<dave@": "550 5.1.1 No such user"}) as mx:
        routes = {"far.example": f"smtp:[{mx.host}]:{mx.port}"}
        with mail_server(plugins=AUDIT, plugin={"audit": {"path": str(path)}}, routes=routes) as server:
            recipients = ["carol@far.example", "dave@far.example"]
            server.send("alice@example.org", recipients, TEXT, login=("alice@example.org", "secret"))
            with pytest.raises(smtplib.SMTPAuthenticationError):
                server.send("alice@example.org", recipients, TEXT, login=("eve", "wrong"))
            server.wait_for_empty_queue()
            server.wait_for_log("session", 2)
    found = lines(path)
    assert found[0]["event"] == "startup"
    assert found[-1]["event"] == "shutdown"
    logins = [(line["login"], line["good"]) for line in found if line["event"] == "login"]
    assert logins[:2] == [("alice@example.org", True), ("eve", False)]
    (accepted,) = [line for line in found if line["event"] == "accepted"]
    assert accepted["recipients"] == recipients
    finished = {line["recipient"]: line["outcome"] for line in found if line["event"] == "finished"}
    assert finished == {"carol@far.example": "delivered", "dave@far.example": "failed"}
    assert [line["messages"] for line in found if line["event"] == "session"] == [1, 0]


def test_mail_goes_on_where_no_line_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.mkdir()
    with mail_server(plugins=AUDIT, plugin={"audit": {"path": str(path)}}) as server:
        server.send("carol@far.example", ["alice@example.org"], TEXT)
        server.wait_for_mail("alice@example.org")
        server.wait_for_log("plugin_failed", plugin="audit", hook="message_accepted")


def test_a_folder_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "audit.jsonl"
    with (
        pytest.raises(ConfigError, match="path: there is no folder"),
        mail_server(plugins=AUDIT, plugin={"audit": {"path": str(path)}}),
    ):
        pass
