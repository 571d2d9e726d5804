"""Header fields taken out and put in: of what users submit, of what comes from outside, of what leaves (RFC 5322 §3.6)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.delivery import Delivery
from mailserv.mail.envelope import Envelope
from mailserv.mail.message import BytesContent, Content
from mailserv.mail.peer import Peer
from mailserv.mail.plugin import Services
from mailserv_fields.section import Changes, changed

SUBMISSION = ("submission", "submissions")


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    remove: Annotated[
        tuple[str, ...], msgspec.Meta(description="names of fields that are taken out, each of them")
    ] = ()
    add: Annotated[
        dict[str, str], msgspec.Meta(description="fields that are put in, in place of those of that name")
    ] = msgspec.field(default_factory=dict)


class FieldsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    submissions: Annotated[Edit, msgspec.Meta(description="of what users submit")] = Edit()
    incoming: Annotated[Edit, msgspec.Meta(description="of what comes by port 25")] = Edit()
    outgoing: Annotated[Edit, msgspec.Meta(description="of what leaves by the queue, before each attempt")] = Edit()
    hide_client: Annotated[
        bool, msgspec.Meta(description="our Received field does not say where a submission came from")
    ] = False
    signed: Annotated[
        bool, msgspec.Meta(description="change also what a DKIM signature covers, which then is broken")
    ] = False


class Plugin:
    Settings = FieldsSettings

    def __init__(self, settings: FieldsSettings, services: Services) -> None:
        self._settings = settings
        self._log = services.log
        made = {name: _changes(settings, name) for name in ("submissions", "incoming", "outgoing")}
        self._submissions, self._incoming, self._outgoing = made["submissions"], made["incoming"], made["outgoing"]

    @hookimpl
    def check_config(self) -> Iterable[str]:
        for name in ("submissions", "incoming", "outgoing"):
            edit: Edit = getattr(self._settings, name)
            for field in (*edit.remove, *edit.add):
                if not _is_field_name(field):
                    yield f'{name}: "{field}" is no name of a header field'
                elif field.lower() == "received" and (name != "submissions" or field in edit.add):
                    yield f"{name}: Received fields stay, or a message that goes round is never found (RFC 5321 §6.3)"
            for field, value in edit.add.items():
                if not (value.isascii() and value.isprintable() and value.strip()):
                    yield f'{name}: the value of "{field}" is not one line of ASCII; encode what is not'

    @hookimpl
    def message_rewrite(self, peer: Peer, envelope: Envelope, content: Content) -> BytesContent | None:
        """Below our own Received field, which stays at the top."""
        changes = self._submissions if peer.service in SUBMISSION else self._incoming
        return self._apply(changes, content, session=peer.session_id, our_received=True)

    @hookimpl
    def delivery_rewrite(self, delivery: Delivery, content: Content) -> BytesContent | None:
        if delivery.parameters.get("BODY", "").upper() == "BINARYMIME":
            return None  # it has no lines (RFC 3030 §3)
        return self._apply(self._outgoing, content, queue_id=delivery.queue_id, our_received=False)

    def _apply(self, changes: Changes, content: Content, *, our_received: bool, **who: str) -> BytesContent | None:
        if not changes:
            return None
        data, kept = changed(content, changes, our_received=our_received)
        if kept:
            log = self._log.bind(**who)
            log.info("field_is_signed", fields=" ".join(kept))
        return None if data is None else BytesContent(data)


def _changes(settings: FieldsSettings, name: str) -> Changes:
    edit: Edit = getattr(settings, name)
    remove = frozenset(field.lower().encode("ascii", "replace") for field in (*edit.remove, *edit.add))
    add = "".join(f"{field}: {value.strip()}\r\n" for field, value in edit.add.items()).encode("ascii", "replace")
    hides = settings.hide_client and name == "submissions"
    return Changes(remove, add, hides, settings.signed)


def _is_field_name(text: str) -> bool:
    """RFC 5322 §3.6.8: printable ASCII without colon."""
    return bool(text) and all("!" <= char <= "~" and char != ":" for char in text)
