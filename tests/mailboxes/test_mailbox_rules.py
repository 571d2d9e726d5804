"""What `[mailboxes]` comes to, and what CAPA says of it (RFC 2449 §6.7)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mailserv.config import load, read_mapping
from mailserv.mailboxes.rules import Rule, Rules

ALICE, BOB = "alice@example.org", "bob@example.org"


def rules(mailboxes: dict[str, Any]) -> Rules:
    return Rules.from_settings(read_mapping({"hostname": "mail.example.org", "mailboxes": mailboxes}).mailboxes)


def test_an_account_has_what_is_said_of_it_and_the_rest_of_all() -> None:
    found = rules({"expire": "30d", "quota": "1GB", "accounts": {"Alice@EXAMPLE.org": {"quota": "5GB"}}})
    assert found.of(ALICE) == Rule(expire=30 * 86_400, quota=5 * 10**9)
    assert found.of(BOB) == Rule(expire=30 * 86_400, quota=10**9)


def test_nothing_lifts_a_limit_for_one_account() -> None:
    found = rules({"expire": "30d", "quota": "1GB", "accounts": {ALICE: {"quota": 0, "expire": "0s"}}})
    assert found.of(ALICE) == Rule()
    assert found.have_quotas


def test_a_quota_is_known_to_be_set_anywhere() -> None:
    assert not rules({}).have_quotas
    assert not rules({"expire": "1d"}).have_quotas
    assert rules({"accounts": {ALICE: {"quota": "1GB"}}}).have_quotas


@pytest.mark.parametrize(
    ("mailboxes", "before_login", "of_alice", "of_bob"),
    [
        ({}, "NEVER", "NEVER", "NEVER"),
        ({"expire": "30d"}, "30", "30", "30"),
        ({"expire": "30d", "leave_on_server_max": "7d"}, "7", "7", "7"),
        ({"leave_on_server_max": "12h"}, "0", "0", "0"),
        ({"expire": "47h"}, "1", "1", "1"),
        ({"expire": "30d", "accounts": {ALICE: {"expire": "60d"}}}, "30 USER", "60", "30"),
        ({"accounts": {ALICE: {"expire": "60d"}}}, "60 USER", "60", "NEVER"),
        ({"expire": "30d", "accounts": {ALICE: {"expire": "0s"}}}, "30 USER", "NEVER", "30"),
        ({"expire": "30d", "accounts": {ALICE: {"quota": "5GB"}}}, "30", "30", "30"),
    ],
)
def test_expire_tells_the_shortest_time_and_whether_it_is_everybody_s(
    mailboxes: dict[str, Any], before_login: str, of_alice: str, of_bob: str
) -> None:
    found = rules(mailboxes)
    assert found.expire_argument() == before_login
    assert found.expire_argument(ALICE) == of_alice
    assert found.expire_argument(BOB) == of_bob


def test_what_is_odd_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "mailserv.toml"
    path.write_text(
        'hostname = "mail.example.org"\nlocal_domains = ["example.org"]\npostmaster = "alice@example.org"\n'
        '[[listen]]\nservice = "smtp"\naddress = "127.0.0.1:0"\n'
        '[mailboxes]\nexpire = "30d"\nquota = "10MB"\n'
        'accounts."alice@example.org" = { expire = "1h", quota = "1GB" }\n'
        'accounts."bob@example.org" = { leave_on_server_max = "60d" }\n'
    )
    assert [line.removeprefix(f"{path}:") for line in load(path).warnings] == [
        "9: mailboxes.quota: is less than limits.message_size: the largest messages never fit",
        '10: mailboxes.accounts."alice@example.org".expire: is less than a day: mail may be gone before anybody has seen it',
        '11: mailboxes.accounts."bob@example.org".leave_on_server_max: is not before expire: it never comes to that',
    ]
