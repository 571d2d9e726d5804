"""Values by domain: the domain itself goes before ".parent", the nearest parent before one further up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from mailserv.mail.address import parse_domain

T = TypeVar("T")


class DomainTable(Generic[T]):
    """Immutable; any thread. A key with a leading dot is for every name below that domain, and not for itself."""

    def __init__(self, entries: Mapping[str, T]) -> None:
        """`entries` as an operator writes them. Raises ValueError, which names the entry."""
        self._entries: dict[str, T] = {}
        for key, value in entries.items():
            dot = "." if key.startswith(".") else ""
            try:
                self._entries[dot + parse_domain(key.removeprefix("."))] = value
            except ValueError as error:
                raise ValueError(f'"{key}" is no domain: {error}') from error
        if len(self._entries) < len(entries):
            raise ValueError("two entries name the same domain")

    def __contains__(self, domain: str) -> bool:
        """Whether the domain itself has an entry."""
        return domain in self._entries

    def __iter__(self) -> Iterator[str]:
        """Every entry's key, canonical."""
        return iter(self._entries)

    def find(self, domain: str) -> T | None:
        """`domain` is canonical, as an Address has it. None: no entry."""
        found = self._entries.get(domain)
        if found is not None or domain.startswith("["):
            return found
        labels = domain.split(".")
        parents = ("." + ".".join(labels[start:]) for start in range(1, len(labels)))
        return next((self._entries[parent] for parent in parents if parent in self._entries), None)
