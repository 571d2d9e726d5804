"""mailserv_magic: a recipient's name is its answer, in the domains that are set and nowhere else."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator

import pytest

from mailserv.errors import ConfigError
from mailserv.testing.server import MailServer, mail_server


@pytest.fixture(scope="module")
def server() -> Iterator[MailServer]:
    magic = {"domains": ["Example.ORG"], "timeout": "1s"}
    with mail_server(plugins=["magic"], config={"plugin": {"magic": magic}}, services=("smtp",)) as running:
        yield running


def rcpt(server: MailServer, recipient: str) -> tuple[int, bytes]:
    with smtplib.SMTP(*server.address("smtp"), "client.example.net") as client:
        client.ehlo()
        client.mail("carol@example.net")
        return client.rcpt(recipient)


@pytest.mark.parametrize(
    ("local_part", "code", "enhanced"),
    [
        ("tempfail", 451, b"4.3.0"),
        ("permfail", 550, b"5.1.1"),
        ("PermFail", 550, b"5.1.1"),
        ("timeout", 451, b"4.3.0"),
        ("450", 450, b"4.2.0"),
        ("452", 452, b"4.2.2"),
        ("499", 499, b"4.0.0"),
        ("550", 550, b"5.1.1"),
        ("552", 552, b"5.2.2"),
        ("599", 599, b"5.0.0"),
        ("alice", 250, b"2.1.5"),
    ],
)
def test_a_recipients_name_is_its_answer(server: MailServer, local_part: str, code: int, enhanced: bytes) -> None:
    got, text = rcpt(server, f"{local_part}@example.org")
    assert (got, text.split()[0]) == (code, enhanced)


@pytest.mark.parametrize("local_part", ["421", "250", "600", "4500", "tempfails"])
def test_any_other_name_is_a_name_like_any(server: MailServer, local_part: str) -> None:
    assert rcpt(server, f"{local_part}@example.org")[0] == 550
    assert b"magic" not in rcpt(server, f"{local_part}@example.org")[1]


def test_another_domain_is_no_business_of_it(server: MailServer) -> None:
    assert rcpt(server, "450@example.net")[0] == 550  # relaying denied


def test_it_wants_to_know_where() -> None:
    with pytest.raises(ConfigError, match=r"plugin\.magic\.domains"), mail_server(plugins=["magic"]):
        pass
