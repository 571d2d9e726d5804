"""The callables of a plugin's SMTP extensions, so wrapped that a failure costs one command and is named (invariant 8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from mailserv.hooks.guard import guard
from mailserv.hooks.kinds import is_lines
from mailserv.mail.extension import (
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
from mailserv.mail.reply import LOCAL_ERROR, Reply
from mailserv.mail.value import replace

_HOOK = "register_smtp_extensions"
ANSWERS = (Reply, StartTLS, StartAuth, LookUp, StartQueue, Become)


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
    return replace(parameter, check=_guard(plugin, stage, parameter.check, (Reply, type(None)), LOCAL_ERROR))


def _is_keyword_text(answer: Any) -> bool:
    """It stands in one line (RFC 5321 §4.1.1.1)."""
    return answer is None or (isinstance(answer, str) and answer.isascii() and answer.isprintable())


def _guard(
    plugin: str, stage: str, function: Callable[..., Any], kinds: tuple[type, ...], instead: Any
) -> Callable[..., Any]:
    def is_answer(answer: Any) -> bool:
        return isinstance(answer, kinds) and not (isinstance(answer, Reply) and not is_lines(answer.text))

    return guard(plugin, _HOOK, stage, function, is_answer, instead)
