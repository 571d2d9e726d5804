"""The callables of a plugin's POP3 extensions, so wrapped that a failure costs one command and is named (invariant 8)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from mailserv.hooks.extensions import flaws
from mailserv.hooks.guard import guard
from mailserv.mail.pop3_extension import POP3_SERVICES, LogIn, Pop3Answer, Pop3Extension, Pop3Verb, UseUTF8
from mailserv.mail.sasl import Credentials, Proof
from mailserv.mail.value import replace
from mailserv.protocol.pop3_commands import CAPABILITIES, COMMANDS

_HOOK = "register_pop3_extensions"
LOCAL_ERROR = Pop3Answer(False, "[SYS/TEMP] Local error in processing; try again later")  # RFC 3206 §4
OUR_POP3_KEYS = (
    *(f"POP3 capability {keyword}" for keyword in CAPABILITIES),
    *(f"POP3 verb {word.decode()}" for word in COMMANDS),
)
"""What the core brings itself."""


pop3_flaws = partial(flaws, parts={"verbs": Pop3Verb}, services=POP3_SERVICES)
"""What a client could never use."""


def pop3_keys(extension: Pop3Extension) -> Iterator[str]:
    """What no two may bring."""
    if extension.keyword:
        yield f"POP3 capability {extension.keyword.upper()}"
    yield from (f"POP3 verb {verb.name.upper()}" for verb in extension.verbs)


def guarded_pop3(plugin: str, extension: Pop3Extension) -> Pop3Extension:
    """The same, but: a verb that raises or lies answers -ERR [SYS/TEMP]; a keyword is not advertised then."""
    keyword = extension.advertise
    if not isinstance(keyword, str):
        keyword = guard(plugin, _HOOK, f"keyword {extension.keyword}", keyword, _is_keyword_text, None)
    return replace(extension, advertise=keyword, verbs=tuple(_verb(plugin, verb) for verb in extension.verbs))


def _verb(plugin: str, verb: Pop3Verb) -> Pop3Verb:
    handle = guard(plugin, _HOOK, f"verb {verb.name}", verb.handle, partial(is_answer, verb), LOCAL_ERROR)
    return replace(verb, handle=handle)


def _is_keyword_text(answer: Any) -> bool:
    return answer is None or (isinstance(answer, str) and answer.isprintable())


def is_answer(verb: Pop3Verb, answer: Any) -> bool:
    """What that verb may answer with."""
    return _is_login_answer(answer) if verb.logs_in else _is_answer(answer)


def _is_answer(answer: Any) -> bool:
    """One line of text, and lines that are lines."""
    if isinstance(answer, UseUTF8):
        return isinstance(answer.text, str)
    if not isinstance(answer, Pop3Answer) or not isinstance(answer.text, str):
        return False
    if answer.lines is None:
        return True
    are_lines = isinstance(answer.lines, list | tuple)  # an iterator would be empty after it was looked at
    return are_lines and all(isinstance(line, str) and line.isprintable() for line in answer.lines)


def _is_login_answer(answer: Any) -> bool:
    """Only a login lets a client in."""
    if isinstance(answer, LogIn):
        return isinstance(answer.outcome, Credentials | Proof)
    return isinstance(answer, Pop3Answer) and not answer.is_positive and isinstance(answer.text, str)
