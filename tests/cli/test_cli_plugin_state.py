"""`mailserv plugin list` beside a running server: which hooks rest, and since when."""

from __future__ import annotations

import json
import shutil
import smtplib
from typing import Any

import pytest
from cli_kit import Command

from mailserv import hookimpl
from mailserv.hooks.breaker import FAILURES, REST
from mailserv.hooks.paused import FILE
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import MailServer, mail_server

ALICE = "alice@example.org"


class Polite:
    is_well = False

    def __init__(self, settings: None, services: object) -> None:
        pass

    @hookimpl
    def smtp_helo(self) -> None:
        if not Polite.is_well:
            raise RuntimeError("boom")


def greet(server: MailServer) -> int:
    with smtplib.SMTP(*server.address("smtp")) as client:
        return client.ehlo("client.example.net")[0]


def listed(mailserv: Command) -> dict[str, Any]:
    (row,) = (row for row in json.loads(mailserv("plugin", "list", "--json").out) if row["name"] == "greylist")
    return dict(row)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_hook_that_rests_is_listed_until_it_is_well_again(mailserv: Command, clock: FakeClock) -> None:
    """The class stands in for a plugin that is installed: the command knows only the name."""
    Polite.is_well = False
    greylist = type("greylist", (Polite,), {})
    with mail_server(plugins=[greylist], clock=clock, data_dir=mailserv.data_dir) as server:
        assert listed(mailserv)["paused"] == []
        for _ in range(FAILURES):
            assert greet(server) == 451
        assert listed(mailserv)["paused"] == [{"hook": "smtp_helo", "since": clock.now()}]
        table = mailserv("plugin", "list").out.splitlines()
        (line,) = (line for line in table if line.startswith("greylist "))
        assert "smtp_helo paused since 20" in line
        Polite.is_well = True
        clock.advance(REST)
        assert greet(server) == 250
        assert listed(mailserv)["paused"] == []


def test_what_a_killed_server_left_behind_is_told_by_nobody(mailserv: Command, clock: FakeClock) -> None:
    Polite.is_well = False
    greylist = type("greylist", (Polite,), {})
    with mail_server(plugins=[greylist], clock=clock, data_dir=mailserv.data_dir) as server:
        for _ in range(FAILURES):
            greet(server)
        shutil.copy(mailserv.data_dir / FILE, mailserv.folder / FILE)
    assert not (mailserv.data_dir / FILE).exists()
    shutil.copy(mailserv.folder / FILE, mailserv.data_dir / FILE)
    assert listed(mailserv)["paused"] == []
    with mail_server(plugins=[greylist], clock=clock, data_dir=mailserv.data_dir):
        assert listed(mailserv)["paused"] == []


def test_a_file_that_cannot_be_written_stops_no_mail(mailserv: Command, clock: FakeClock) -> None:
    Polite.is_well = False
    with mail_server(plugins=[Polite], clock=clock, data_dir=mailserv.data_dir) as server:
        (mailserv.data_dir / "paused.new").mkdir()
        for _ in range(FAILURES + 1):
            assert greet(server) == 451
        server.wait_for_log("paused_not_told")
        Polite.is_well = True
        clock.advance(REST)
        server.send("x@example.net", [ALICE], b"Hi.\r\n")
