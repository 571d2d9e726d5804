"""An audit trail: one JSON line for each login, session, accepted message and finished delivery, in a file of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.delivery import Delivery, QueuedRow
from mailserv.mail.envelope import Envelope
from mailserv.mail.fields import printable
from mailserv.mail.outcome import Outcome
from mailserv.mail.peer import Peer
from mailserv.mail.plugin import Services


class AuditSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: Annotated[
        Path, msgspec.Meta(description="the file; it is opened for each line, so logrotate may move it away")
    ]


class Plugin:
    Settings = AuditSettings

    def __init__(self, settings: AuditSettings, services: Services) -> None:
        self._path = settings.path
        self._now = services.now
        self._lock = threading.Lock()  # a line is written whole

    @hookimpl
    def check_config(self) -> Iterable[str]:
        if not self._path.parent.is_dir():
            yield f"path: there is no folder {self._path.parent}"

    @hookimpl
    def startup(self) -> None:
        self._write("startup")

    @hookimpl
    def auth_result(self, name: str, ip: str, service: str, session_id: str, is_good: bool) -> None:
        self._write("login", session=session_id, ip=ip, service=service, login=printable(name), good=is_good)

    @hookimpl
    def message_accepted(self, queue_id: str, peer: Peer, envelope: Envelope) -> None:
        self._write(
            "accepted",
            queue_id=queue_id,
            session=peer.session_id,
            ip=peer.ip,
            login=peer.login,
            reverse_path=str(envelope.reverse_path),
            recipients=[str(recipient.forward_path) for recipient in envelope.recipients],
        )

    @hookimpl
    def delivery_finished(self, delivery: Delivery, row: QueuedRow, outcome: Outcome) -> None:
        self._write(
            "finished",
            queue_id=delivery.queue_id,
            recipient=str(row.forward_path),
            original=str(row.original),
            outcome=type(outcome).__name__.lower(),
            remote=printable(outcome.remote),
            reply=printable(str(outcome.reply)),
        )

    @hookimpl
    def session_closed(self, peer: Peer, messages: int, errors: int, reason: str) -> None:
        self._write(
            "session",
            session=peer.session_id,
            ip=peer.ip,
            service=peer.service,
            login=peer.login,
            messages=messages,
            errors=errors,
            reason=reason,
        )

    @hookimpl
    def shutdown(self) -> None:
        self._write("shutdown")

    def _write(self, event: str, **fields: object) -> None:
        """Raises OSError: the server logs it, and mail goes on."""
        at = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds")
        line = msgspec.json.encode({"at": at, "event": event, **fields}) + b"\n"
        with self._lock, self._path.open("ab", buffering=0) as file:
            file.write(line)
