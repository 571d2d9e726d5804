"""Somebody else's package: a new EHLO keyword, a verb, a MAIL parameter and a transport; no line of ours changed."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from serving import port_of, running
from smtp_talk import SmtpTalk

SETUP = """
from setuptools import setup

setup(
    name="example-priority",
    version="1.0",
    py_modules=["example_priority"],
    entry_points={"mailserv.plugins": ["priority = example_priority:Plugin"]},
)
"""
PLUGIN = '''
"""XPRIORITY: a message says how urgent it is; mail for shelf.example goes to a folder, the urgent on top."""

from pathlib import Path

import msgspec

from mailserv import hookimpl
from mailserv.mail.delivery import Attempt
from mailserv.mail.extension import Parameter, SMTPExtension, Verb
from mailserv.mail.outcome import Delivered
from mailserv.mail.reply import SYNTAX, Reply
from mailserv.mail.resolution import Resolution
from mailserv.mail.route import Route


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    shelf: Path


class Plugin:
    Settings = Settings

    def __init__(self, settings, services):
        self.shelf = settings.shelf

    @hookimpl
    def register_smtp_extensions(self):
        def check(view, value):
            return None if value in {"1", "2", "3"} else SYNTAX

        verb = Verb("XPRIORITY", lambda view, argument: Reply(250, "2.0.0", "1 is urgent, 3 is not"))
        parameter = Parameter("XPRIORITY", check, growth=12)
        return [SMTPExtension("XPRIORITY", "1 2 3", verbs=(verb,), mail_params=(parameter,))]

    @hookimpl
    def resolve_recipient(self, address):
        if address.domain == "shelf.example":
            return Resolution(remotes=((address, Route("shelf", "top")),), is_local=True)

    @hookimpl
    def register_transports(self):
        return [("shelf", self)]

    def deliver(self, deliveries):
        for delivery in deliveries:
            name = f"{delivery.parameters.get('XPRIORITY', '3')}-{delivery.queue_id}"
            (self.shelf / name).write_bytes(b"".join(delivery.content.blocks()))
            yield Attempt(delivery, tuple(Delivered(Reply(250, "2.0.0", "on the shelf")) for _ in delivery.rows))

    def close(self):
        pass
'''
CONFIG = """
hostname = "mail.example.org"
data_dir = "{folder}/data"
local_domains = ["example.org"]
listen = [{{ service = "smtp", address = "127.0.0.1:0" }}]

[plugins]
enabled = ["priority"]

[plugin.priority]
shelf = "{folder}/shelf"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "package").mkdir()
    (tmp_path / "shelf").mkdir()
    (tmp_path / "package" / "setup.py").write_text(SETUP)
    (tmp_path / "package" / "example_priority.py").write_text(PLUGIN)
    (tmp_path / "mailserv.toml").write_text(CONFIG.format(folder=tmp_path))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [*pip, "--target", str(tmp_path / "site"), str(tmp_path / "package")],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return tmp_path


def test_a_package_of_somebody_else_brings_a_keyword_a_verb_a_parameter_and_a_transport(folder: Path) -> None:
    path = {"PYTHONPATH": str(folder / "site")}
    with running("serve", "--config", str(folder / "mailserv.toml"), cwd=folder, **path) as process:
        ready = process.until("^ready ")
        with SmtpTalk(socket.create_connection(("127.0.0.1", port_of(ready, "smtp")), 20)) as client:
            assert client.say("EHLO client.example.net") == "250 XPRIORITY 1 2 3"
            assert client.say("XPRIORITY") == "250 2.0.0 1 is urgent, 3 is not"
            assert client.say("MAIL FROM:<x@example.net> XPRIORITY=9").startswith("501")
            assert client.say("MAIL FROM:<x@example.net> XPRIORITY=1").startswith("250")
            assert client.say("RCPT TO:<stranger@elsewhere.example>").startswith("550 5.7.1")
            assert client.say("RCPT TO:<anybody@shelf.example>").startswith("250")
            assert client.say("DATA").startswith("354")
            client.send(b"Subject: now\r\n\r\nNow.\r\n.\r\n")
            assert client.reply().startswith("250 2.0.0 queued as ")
        process.until("event=delivery .*outcome=delivered")
        assert process.stop()[0] == 0
    (taken,) = (folder / "shelf").iterdir()
    assert taken.name.startswith("1-")
    assert taken.read_bytes().endswith(b"Subject: now\r\n\r\nNow.\r\n")
