"""Passwords: argon2id, the same answer time for everybody, at most two at once."""

from __future__ import annotations

import threading

import pytest
from argon2 import PasswordHasher
from argon2.exceptions import HashingError, VerificationError
from argon2.low_level import error_to_str

from mailserv.errors import StoreUnavailable
from mailserv.store.passwords import hash_password, verify_password


def test_a_hash_fits_its_password_only() -> None:
    stored = hash_password("correct horse")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert verify_password(stored, "correct horse")
    assert not verify_password(stored, "correct horse ")
    assert not verify_password(stored, "")


def test_two_hashes_of_one_password_differ() -> None:
    assert hash_password("x") != hash_password("x")


@pytest.mark.parametrize("password", ["", "pässwörd", "with\0nul", "\udcff", "x" * 5000])
def test_any_text_may_be_a_password(password: str) -> None:
    assert verify_password(hash_password(password), password)


@pytest.mark.parametrize("stored", ["", "plain text", "$argon2id$v=19$m=19456,t=2,p=1$short"])
def test_a_damaged_hash_fits_nothing(stored: str) -> None:
    assert not verify_password(stored, stored)


@pytest.mark.parametrize("code", [-22, -33])  # ARGON2_MEMORY_ALLOCATION_ERROR, ARGON2_THREAD_FAIL
@pytest.mark.parametrize("stored", ["hash", None])
def test_where_there_is_no_room_for_it_nobody_is_told_that_the_password_is_wrong(code: int, stored: str | None) -> None:
    class Exhausted:
        def verify(self, stored: str, password: bytes) -> bool:
            raise VerificationError(error_to_str(code))

    with pytest.raises(StoreUnavailable, match="cannot be checked now"):
        verify_password(stored, "correct horse", hasher=Exhausted())


@pytest.mark.parametrize("code", [-22, -33])
def test_where_there_is_no_room_for_it_no_hash_is_made_and_that_is_said(code: int) -> None:
    class Exhausted:
        def hash(self, password: bytes) -> str:
            raise HashingError(error_to_str(code))

    with pytest.raises(StoreUnavailable, match=f"^a password cannot be hashed now: {error_to_str(code)}$"):
        hash_password("correct horse", maker=Exhausted())


def test_an_unknown_account_costs_the_same_work() -> None:
    checked: list[str] = []

    class Counting:
        def verify(self, stored: str, password: bytes) -> bool:
            checked.append(stored)
            return PasswordHasher().verify(stored, password)

    assert not verify_password(None, "guess", hasher=Counting())
    (stored,) = checked
    assert stored.split("$")[1:4] == hash_password("x").split("$")[1:4]


def test_no_more_than_two_are_verified_at_once_and_always_on_the_same_two_threads() -> None:
    inside, most = 0, 0
    ran_on: set[int] = set()
    lock = threading.Lock()
    two = threading.Barrier(2)

    class Slow:
        def verify(self, stored: str, password: bytes) -> bool:
            nonlocal inside, most
            with lock:
                ran_on.add(threading.get_native_id())
                inside += 1
                most = max(most, inside)
            two.wait(10)  # they do run two at a time …
            with lock:
                inside -= 1
            return True

    threads = [
        threading.Thread(target=verify_password, args=("hash", "x"), kwargs={"hasher": Slow()}) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2  # … and never more
    assert len(ran_on) == 2  # each thread that ever did it keeps its 19 MiB
