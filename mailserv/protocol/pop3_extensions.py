"""The POP3 extensions of a server, by capability and verb (RFC 2449)."""

from __future__ import annotations

from collections.abc import Sequence

from mailserv.mail.pop3_extension import Pop3Extension, Pop3Verb, Pop3View
from mailserv.protocol.pop3_commands import CAPABILITIES, COMMANDS


class Pop3ExtensionTable:
    """Built once, never changed: any number of threads may use it.

    Raises ValueError when two extensions claim one capability or verb, or one of them what is ours.
    """

    def __init__(self, extensions: Sequence[Pop3Extension] = ()) -> None:
        self._extensions = tuple(extensions)
        self._verbs: dict[bytes, tuple[Pop3Extension, Pop3Verb]] = {}
        keywords = set(CAPABILITIES)
        for extension in self._extensions:
            keyword = extension.keyword.upper()
            if keyword and keyword in keywords:
                raise ValueError(f"two claim the capability {keyword}")
            keywords.add(keyword)
            for verb in extension.verbs:
                self._claim(extension, verb)

    def capabilities(self, view: Pop3View) -> list[str]:
        """The lines of CAPA for this session now, in the order of the extensions."""
        lines = []
        for extension in self._extensions:
            if extension.keyword and view.peer.service in extension.services:
                text = extension.text(view)
                if text is not None:
                    lines.append(f"{extension.keyword} {text}" if text else extension.keyword)
        return lines

    def verb(self, word: bytes, service: str) -> Pop3Verb | None:
        """By its name in capitals, where this service has it."""
        claim = self._verbs.get(word)
        return claim[1] if claim and service in claim[0].services else None

    def needs_timestamp(self, service: str) -> bool:
        """Whether the greeting of this service ends in one (RFC 1939 §7)."""
        return any(each.needs_timestamp and service in each.services for each in self._extensions)

    def _claim(self, extension: Pop3Extension, verb: Pop3Verb) -> None:
        word = verb.name.upper().encode("ascii")
        if word in self._verbs or word in COMMANDS:
            raise ValueError(f"two claim the verb {verb.name.upper()}")
        self._verbs[word] = (extension, verb)


NO_EXTENSIONS = Pop3ExtensionTable()
