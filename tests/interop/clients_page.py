"""docs/clients.md: what it says to write into a program's settings is what the tests write."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
ADDRESS, PASSWORD, HOST, PORT = "alice@example.org", "correct horse battery", "mail.example.org", "995"


def snippet(program: str, replacing: Mapping[str, str] = {}) -> str:
    """The block of that program, with these words replaced. Fails when a word is not there: the page has changed."""
    (text,) = re.findall(rf"^```{program}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for old, new in replacing.items():
        assert old in text, f"{old!r} is not in the block {program!r} of {PAGE.name}"
        text = text.replace(old, new)
    return text
