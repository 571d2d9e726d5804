"""How much TLS is demanded towards a next hop, from nothing to proof (RFC 7435, RFC 3207)."""

from __future__ import annotations

from typing import Literal, get_args

TLSMode = Literal["none", "opportunistic", "require", "verify"]
TLS_MODES: tuple[TLSMode, ...] = get_args(TLSMode)
"""By strictness: plain text; TLS where it is offered; TLS with any certificate; a certificate that proves the host's name."""


def strictest(one: TLSMode, other: TLSMode) -> TLSMode:
    """The stricter of two."""
    return max(one, other, key=TLS_MODES.index)
