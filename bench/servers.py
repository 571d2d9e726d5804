"""Every server that can be measured, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bench.peers.dovecot.peer import Dovecot
from bench.peers.exim.peer import Exim
from bench.peers.haraka.peer import Haraka
from bench.peers.mailserv.peer import Mailserv
from bench.peers.opensmtpd.peer import OpenSMTPD
from bench.peers.postfix.peer import Postfix
from bench.server import Peer

BOTH = {"postfix": ("postfix", "postfix-tuned")}
"""What a name on the command line stands for, where that is more than itself."""
PROCESSES = (2, 3, 4)
"""mailserv-2 is mailserv with two processes, to be measured beside mailserv as it is shipped."""


def choose(names: Iterable[str], processes: int = 0) -> Iterator[Peer]:
    """The servers with these names, in this order. ValueError when there is none of a name."""
    every = {peer.name: peer for peer in _peers(processes)}
    for name in dict.fromkeys(name for given in names for name in BOTH.get(given, (given,))):
        if name not in every:
            raise ValueError(f"no server {name!r}; there are {', '.join(every)}")
        yield every[name]


def _peers(processes: int) -> list[Peer]:
    return [
        Postfix("postfix", tuned=False),
        Postfix("postfix-tuned", tuned=True),
        Haraka(),
        OpenSMTPD(),
        Exim(),
        Dovecot(),
        Mailserv(processes=processes),
        Mailserv("mailserv-plugins", processes, plugins=10),
        *(Mailserv(f"mailserv-{number}", number) for number in PROCESSES),
    ]
