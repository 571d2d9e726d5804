"""Magic recipients, for who tests a program that sends mail: tempfail@, permfail@, timeout@, 452@ are answered so."""

from __future__ import annotations

import re
import threading
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import Address, parse_domain
from mailserv.mail.plugin import Services, reading
from mailserv.mail.reply import Reply
from mailserv.mail.resolution import Resolution
from mailserv.mail.values import Duration

TEMPFAIL = Reply(451, "4.3.0", "Try again later, says the magic recipient")
PERMFAIL = Reply(550, "5.1.1", "No such user, says the magic recipient")
ENHANCED = {  # RFC 3463 §3: what goes with the codes of RFC 5321 §4.2.3
    450: "4.2.0",
    451: "4.3.0",
    452: "4.2.2",
    550: "5.1.1",
    551: "5.1.6",
    552: "5.2.2",
    553: "5.1.3",
}
CLOSING = 421  # ends a session (RFC 5321 §4.2.3), which the answer to a recipient cannot


class MagicSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[plugin.magic]"""

    domains: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, description="where these recipients are magic")]
    timeout: Annotated[Duration, msgspec.Meta(description="timeout@ hears nothing for so long, then 451")] = Duration(
        60
    )


class Plugin:
    """The answer to RCPT is a refusal, always: nothing is delivered, and nothing is relayed."""

    Settings = MagicSettings

    def __init__(self, settings: MagicSettings, services: Services) -> None:
        with reading(services, "domains"):
            self._domains = frozenset(map(parse_domain, settings.domains))
        self._timeout = settings.timeout

    @hookimpl
    def resolve_recipient(self, address: Address) -> Resolution | None:
        if address.domain not in self._domains:
            return None
        refusal = self._refusal(address.local_part.lower())
        return None if refusal is None else Resolution(is_local=True, refusal=refusal, steps=(f"magic: {refusal}",))

    def _refusal(self, local_part: str) -> Reply | None:
        if local_part == "permfail":
            return PERMFAIL
        if local_part == "timeout":
            threading.Event().wait(self._timeout)  # nobody sets it
            return TEMPFAIL
        return TEMPFAIL if local_part == "tempfail" else _by_code(local_part)


def _by_code(local_part: str) -> Reply | None:
    if not re.fullmatch("[45][0-9][0-9]", local_part, re.ASCII) or int(local_part) == CLOSING:
        return None
    code = int(local_part)
    return Reply(code, ENHANCED.get(code, f"{code // 100}.0.0"), "As you wish")
