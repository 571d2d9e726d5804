"""Values by domain: the nearest entry counts."""

from __future__ import annotations

import pytest

from mailserv.mail.domain_table import DomainTable

TABLE = DomainTable(
    {"Example.NET": 1, ".example.net": 2, ".deep.example.net": 3, "[192.0.2.1]": 4, "bücher.example": 5}
)


@pytest.mark.parametrize(
    ("domain", "value"),
    [
        ("example.net", 1),
        ("a.example.net", 2),
        ("deep.example.net", 2),
        ("a.b.deep.example.net", 3),
        ("[192.0.2.1]", 4),
        ("[192.0.2.2]", None),
        ("xn--bcher-kva.example", 5),
        ("notexample.net", None),
        ("net", None),
        ("", None),
    ],
)
def test_the_domain_itself_goes_before_its_nearest_parent(domain: str, value: int | None) -> None:
    assert TABLE.find(domain) == value


def test_only_a_domain_with_an_entry_of_its_own_is_in_it() -> None:
    assert "example.net" in TABLE
    assert "a.example.net" not in TABLE
    assert list(TABLE)[:2] == ["example.net", ".example.net"]


@pytest.mark.parametrize("key", ["", ".", "exa mple", "@example.net", "*"])
def test_what_is_no_domain_is_named(key: str) -> None:
    with pytest.raises(ValueError, match="is no domain"):
        DomainTable({key: 1})


def test_two_entries_for_one_domain_are_refused() -> None:
    with pytest.raises(ValueError, match="two entries name the same domain"):
        DomainTable({"example.net": 1, "Example.net": 2})
