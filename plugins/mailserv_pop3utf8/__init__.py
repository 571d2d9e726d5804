"""UTF8 and LANG (RFC 6856): header sections in UTF-8 for a client that asks, and in which language answers are."""

from __future__ import annotations

from collections.abc import Iterable

from mailserv import hookimpl
from mailserv.mail.plugin import Services
from mailserv.mail.pop3_extension import Pop3Answer, Pop3Extension, Pop3State, Pop3Verb, Pop3View, UseUTF8, VerbAnswer

LANGUAGES = {"en": "English", "i-default": "Default language"}  # i-default has to be one: RFC 2277 §4.5
PREFERRED = "en"  # what "*" asks for


def use_utf8(view: Pop3View, argument: str) -> VerbAnswer:
    """RFC 6856 §2.1."""
    return Pop3Answer(False, "UTF8 takes no argument") if argument else UseUTF8("UTF8 enabled")


def choose_language(view: Pop3View, argument: str) -> VerbAnswer:
    """RFC 6856 §3.2. There is nothing to remember: all of our languages have the same texts."""
    if not argument:
        return Pop3Answer(True, "Language listing follows:", [f"{tag} {name}" for tag, name in LANGUAGES.items()])
    tag = PREFERRED if argument == "*" else look_up(argument)
    return Pop3Answer(True, f"{tag} Language changed") if tag else Pop3Answer(False, f"Invalid language {argument}")


def look_up(language_range: str) -> str | None:
    """The best of ours for a basic language range, by RFC 4647 §3.4: en-GB is served by en."""
    subtags = language_range.lower().split("-")
    while subtags:
        tag = "-".join(subtags)
        if tag in LANGUAGES:
            return tag
        subtags.pop()
    return None


class Plugin:
    def __init__(self, settings: None, services: Services) -> None:
        pass

    @hookimpl
    def register_pop3_extensions(self) -> Iterable[Pop3Extension]:
        utf8 = Pop3Verb("UTF8", use_utf8, frozenset({Pop3State.AUTHORIZATION}))
        return [
            # USER: names and passwords in UTF-8 are taken without being asked (§2.2)
            Pop3Extension("UTF8", "USER", verbs=(utf8,)),
            Pop3Extension("LANG", "", verbs=(Pop3Verb("LANG", choose_language),)),
        ]
