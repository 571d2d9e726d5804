"""What a command's exit code says of its message: sysexits.h, as Postfix's pipe(8) and Sendmail read it."""

from __future__ import annotations

import signal
from collections.abc import Mapping

from mailserv.mail.fields import printable
from mailserv.mail.outcome import Deferred, Delivered, Failed, Outcome
from mailserv.mail.reply import Reply

TOLD = 200  # characters of what the command printed that go into the reply
TOO_SLOW = Deferred(Reply(451, "4.3.0", "The command took too long"))

REPLIES: Mapping[int, Reply] = {
    64: Reply(554, "5.3.5", "Command line usage error"),  # EX_USAGE
    65: Reply(554, "5.6.0", "Data format error"),  # EX_DATAERR
    66: Reply(554, "5.3.0", "Cannot open input"),  # EX_NOINPUT
    67: Reply(550, "5.1.1", "User unknown"),  # EX_NOUSER
    68: Reply(550, "5.1.2", "Host name unknown"),  # EX_NOHOST
    69: Reply(554, "5.3.0", "Service unavailable"),  # EX_UNAVAILABLE
    70: Reply(554, "5.3.0", "Internal software error"),  # EX_SOFTWARE
    71: Reply(451, "4.3.0", "System error"),  # EX_OSERR
    72: Reply(554, "5.3.0", "Critical OS file missing"),  # EX_OSFILE
    73: Reply(554, "5.2.0", "Cannot create output file"),  # EX_CANTCREAT
    74: Reply(451, "4.3.0", "Input/output error"),  # EX_IOERR
    75: Reply(451, "4.3.0", "Temporary failure"),  # EX_TEMPFAIL
    76: Reply(554, "5.5.0", "Remote error in protocol"),  # EX_PROTOCOL
    77: Reply(554, "5.7.0", "Permission denied"),  # EX_NOPERM
    78: Reply(554, "5.3.5", "Configuration error"),  # EX_CONFIG
    # What a shell or env says when the program behind it cannot be run: the operator's mistake, not the message's.
    126: Reply(451, "4.3.5", "The command cannot be executed"),
    127: Reply(451, "4.3.5", "The command was not found"),
}


def outcome_of(code: int, output: bytes) -> Outcome:
    """`code` negative: a signal ended it, which says nothing about the message. Any other unknown code is a refusal."""
    said = printable(output.decode("utf-8", "replace"), TOLD)
    if code == 0:
        return Delivered(Reply(250, "2.0.0", _with("Delivered to the command", said)))
    if code < 0:
        return Deferred(Reply(451, "4.3.0", _with(f"The command was ended by {_signal(-code)}", said)))
    known = REPLIES.get(code) or Reply(554, "5.3.0", f"The command ended with {code}")
    reply = Reply(known.code, known.enhanced, _with(known.text, said))
    return Deferred(reply) if known.code < 500 else Failed(reply)


def _with(text: str, said: str) -> str:
    return f"{text}: {said}" if said else text


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
