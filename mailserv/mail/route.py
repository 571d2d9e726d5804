"""Where a recipient's mail goes next."""

from __future__ import annotations

from dataclasses import dataclass

MAILBOX = "mailbox"  # the row in the store is the delivery
SMTP = "smtp"  # the outbound queue, drained by the SMTP client


@dataclass(frozen=True, slots=True, order=True)
class Route:
    """A transport's name and its next hop, together the *destination* by which the queue groups.

    For "smtp" the next hop is a domain ("example.net": look up its MX) or "[host]:port" (no MX lookup).
    For "mailbox" it is the account's address. A plugin's transport gives it a meaning of its own.
    """

    transport: str
    next_hop: str

    def __str__(self) -> str:
        return f"{self.transport}:{self.next_hop}"
