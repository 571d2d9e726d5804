"""CHUNKING (RFC 3030 §2): BDAT sends content in counted chunks, without dots."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mailserv import hookimpl
from mailserv.mail import reply
from mailserv.mail.extension import Payload, SessionView, SMTPExtension, Verb, VerbAnswer
from mailserv.mail.plugin import Services

_CHUNK = re.compile(r"([0-9]{1,20}) *( LAST)?", re.IGNORECASE)  # 20 digits as for SIZE: RFC 1870 §5


def read_chunk(argument: str) -> Payload | None:
    """chunk-size [ SP end-marker ]"""
    found = _CHUNK.fullmatch(argument)
    return Payload(int(found.group(1)), bool(found.group(2))) if found else None


def refuse(view: SessionView, argument: str) -> VerbAnswer:
    """Never asked: the payload is taken instead."""
    return reply.BAD_SEQUENCE


class Plugin:
    def __init__(self, settings: None, services: Services) -> None:
        pass

    @hookimpl
    def register_smtp_extensions(self) -> Iterable[SMTPExtension]:
        verb = Verb("BDAT", refuse, payload=read_chunk, help="BDAT octets [LAST]: a chunk of content (RFC 3030)")
        return [SMTPExtension("CHUNKING", "", verbs=(verb,))]
