"""`mailserv` with a settings file of its own, and messages in its queue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cli_kit import CONFIG, Command

from mailserv.clock import SystemClock
from mailserv.mail.address import Address, parse_mailbox
from mailserv.mail.message import Acceptance, BytesContent, QueuedRecipient
from mailserv.mail.route import SMTP, Route
from mailserv.mail.trace import TraceEntry
from mailserv.store.sqlite import open_store


@pytest.fixture
def mailserv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    command = Command(tmp_path, monkeypatch, capsys)
    command.config.write_text(CONFIG)
    monkeypatch.setenv("MAILSERV_CONFIG", str(command.config))
    return command


@pytest.fixture
def queued(mailserv: Command) -> Callable[..., str]:
    """Puts a message for the given addresses into the queue; its queue id comes back."""

    def put(queue_id: str, *recipients: str, reverse_path: str = "alice@example.org", at: float | None = None) -> str:
        now = SystemClock().now() if at is None else at
        store = open_store(mailserv.data_dir, SystemClock(), exclusive=False)
        store.accept(
            Acceptance(
                queue_id=queue_id,
                reverse_path=parse_mailbox(reverse_path) if reverse_path else Address("", ""),
                content=BytesContent(b"Subject: x\r\n\r\nx\r\n"),
                received_at=now,
                queued=tuple(
                    QueuedRecipient(address, address, Route(SMTP, address.domain))
                    for address in map(parse_mailbox, recipients)
                ),
                trace=(TraceEntry(now, "accepted", "", {"ip": "192.0.2.1", "size": 17}),),
            )
        )
        store.close()
        return queue_id

    return put
