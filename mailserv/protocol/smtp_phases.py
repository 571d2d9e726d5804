"""The order of SMTP's commands (RFC 5321 §4.1.4): one table, read by the core, the tests and the docs."""

from __future__ import annotations

from enum import Enum

from mailserv.mail import reply as replies
from mailserv.mail.reply import Reply
from mailserv.protocol.commands import (
    AuthLine,
    Chunk,
    ChunkEnd,
    ContentBlock,
    ContentEnd,
    ContentRefused,
    Data,
    Ehlo,
    Event,
    ExtensionCommand,
    Helo,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rejected,
    Rset,
)


class Phase(Enum):
    """Where a session stands."""

    CONNECTED = "connected"  # no EHLO or HELO yet, or TLS has just begun
    GREETED = "greeted"
    HAS_SENDER = "has sender"
    HAS_RECIPIENT = "has recipient"
    CONTENT = "content"  # after the 354, until its end is answered
    CHUNKS = "chunks"  # of one message, by BDAT (RFC 3030): the first has come, the last has not
    SPOILED = "spoiled"  # a chunk was refused: the message is lost, those behind it are thrown away until RSET
    AUTH = "auth"  # an AUTH exchange (RFC 4954)
    CLOSED = "closed"  # whatever else the client sends is not read

    __hash__ = object.__hash__  # by identity, as equality is: Enum's own costs a Python call on every look-up


NEXT_PHASE: dict[tuple[Phase, type[Event]], Phase] = {
    # RFC 5321 §4.1.4. An absent pair is a 503 and changes nothing. The phase moves when the answer is positive;
    # the ends of content and of an AUTH exchange and QUIT move it whatever the answer (MOVES_ANYWAY).
    (Phase.CONNECTED, Helo): Phase.GREETED,
    (Phase.CONNECTED, Ehlo): Phase.GREETED,
    (Phase.CONNECTED, Rset): Phase.CONNECTED,
    (Phase.CONNECTED, Noop): Phase.CONNECTED,
    (Phase.CONNECTED, Quit): Phase.CLOSED,
    (Phase.CONNECTED, ExtensionCommand): Phase.CONNECTED,
    (Phase.GREETED, Helo): Phase.GREETED,
    (Phase.GREETED, Ehlo): Phase.GREETED,
    (Phase.GREETED, Mail): Phase.HAS_SENDER,
    (Phase.GREETED, Rset): Phase.GREETED,
    (Phase.GREETED, Noop): Phase.GREETED,
    (Phase.GREETED, Quit): Phase.CLOSED,
    (Phase.GREETED, ExtensionCommand): Phase.GREETED,
    (Phase.HAS_SENDER, Helo): Phase.GREETED,  # a second EHLO or HELO is a RSET too
    (Phase.HAS_SENDER, Ehlo): Phase.GREETED,
    (Phase.HAS_SENDER, Rcpt): Phase.HAS_RECIPIENT,
    (Phase.HAS_SENDER, Rset): Phase.GREETED,
    (Phase.HAS_SENDER, Noop): Phase.HAS_SENDER,
    (Phase.HAS_SENDER, Quit): Phase.CLOSED,
    (Phase.HAS_SENDER, ExtensionCommand): Phase.HAS_SENDER,
    (Phase.HAS_RECIPIENT, Helo): Phase.GREETED,
    (Phase.HAS_RECIPIENT, Ehlo): Phase.GREETED,
    (Phase.HAS_RECIPIENT, Rcpt): Phase.HAS_RECIPIENT,
    (Phase.HAS_RECIPIENT, Data): Phase.CONTENT,
    (Phase.HAS_RECIPIENT, Rset): Phase.GREETED,
    (Phase.HAS_RECIPIENT, Noop): Phase.HAS_RECIPIENT,
    (Phase.HAS_RECIPIENT, Quit): Phase.CLOSED,
    (Phase.HAS_RECIPIENT, ExtensionCommand): Phase.HAS_RECIPIENT,
    (Phase.HAS_RECIPIENT, Chunk): Phase.CHUNKS,  # a chunk has no answer of its own: it moves at once
    (Phase.CHUNKS, Chunk): Phase.CHUNKS,
    (Phase.CHUNKS, ContentBlock): Phase.CHUNKS,
    (Phase.CHUNKS, ChunkEnd): Phase.CHUNKS,
    (Phase.CHUNKS, ContentEnd): Phase.GREETED,
    (Phase.CHUNKS, Helo): Phase.GREETED,
    (Phase.CHUNKS, Ehlo): Phase.GREETED,
    (Phase.CHUNKS, Rset): Phase.GREETED,
    (Phase.CHUNKS, Noop): Phase.CHUNKS,
    (Phase.CHUNKS, Quit): Phase.CLOSED,
    (Phase.CHUNKS, ExtensionCommand): Phase.CHUNKS,
    (Phase.SPOILED, Helo): Phase.GREETED,
    (Phase.SPOILED, Ehlo): Phase.GREETED,
    (Phase.SPOILED, Rset): Phase.GREETED,
    (Phase.SPOILED, Noop): Phase.SPOILED,
    (Phase.SPOILED, Quit): Phase.CLOSED,
    (Phase.SPOILED, ExtensionCommand): Phase.SPOILED,
    (Phase.CONTENT, ContentBlock): Phase.CONTENT,
    (Phase.CONTENT, ContentEnd): Phase.GREETED,  # the transaction is over, accepted or not (lesson 8)
    (Phase.CONTENT, ContentRefused): Phase.CLOSED,
    (Phase.AUTH, AuthLine): Phase.GREETED,
    (Phase.AUTH, Rejected): Phase.GREETED,  # an overlong line ends the exchange
}
MOVES_ANYWAY = frozenset({ContentEnd, ContentRefused, Quit})

AFTER_REFUSAL: dict[tuple[Phase, type[Event]], Phase] = {
    (Phase.CHUNKS, ChunkEnd): Phase.SPOILED,  # RFC 3030 §2: "A RSET command MUST be issued"
}

TRANSACTION = frozenset({Phase.HAS_SENDER, Phase.HAS_RECIPIENT, Phase.CHUNKS, Phase.SPOILED})

OUT_OF_ORDER: dict[tuple[Phase, type[Event]], Reply] = {
    (Phase.CONNECTED, Mail): replies.NEED_HELO,
    (Phase.CONNECTED, Rcpt): replies.NEED_HELO,
    (Phase.CONNECTED, Data): replies.NEED_HELO,
    (Phase.GREETED, Rcpt): replies.NEED_MAIL,
    (Phase.GREETED, Data): replies.NEED_MAIL,
    (Phase.HAS_SENDER, Data): replies.NEED_RCPT,
    (Phase.HAS_SENDER, Mail): replies.NESTED_MAIL,
    (Phase.HAS_RECIPIENT, Mail): replies.NESTED_MAIL,
    (Phase.CONNECTED, Chunk): replies.NEED_HELO,
    (Phase.GREETED, Chunk): replies.NEED_MAIL,
    (Phase.HAS_SENDER, Chunk): replies.NEED_RCPT,
    (Phase.CHUNKS, Mail): replies.NO_MIXING,
    (Phase.CHUNKS, Rcpt): replies.NO_MIXING,
    (Phase.CHUNKS, Data): replies.NO_MIXING,
    (Phase.SPOILED, Mail): replies.NEED_RSET,
    (Phase.SPOILED, Rcpt): replies.NEED_RSET,
    (Phase.SPOILED, Data): replies.NEED_RSET,
    (Phase.SPOILED, Chunk): replies.NEED_RSET,
}
