"""The routing part of the settings: every problem is told at once, with where it stands."""

from __future__ import annotations

import pytest

from mailserv.errors import ConfigError
from mailserv.mail.address import Address
from mailserv.mail.route import Route
from mailserv.route.table import RoutingTable
from mailserv.settings import Routed, Settings


def test_a_table_is_read_from_settings() -> None:
    table = RoutingTable.from_settings(
        Settings(
            hostname="mx.example.org",
            local_domains=("example.org",),
            aliases={"Info@Example.org": ("alice@example.org", "Bob@example.net")},
            catch_all={"Example.ORG": "alice@example.org"},
            postmaster="alice@example.org",
            routes={"example.net": Routed(to="smtp:[192.0.2.1]:587", user="u"), "*": "smtp:smart.example"},
        ),
        local_ips=["192.0.2.7"],
    )
    assert table.aliases == {"info@example.org": (Address("alice", "example.org"), Address("Bob", "example.net"))}
    assert table.catch_all == {"example.org": Address("alice", "example.org")}
    assert table.postmaster == Address("alice", "example.org")
    assert table.hops.find("example.net") == Route("smtp", "[192.0.2.1]:587")
    assert table.hops.find("other.example") == Route("smtp", "smart.example")
    assert table.domains.ips == {"192.0.2.7"}


def problems(**settings: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        RoutingTable.from_settings(
            Settings(**{"hostname": "mx.example.org", "local_domains": ("example.org",), **settings})
        )
    return caught.value.problems


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hostname": "not a name"}, ["hostname", "not a name"]),
        ({"local_domains": ("exa mple",)}, ["local_domains", "exa mple"]),
        ({"aliases": {"info": ("alice@example.org",)}}, ['aliases."info"', "local-part@domain"]),
        ({"aliases": {"info@example.net": ("alice@example.org",)}}, ["example.net is not one of local_domains"]),
        ({"aliases": {"info@example.org": ()}}, ["at least one address"]),
        ({"aliases": {"info@example.org": ("alice",)}}, ['aliases."info@example.org"', '"alice"']),
        (
            {"aliases": {"info@example.org": ("a@example.org",), "INFO@example.org": ("b@example.org",)}},
            ["already there"],
        ),
        ({"catch_all": {"example.net": "alice@example.org"}}, ["example.net is not one of local_domains"]),
        ({"catch_all": {"example.org": "alice"}}, ['catch_all."example.org"', "local-part@domain"]),
        ({"catch_all": {"exa mple": "alice@example.org"}}, ['catch_all."exa mple"']),
        ({"postmaster": "alice"}, ["postmaster", "local-part@domain"]),
        ({"routes": {"example.net": "nonsense"}}, ['routes."example.net"', "no route"]),
        ({"routes": {"exa mple": "smtp:x.example"}}, ['routes."exa mple"']),
        ({"routes": {"Example.org": "smtp:x.example"}}, ['routes."Example.org"', "one of local_domains"]),
        ({"routes": {"a.example": "smtp:x.example", "A.example": "smtp:y.example"}}, ["same domain"]),
    ],
)
def test_what_is_wrong_is_told_with_its_place(settings: dict[str, object], words: list[str]) -> None:
    [problem] = problems(**settings)
    for word in words:
        assert word in problem


def test_all_problems_are_told_at_once() -> None:
    found = problems(postmaster="x", aliases={"y": ("z",)}, routes={"example.net": "nonsense"})
    assert len(found) == 4
