"""Nouns read back exactly as they were written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserv.mail.address import NULL_REVERSE_PATH, Address
from mailserv.mail.trace import TraceEntry
from mailserv.store import codec

TEXT = st.text(st.characters(codec="utf-8"))


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.from_regex(r"[a-z0-9.\[\]:-]*", fullmatch=True))
def test_an_address_reads_back(local_part: str, domain: str) -> None:
    address = Address(local_part, domain)
    assert codec.unpack_address(codec.pack_address(address)) == address


@pytest.mark.parametrize("address", [NULL_REVERSE_PATH, Address("postmaster", ""), Address('a"@b', "[IPv6:::1]")])
def test_addresses_at_the_edge_read_back(address: Address) -> None:
    assert codec.unpack_address(codec.pack_address(address)) == address


@given(st.dictionaries(TEXT, TEXT))
def test_parameters_read_back(parameters: dict[str, str]) -> None:
    assert codec.unpack_parameters(codec.pack_parameters(parameters)) == parameters


@given(st.lists(st.builds(TraceEntry, st.floats(0, 2e9), TEXT, TEXT, st.dictionaries(TEXT, TEXT | st.integers(0, 99)))))
def test_trace_reads_back(entries: list[TraceEntry]) -> None:
    assert codec.unpack_trace(codec.pack_trace(entries)) == entries


@pytest.mark.parametrize("text", ["", "[", '{"a": 1}', "[1]", "nonsense"])
def test_what_is_no_json_of_ours_is_told_apart(text: str) -> None:
    with pytest.raises(codec.Undecodable):
        codec.unpack_parameters(text)
    with pytest.raises(codec.Undecodable):
        codec.unpack_trace(text)
