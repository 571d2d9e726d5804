"""From a forward-path to mailboxes and next hops, in the documented order."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing import delivered_to, reached, router

from mailserv.hooks.round import unasked
from mailserv.mail import reply
from mailserv.mail.address import NULL_REVERSE_PATH, Address, parse_mailbox
from mailserv.mail.route import Route
from mailserv.route.router import MAX_DEPTH

# Accounts and subaddresses.


@pytest.mark.parametrize(
    ("text", "accounts"),
    [
        ("alice@example.org", ["alice@example.org"]),
        ("ALICE@EXAMPLE.ORG", ["alice@example.org"]),
        ('"alice"@example.org', ["alice@example.org"]),
        ("carol@second.example", ["carol@second.example"]),
        ("alice@second.example", ["5.1.1"]),
        ("nobody@example.org", ["5.1.1"]),
        ("alice+tag@example.org", ["alice@example.org"]),
        ("alice+@example.org", ["alice@example.org"]),
        ("alice+a+b@example.org", ["alice@example.org"]),
        ("nobody+tag@example.org", ["5.1.1"]),
        ("+alice@example.org", ["5.1.1"]),
        ("with+plus@example.org", ["with+plus@example.org"]),
        ("with@example.org", ["5.1.1"]),
    ],
)
def test_an_account_is_found_by_its_name_and_its_subaddresses(text: str, accounts: list[str]) -> None:
    assert reached(router(), text) == accounts


def test_delivered_to_keeps_the_tag() -> None:
    assert delivered_to(router(), "Alice+Tag@example.org") == ["Alice+Tag@example.org"]


def test_another_separator_or_none_can_be_set() -> None:
    assert reached(router(subaddress="-"), "alice-tag@example.org") == ["alice@example.org"]
    assert reached(router(subaddress="-"), "alice+tag@example.org") == ["5.1.1"]
    assert reached(router(subaddress=""), "alice+tag@example.org") == ["5.1.1"]


def test_an_unknown_user_is_refused_as_ours() -> None:
    resolution = router().resolve(Address("nobody", "example.org"))
    assert resolution.refusal == reply.UNKNOWN_USER
    assert resolution.is_local
    assert resolution.steps == ("unknown nobody@example.org",)


def test_the_null_path_is_no_recipient() -> None:
    assert router().resolve(NULL_REVERSE_PATH).refusal == reply.BAD_FORWARD_PATH


# Aliases.


def test_an_alias_stands_for_its_targets_local_and_remote() -> None:
    made = router(aliases={"info@example.org": ("alice@example.org", "Dave@example.net", "carol@second.example")})
    assert reached(made, "INFO@example.org") == ["alice@example.org", "carol@second.example", "Dave@example.net"]
    resolution = made.resolve(Address("info", "example.org"))
    assert resolution.is_local
    assert resolution.remotes == ((Address("Dave", "example.net"), Route("smtp", "example.net")),)


def test_an_alias_goes_before_an_account_of_the_same_name() -> None:
    assert reached(router(aliases={"alice@example.org": ("bob@example.org",)}), "alice@example.org") == [
        "bob@example.org"
    ]


def test_an_exact_account_goes_before_the_alias_of_its_base() -> None:
    made = router(aliases={"with@example.org": ("bob@example.org",)})
    assert reached(made, "with+plus@example.org") == ["with+plus@example.org"]
    assert reached(made, "with+other@example.org") == ["bob@example.org"]


def test_an_alias_for_one_subaddress_goes_before_all_else() -> None:
    made = router(aliases={"alice+lists@example.org": ("bob@example.org",)})
    assert reached(made, "alice+lists@example.org") == ["bob@example.org"]
    assert reached(made, "alice+other@example.org") == ["alice@example.org"]


def test_an_alias_that_names_itself_keeps_a_copy_and_sends_one_on() -> None:
    made = router(aliases={"alice@example.org": ("alice@example.org", "bob@example.org")})
    assert reached(made, "alice@example.org") == ["alice@example.org", "bob@example.org"]
    assert reached(made, "alice+tag@example.org") == ["alice@example.org", "bob@example.org"]


def test_an_alias_to_its_own_subaddress_is_delivered_there() -> None:
    made = router(aliases={"alice@example.org": ("alice+inbox@example.org",)})
    assert delivered_to(made, "alice@example.org") == ["alice+inbox@example.org"]


def test_aliases_nest_and_duplicates_are_removed() -> None:
    made = router(
        aliases={
            "all@example.org": ("staff@example.org", "board@example.org", "dave@example.net"),
            "staff@example.org": ("alice@example.org", "bob@example.org", "dave@example.net"),
            "board@example.org": ("ALICE@example.org", "carol@second.example", "Dave@example.net"),
        }
    )
    assert reached(made, "all@example.org") == [
        "alice@example.org",
        "bob@example.org",
        "carol@second.example",
        "dave@example.net",
        "Dave@example.net",  # the local part of another domain is that domain's to compare (RFC 5321 §2.4)
    ]


def test_two_accounts_that_are_aliases_of_each_other_swap_their_mail() -> None:
    made = router(
        aliases={
            "alice@example.org": ("bob@example.org",),
            "bob@example.org": ("alice@example.org",),
            "both@example.org": ("alice@example.org", "bob@example.org"),
        }
    )
    assert reached(made, "alice@example.org") == ["alice@example.org"]
    assert reached(made, "both@example.org") == ["alice@example.org", "bob@example.org"]


@pytest.mark.parametrize("start", ["a", "b", "c", "self"])
def test_a_circle_of_aliases_is_a_routing_loop(start: str) -> None:
    made = router(
        aliases={
            "a@example.org": ("b@example.org",),
            "b@example.org": ("c@example.org",),
            "c@example.org": ("a@example.org",),
            "self@example.org": ("self@example.org",),
        }
    )
    assert reached(made, f"{start}@example.org") == ["5.4.6"]


def test_what_hangs_on_a_circle_is_still_delivered() -> None:
    made = router(
        aliases={"a@example.org": ("b@example.org", "bob@example.org"), "b@example.org": ("a@example.org",)},
    )
    assert reached(made, "a@example.org") == ["bob@example.org"]
    assert reached(made, "b@example.org") == ["bob@example.org"]


def test_a_target_that_nobody_knows_is_left_out_while_another_is_left() -> None:
    made = router(
        aliases={"info@example.org": ("gone@example.org", "bob@example.org"), "old@example.org": ("gone@example.org",)}
    )
    assert reached(made, "info@example.org") == ["bob@example.org"]
    assert "unknown gone@example.org" in made.resolve(Address("info", "example.org")).steps
    assert reached(made, "old@example.org") == ["5.1.1"]


def chain(length: int) -> dict[str, tuple[str, ...]]:
    return {f"a{n}@example.org": (f"a{n + 1}@example.org",) for n in range(length)} | {
        f"a{length}@example.org": ("alice@example.org",)
    }


def test_aliases_nest_as_deep_as_the_bound_and_no_deeper() -> None:
    assert reached(router(aliases=chain(MAX_DEPTH - 1)), "a0@example.org") == ["alice@example.org"]
    assert reached(router(aliases=chain(MAX_DEPTH)), "a0@example.org") == ["5.4.6"]


def test_an_alias_of_a_thousand_recipients_is_expanded_and_one_of_more_is_refused() -> None:
    made = router(
        aliases={
            "all@example.org": tuple(f"u{n}@example.net" for n in range(1000)),
            "more@example.org": tuple(f"u{n}@example.net" for n in range(1001)),
        }
    )
    assert len(reached(made, "all@example.org")) == 1000
    assert reached(made, "more@example.org") == ["5.2.4"]
    assert len(made.resolve(Address("all", "example.org")).steps) == 50


def test_an_alias_bomb_is_refused_in_little_time() -> None:
    layers = 15
    bomb = {
        f"l{layer}-{n}@example.org": tuple(f"l{layer + 1}-{m}@example.org" for m in range(10))
        for layer in range(layers)
        for n in range(10)
    }
    made = router(aliases=bomb | {f"l{layers}-{n}@example.org": ("alice@example.org",) for n in range(10)})
    before = time.process_time()
    assert reached(made, "l0-0@example.org") == ["5.2.4"]
    assert time.process_time() - before < 1.0


names = st.sampled_from([f"{name}@example.org" for name in ("alice", "bob", "c", "d", "e")] + ["x@example.net"])


@given(st.dictionaries(names.filter(lambda n: "net" not in n), st.lists(names, min_size=1, max_size=4)), names)
def test_any_table_of_aliases_comes_to_an_end(table: dict[str, list[str]], start: str) -> None:
    made = router(aliases={name: tuple(targets) for name, targets in table.items()})
    resolution = made.resolve(parse_mailbox(start))
    assert bool(resolution.refusal) != bool(resolution.mailboxes or resolution.remotes)
    accounts = [account for account, _ in resolution.mailboxes]
    assert len(accounts) == len(set(accounts))
    assert set(accounts) <= {"alice@example.org", "bob@example.org"}


# Catch-all.


def test_a_catch_all_takes_what_nobody_else_does() -> None:
    made = router(catch_all={"example.org": "bob@example.org"})
    assert reached(made, "nobody@example.org") == ["bob@example.org"]
    assert reached(made, "alice@example.org") == ["alice@example.org"]
    assert reached(made, "nobody@second.example") == ["5.1.1"]


def test_a_catch_all_may_be_an_alias_or_elsewhere() -> None:
    made = router(
        catch_all={"example.org": "team@example.org", "second.example": "all@example.net"},
        aliases={"team@example.org": ("alice@example.org", "bob@example.org")},
    )
    assert reached(made, "nobody@example.org") == ["alice@example.org", "bob@example.org"]
    assert reached(made, "nobody@second.example") == ["all@example.net"]


def test_a_catch_all_to_nobody_refuses() -> None:
    assert reached(router(catch_all={"example.org": "gone@example.org"}), "nobody@example.org") == ["5.1.1"]


# Literals.


def test_a_literal_of_ours_is_the_primary_domain() -> None:
    made = router(local_ips=("192.0.2.1",))
    assert reached(made, "alice@[192.0.2.1]") == ["alice@example.org"]
    assert reached(made, "nobody@[192.0.2.1]") == ["5.1.1"]
    assert reached(made, "alice@[192.0.2.2]") == ["alice@[192.0.2.2]"]
    assert reached(made, "alice@[192.0.2.2]", here="192.0.2.2") == ["alice@example.org"]


# Sending as.


@pytest.mark.parametrize(
    ("reverse_path", "allowed"),
    [
        ("alice@example.org", True),
        ("ALICE+tag@example.org", True),
        ("info@example.org", True),
        ("bob@example.org", False),
        ("forward@example.org", False),
        ("nobody@example.org", False),
        ("alice@example.net", False),
    ],
)
def test_a_login_sends_as_what_reaches_it(reverse_path: str, allowed: bool) -> None:
    made = router(
        aliases={
            "info@example.org": ("alice@example.org", "bob@example.org"),
            "forward@example.org": ("alice@example.net",),
        }
    )
    assert unasked(made.may_send_as("alice@example.org", parse_mailbox(reverse_path))) is allowed
    assert unasked(made.may_send_as("alice@example.org", NULL_REVERSE_PATH))


def test_a_login_sends_as_itself_wherever_its_mail_goes() -> None:
    made = router(aliases={"alice@example.org": ("alice@example.net",)})
    assert unasked(made.may_send_as("alice@example.org", parse_mailbox("Alice@example.org")))


def test_steps_tell_the_way() -> None:
    made = router(aliases={"info@example.org": ("alice+x@example.org", "d@example.net")})
    assert made.resolve(Address("info", "example.org")).steps == (
        "alias info@example.org: alice+x@example.org, d@example.net",
        "mailbox alice@example.org",
        "route d@example.net: smtp:example.net",
    )
