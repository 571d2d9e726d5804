"""The Sender Rewriting Scheme (https://www.libsrs2.org/srs/srs.pdf): forwarded mail keeps to SPF, and bounces come back.

The reverse-path carol@far.example becomes SRS0=HASH=DAY=far.example=carol@ours: ours, so that our SPF record covers it,
and only who has the secret can make one, so that nobody relays by it. It is good for three weeks.
"""

from __future__ import annotations

import re

import srslib

from mailserv.mail.address import MAX_LOCAL_PART, Address, parse_mailbox

# Characters of the hash, as libsrs2 has it: some two million of them, for upper and lower case are the same.
HASH = 4
_OURS = re.compile(rf"SRS[01][-+=][^=]{{{HASH}}}=.*", re.IGNORECASE | re.DOTALL)


class Rewriting:
    """`domain`: that of all rewritten paths, "" for the user's own. `domains`: where they come back to. Any thread."""

    def __init__(self, secret: str, domain: str, domains: frozenset[str]) -> None:
        self._secret = secret
        self._domain = domain
        self._domains = domains

    def forward(self, reverse_path: Address, domain: str) -> Address:
        """The reverse-path to forward with. The null one stays null (RFC 5321 §4.5.5), one of our domains stays, too.

        So does one that does not fit: SRS has no quoting, and a local-part has 64 octets (RFC 5321 §4.5.3.1.1).
        """
        plain = str(reverse_path)
        if reverse_path.is_null or reverse_path.domain in self._domains or plain[0] == '"' or not plain.isascii():
            return reverse_path
        if reverse_path.domain.startswith("["):
            return reverse_path
        rewritten = self._scheme().forward(plain, self._domain or domain)
        local_part = rewritten.rpartition("@")[0]
        return parse_mailbox(rewritten) if len(local_part) <= MAX_LOCAL_PART else reverse_path

    def reverse(self, address: Address) -> Address | None:
        """The path before it was rewritten; None for any other address, a forged one and an old one.

        srslib compares as much of the hash as it is shown: one of a single character would be guessed at once.
        """
        if address.domain not in self._domains or not _OURS.fullmatch(address.local_part) or not address.is_ascii:
            return None
        try:
            return parse_mailbox(self._scheme().reverse(str(address)))
        except (srslib.Error, ValueError):
            return None

    def _scheme(self) -> srslib.SRS:
        return srslib.SRS(self._secret, hash_length=HASH)  # keeps a cache of days that is not meant for several threads
