"""Listings that are kept are the truth at each login, and bounded."""

from __future__ import annotations

from pop3_kit import ALICE, Pop3

from mailserv.pop3.listings import Listings

BOB, CAROL = "bob@example.org", "carol@example.org"


def told(server: Pop3, *commands: bytes) -> list[bytes]:
    """What a session of its own is told by UIDL and LIST, after these commands; it ends by QUIT."""
    wire = server.wire().log_in()
    for command in commands:
        assert wire.ask(command).startswith(b"+OK")
    found = []
    for command in (b"UIDL", b"LIST"):
        assert wire.ask(command).startswith(b"+OK")
        found += wire.lines()
    sizes = [int(line.split()[1]) for line in found[len(found) // 2 :]]
    assert wire.ask(b"STAT") == b"+OK %d %d\r\n" % (len(sizes), sum(sizes))
    wire.ask(b"QUIT")
    wire.close()
    return found


def test_each_login_sees_the_mailbox_as_it_is_then(server: Pop3) -> None:
    for number in range(1, 4):
        server.deliver(f"Q{number}", b"x" * number)
    all_three = [b"1 Q1.0\r\n", b"2 Q2.0\r\n", b"3 Q3.0\r\n", b"1 33\r\n", b"2 34\r\n", b"3 35\r\n"]
    assert told(server) == told(server) == all_three
    server.deliver("Q4", b"xxxx")
    assert told(server) == [*all_three[:3], b"4 Q4.0\r\n", *all_three[3:], b"4 36\r\n"]
    assert told(server, b"DELE 2") == [
        b"1 Q1.0\r\n",
        b"3 Q3.0\r\n",
        b"4 Q4.0\r\n",
        b"1 33\r\n",
        b"3 35\r\n",
        b"4 36\r\n",
    ]
    assert told(server) == [b"1 Q1.0\r\n", b"2 Q3.0\r\n", b"3 Q4.0\r\n", b"1 33\r\n", b"2 35\r\n", b"3 36\r\n"]
    assert told(server, b"DELE 1", b"DELE 2", b"RSET", b"DELE 3") == [
        b"1 Q1.0\r\n",
        b"2 Q3.0\r\n",
        b"1 33\r\n",
        b"2 35\r\n",
    ]
    assert told(server) == [b"1 Q1.0\r\n", b"2 Q3.0\r\n", b"1 33\r\n", b"2 35\r\n"]


def test_a_session_that_was_lost_leaves_what_the_next_one_sees(server: Pop3) -> None:
    server.deliver("Q1", b"x")
    wire = server.wire().log_in()
    assert wire.ask(b"DELE 1").startswith(b"+OK")
    wire.close()
    assert server.sessions_over.acquire(timeout=10)
    assert told(server) == [b"1 Q1.0\r\n", b"1 33\r\n"]


def test_what_has_not_changed_is_made_once(server: Pop3) -> None:
    server.deliver("Q1", b"x")
    listings, store = Listings(), server.real_store
    listing, snapshot = listings.of(store, ALICE)
    text = snapshot.unique_ids
    assert listings.of(store, ALICE) == (listing, snapshot)
    assert listings.of(store, ALICE)[1].unique_ids is text
    server.deliver("Q2", b"x")
    assert listings.of(store, ALICE)[1] is not snapshot


def test_of_many_maildrops_those_are_kept_that_were_opened_last(server: Pop3) -> None:
    store = server.real_store
    for address in (BOB, CAROL):
        store.add_account(address, "hash", 0.0)
    server.deliver("Q1", b"x")
    listings = Listings(most=30)  # two of these small ones: each counts ten more than it holds
    alice, bob = listings.of(store, ALICE)[1], listings.of(store, BOB)[1]
    assert listings.of(store, ALICE)[1] is alice
    listings.of(store, CAROL)
    assert listings.of(store, ALICE)[1] is alice
    assert listings.of(store, BOB)[1] is not bob


def test_one_that_is_larger_than_all_may_be_is_not_kept(server: Pop3) -> None:
    for number in range(12):
        server.deliver(f"Q{number}", b"x")
    listings = Listings(most=20)
    first = listings.of(server.real_store, ALICE)
    assert len(first[0].messages) == 12
    assert listings.of(server.real_store, ALICE)[0] is not first[0]
    server.real_store.delete(first[0].messages[:5])
    assert listings.of(server.real_store, ALICE)[1] is listings.of(server.real_store, ALICE)[1]
