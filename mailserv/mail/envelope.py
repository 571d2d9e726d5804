"""The envelope of RFC 5321 §2.3.1: reverse-path, recipients, parameters; never the content."""

from __future__ import annotations

from collections.abc import Mapping

from mailserv.mail.address import Address
from mailserv.mail.value import Value, field


class Recipient(Value, frozen=True):
    """One recipient as RCPT named it. `parameters`: RCPT's keyword in capitals → value ("" without one)."""

    forward_path: Address
    parameters: Mapping[str, str] = field(default_factory=dict)


class Envelope(Value, frozen=True):
    """What MAIL and RCPT said. Immutable: each accepted RCPT makes a new one."""

    reverse_path: Address
    recipients: tuple[Recipient, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_smtputf8(self) -> bool:
        """RFC 6531 §3.4: the client asked for an internationalised transaction."""
        return "SMTPUTF8" in self.parameters

    @property
    def is_binary(self) -> bool:
        """RFC 3030 §3: the content is octets, not lines."""
        return self.parameters.get("BODY", "").upper() == "BINARYMIME"
