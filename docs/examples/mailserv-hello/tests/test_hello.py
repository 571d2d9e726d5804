"""hello on the real server. The fixture `mail_server` comes with mailserv."""

from __future__ import annotations

import smtplib
from typing import Any

import pytest
from mailserv_hello import Plugin

MESSAGE = b"Subject: Hi\r\n\r\nHi.\r\n"


@pytest.mark.parametrize(
    ("name", "code"), [("mail.example.org", 550), ("MX.Example.ORG", 550), ("client.example.net", 250)]
)
def test_only_somebody_else_may_come_in(mail_server: Any, name: str, code: int) -> None:
    server = mail_server(plugins=[Plugin], config={"plugin": {"hello": {"names": ["mx.example.org"]}}})
    with smtplib.SMTP(*server.address("smtp")) as client:
        assert client.ehlo(name)[0] == code


def test_each_message_is_logged_with_the_name_that_its_client_said(mail_server: Any) -> None:
    server = mail_server(plugins=[Plugin])
    server.send("carol@example.net", ["alice@example.org"], MESSAGE)
    (line,) = server.wait_for_log("hello")
    assert (line["helo"], line["recipients"]) == ("client.example.net", 1)
