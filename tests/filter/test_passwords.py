"""A password that argon2id found right is known again, for an hour, by nothing that would help who stole the database."""

from __future__ import annotations

import poplib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mailserv.filter.limits import LoginThrottle
from mailserv.filter.logins import LoggedIn, LoginRefused, Logins
from mailserv.filter.passwords import Passwords
from mailserv.settings import Duration, Limits
from mailserv.store.interface import Store
from mailserv.store.passwords import hash_password, verify_password
from mailserv.store.sqlite import open_store
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import mail_server

ALICE = "alice@example.org"
HASHES = {"secret": hash_password("secret"), "another": hash_password("another")}
HOUR = 3600.0


class Checker:
    """Passwords over a clock that stands still; `asked`: each password that argon2id was asked about."""

    def __init__(self, seconds: float = HOUR, most: int = 10, key: bytes = b"k" * 32) -> None:
        self.clock = FakeClock()
        self.asked: list[str] = []
        self.passwords = Passwords(self.clock, key, seconds, most=most, verify=self._verify)

    def _verify(self, stored: str | None, password: str) -> bool:
        self.asked.append(password)
        return verify_password(stored, password)

    def check(self, password: str, *, address: str = ALICE, stored: str | None = HASHES["secret"]) -> bool:
        return self.passwords.is_right(address, stored, password)


def test_a_right_password_is_looked_at_once() -> None:
    checker = Checker()
    assert [checker.check("secret") for _ in range(5)] == [True] * 5
    assert checker.asked == ["secret"]


def test_a_wrong_password_is_looked_at_each_time_also_after_a_right_one() -> None:
    checker = Checker()
    given = ["wrong", "wrong", "secret", "wrong", "secre", "secret ", "", "secret"]
    assert [checker.check(password) for password in given] == [password == "secret" for password in given]
    assert checker.asked == given[:-1]


def test_the_hour_begins_with_argon2id_and_not_with_the_last_login() -> None:
    checker = Checker()
    for _ in range(3):
        assert checker.check("secret")
        checker.clock.advance(HOUR / 2)
    assert checker.asked == ["secret", "secret"]
    checker.clock.advance(HOUR / 2 - 1)
    assert not checker.check("secret", stored=HASHES["another"])


def test_a_new_password_counts_at_once_and_so_does_the_old_one_when_it_is_set_again() -> None:
    checker = Checker()
    assert checker.check("secret")
    assert not checker.check("secret", stored=HASHES["another"])
    assert checker.check("another", stored=HASHES["another"])
    assert not checker.check("another")
    assert checker.check("secret", stored=hash_password("secret"))  # the same password, but another salt
    assert checker.asked == ["secret", "secret", "another", "another", "secret"]


def test_a_removed_account_is_not_known_again() -> None:
    checker = Checker()
    assert checker.check("secret")
    assert not checker.check("secret", stored=None)
    assert not checker.check("secret", stored="")
    assert len(checker.asked) == 3


def test_one_account_does_not_open_another() -> None:
    checker = Checker()
    assert checker.check("secret")
    assert checker.check("secret", address="bob@example.org")  # by its own hash, which happens to be the same
    assert checker.asked == ["secret", "secret"]


def test_where_one_part_ends_cannot_be_moved() -> None:
    asked = []

    def yes(stored: str | None, password: str) -> bool:
        asked.append((stored, password))
        return True

    passwords = Passwords(FakeClock(), b"k" * 32, HOUR, verify=yes)
    for stored, password in (("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", "")):
        assert passwords.is_right(ALICE, stored, password)
    assert len(asked) == 4


@pytest.mark.parametrize("password", ["", "pässwörd", "with\0nul", "\udcff", "x" * 5000])
def test_any_text_may_be_a_password(password: str) -> None:
    checker, stored = Checker(), hash_password(password)
    assert checker.check(password, stored=stored)
    assert checker.check(password, stored=stored)
    assert checker.asked == [password]


def test_of_many_accounts_the_oldest_are_forgotten() -> None:
    checker = Checker(most=3)
    for name in "abcd":
        assert checker.check("secret", address=name)
    assert checker.check("secret", address="d")
    assert len(checker.asked) == 4
    assert checker.check("secret", address="a")
    assert len(checker.asked) == 5


def test_what_is_over_is_forgotten_by_the_next_that_comes() -> None:
    checker = Checker()
    for name in "abc":
        assert checker.check("secret", address=name)
    checker.clock.advance(HOUR)
    assert checker.check("secret", address="d")
    assert list(checker.passwords._known) == ["d"]


def test_nothing_is_kept_when_the_setting_says_so() -> None:
    checker = Checker(seconds=0)
    assert [checker.check("secret") for _ in range(3)] == [True] * 3
    assert len(checker.asked) == 3
    assert not checker.passwords._known


def test_neither_password_nor_hash_is_in_what_is_kept_and_another_process_keeps_something_else() -> None:
    one, two = Checker(), Checker(key=b"j" * 32)
    assert one.check("secret")
    assert two.check("secret")
    kept = [each.passwords._known[ALICE][0] for each in (one, two)]
    assert kept[0] != kept[1]
    assert b"secret" not in repr(kept).encode()


# ---------------------------------------------------------------- logins, over a store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(tmp_path, FakeClock())) as opened:
        opened.add_account(ALICE, HASHES["secret"], 0.0)
        yield opened


def login(logins: Logins, password: str, service: str = "pop3") -> LoggedIn | LoginRefused:
    return logins.check(ALICE, password, ip="192.0.2.1", service=service, session_id="S1")


def test_what_pop3_has_found_right_submission_knows(store: Store) -> None:
    checker = Checker()
    logins = Logins(store, LoginThrottle(0, 0, checker.clock), checker.passwords)
    for service in ("pop3", "submission", "pop3s", "submissions"):
        assert login(logins, "secret", service) == LoggedIn(ALICE)
    assert checker.asked == ["secret"]


def test_a_new_password_and_a_removed_account_count_at_the_next_login(store: Store) -> None:
    checker = Checker()
    logins = Logins(store, LoginThrottle(0, 0, checker.clock), checker.passwords)
    refused = LoginRefused(retry_later=False)
    assert login(logins, "secret") == LoggedIn(ALICE)
    store.set_password(ALICE, HASHES["another"])
    assert login(logins, "secret") == refused
    assert login(logins, "another") == LoggedIn(ALICE)
    store.remove_account(ALICE)
    assert login(logins, "another") == refused
    store.add_account(ALICE, HASHES["secret"], 0.0)
    assert login(logins, "another") == refused
    assert login(logins, "secret") == LoggedIn(ALICE)


def test_a_throttled_address_is_refused_though_the_password_is_known(store: Store) -> None:
    checker = Checker()
    logins = Logins(store, LoginThrottle(1, 0, checker.clock), checker.passwords)
    assert login(logins, "secret") == LoggedIn(ALICE)
    assert login(logins, "wrong") == LoginRefused(retry_later=False)
    assert login(logins, "secret") == LoginRefused(retry_later=True, throttled=True)


def test_the_setting_reaches_the_server_and_a_login_is_good_with_and_without() -> None:
    for seconds in (0, 3600):
        with mail_server(limits=Limits(password_cache=Duration(seconds))) as server:
            for password in ("secret", "secret", "wrong", "secret"):
                client = poplib.POP3(*server.address("pop3"), timeout=10)
                client.user(ALICE)
                if password == "wrong":
                    with pytest.raises(poplib.error_proto, match="AUTH"):
                        client.pass_(password)
                else:
                    client.pass_(password)
                client.quit()
