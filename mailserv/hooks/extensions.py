"""The callables of a plugin's SMTP extensions, so wrapped that a failure costs one command and is named (invariant 8)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from mailserv.hooks.guard import guard
from mailserv.hooks.kinds import NO_REPLY, is_reply, must
from mailserv.mail.extension import (
    SMTP_SERVICES,
    Become,
    LookUp,
    Parameter,
    Payload,
    SMTPExtension,
    StartAuth,
    StartQueue,
    StartTLS,
    Verb,
)
from mailserv.mail.pop3_extension import Pop3Extension
from mailserv.mail.reply import LOCAL_ERROR, Reply
from mailserv.mail.value import replace
from mailserv.protocol.commands import COMMANDS, LMTP_COMMANDS

_HOOK = "register_smtp_extensions"
ANSWERS = (Reply, StartTLS, StartAuth, LookUp, StartQueue, Become)
OUR_KEYS = tuple(f"verb {word.decode()}" for word in COMMANDS | LMTP_COMMANDS)
"""What the core brings itself."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")  # RFC 5321 §4.1.1.1, §4.1.1.11; a verb may be a keyword, too
_PARTS: Mapping[str, type] = {"verbs": Verb, "mail_params": Parameter, "rcpt_params": Parameter}


def flaws(
    extension: SMTPExtension | Pop3Extension,
    parts: Mapping[str, type] = _PARTS,
    services: frozenset[str] = SMTP_SERVICES,
) -> Iterator[str]:
    """What a client could never use, or no line of EHLO or CAPA could hold. `parts`: what fields hold tuples of which kind."""
    keyword, text = extension.keyword, extension.advertise
    is_keyword = isinstance(keyword, str) and (not keyword or _NAME.fullmatch(keyword))
    if not is_keyword or not (callable(text) or (text is not None and _is_keyword_text(text))):
        yield f"{keyword!r} with {text!r} is no keyword with its text"
    for name, kind in parts.items():
        held = getattr(extension, name)
        if not isinstance(held, tuple | list) or not all(isinstance(part, kind) for part in held):
            yield f"{keyword!r}: {name} is no tuple of {kind.__name__}"
            continue
        for part in held:
            if not _NAME.fullmatch(part.name):
                yield f"{part.name!r} is no name for a {kind.__name__}"
            if isinstance(part, Parameter) and not (isinstance(part.growth, int) and part.growth >= 0):
                yield f"{part.name!r}: growth {part.growth!r} is no number of octets"
    for service in sorted(extension.services - services):
        yield f"{keyword!r}: there is no service {service!r}"


def keys(extension: SMTPExtension) -> Iterator[str]:
    """What no two may bring."""
    if extension.keyword:
        yield f"EHLO keyword {extension.keyword.upper()}"
    yield from (f"verb {verb.name.upper()}" for verb in extension.verbs)
    yield from (f"MAIL parameter {claim}" for parameter in extension.mail_params for claim in parameter.claims)
    yield from (f"RCPT parameter {claim}" for parameter in extension.rcpt_params for claim in parameter.claims)


def guarded(plugin: str, extension: SMTPExtension) -> SMTPExtension:
    """The same, but: a verb or a check that raises or lies answers 451; a keyword is not advertised then; a payload whose
    length is not known ends the session."""
    keyword = extension.advertise
    if not isinstance(keyword, str):
        keyword = guard(plugin, _HOOK, f"keyword {extension.keyword}", keyword, _is_keyword_text, None)
    return replace(
        extension,
        advertise=keyword,
        verbs=tuple(_verb(plugin, verb) for verb in extension.verbs),
        mail_params=tuple(_parameter(plugin, "MAIL", parameter) for parameter in extension.mail_params),
        rcpt_params=tuple(_parameter(plugin, "RCPT", parameter) for parameter in extension.rcpt_params),
    )


def _verb(plugin: str, verb: Verb) -> Verb:
    stage = f"verb {verb.name}"
    handle = _guard(plugin, stage, verb.handle, ANSWERS, LOCAL_ERROR)

    def handle_and_tell(view: Any, argument: str) -> Any:
        answer = handle(view, argument)
        if isinstance(answer, LookUp | StartQueue):
            tell = _guard(plugin, stage, answer.tell, (Reply,), LOCAL_ERROR)
            return replace(cast("Any", answer), tell=tell)  # each of the two has the field
        return answer

    payload = verb.payload and _guard(plugin, stage, verb.payload, (Payload, type(None)), None)
    return replace(verb, handle=handle_and_tell, payload=payload)


def _parameter(plugin: str, command: str, parameter: Parameter) -> Parameter:
    stage = f"{command} parameter {parameter.name}"
    check = _guard(plugin, stage, parameter.check, (Reply, type(None)), LOCAL_ERROR, least=400)
    return replace(parameter, check=check)


def _is_keyword_text(answer: Any) -> bool:
    """It stands in one line (RFC 5321 §4.1.1.1)."""
    return answer is None or (isinstance(answer, str) and answer.isascii() and answer.isprintable())


def _guard(
    plugin: str, stage: str, function: Callable[..., Any], kinds: tuple[type, ...], instead: Any, least: int = 200
) -> Callable[..., Any]:
    """`least`: the code that a Reply has at least."""
    why = NO_REPLY % least

    def is_answer(answer: Any) -> bool:
        if not isinstance(answer, kinds):
            return False
        return not isinstance(answer, Reply) or must(is_reply(answer, least), why)

    return guard(plugin, _HOOK, stage, function, is_answer, instead)
