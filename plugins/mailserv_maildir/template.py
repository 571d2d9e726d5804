"""Where a recipient's Maildir is: a path with places for the address, which can never lead out of its own component."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from mailserv.mail.address import Address

PLACES = ("local_part", "domain", "address")
LONGEST = 180  # octets of one encoded name: NAME_MAX is 255, and the template may add something
_PLACE = re.compile(r"\{([^{}]*)\}")
_NOT_PLAIN = re.compile(rb"[^a-z0-9@_+=.-]|^\.")


@dataclass(frozen=True, slots=True)
class Template:
    """`text` with its places, `base` the folder above the first of them, which an operator makes (and mounts)."""

    text: str
    base: Path

    @classmethod
    def parse(cls, text: str) -> Template:
        """Raises ValueError, which says what is wrong."""
        unknown = [name for name in _PLACE.findall(text) if name not in PLACES]
        if unknown:
            raise ValueError(f'"{text}": there is no place {{{unknown[0]}}}, only {", ".join(PLACES)}')
        rest = _PLACE.sub("x", text)
        if not rest.startswith("/") or "\0" in rest or "{" in rest or "}" in rest:
            raise ValueError(f'"{text}": a Maildir\'s path starts with /, with {{local_part}} and {{domain}} in it')
        if ".." in rest.split("/"):
            raise ValueError(f'"{text}": a path without ".." is wanted')
        return cls(text, Path(text.partition("{")[0].rpartition("/")[0] or "/"))

    @property
    def tells_apart(self) -> bool:
        """Two users of one domain have two Maildirs."""
        return "{local_part}" in self.text or "{address}" in self.text

    def folder(self, address: Address) -> Path:
        """The Maildir of one recipient."""
        names = {
            "local_part": encode(address.key.rpartition("@")[0]),
            "domain": encode(address.domain),
            "address": encode(address.key),
        }
        return Path(_PLACE.sub(lambda place: names[place.group(1)], self.text))


def encode(name: str) -> str:
    """A name of one path component: what is not plain becomes %XX, so do a dot at its start and every slash.

    Two different names never become one. A very long one ends in a digest, after a character that no other has.
    """
    plain = _NOT_PLAIN.sub(lambda found: b"%%%02X" % found.group()[0], name.encode("utf-8", "surrogatepass")).decode()
    if len(plain) <= LONGEST:
        return plain or "%"
    return f"{plain[: LONGEST - 33]}~{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
