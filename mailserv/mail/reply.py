"""SMTP replies (RFC 5321 §4.2) with enhanced status codes (RFC 3463), each named once."""

from __future__ import annotations

from enum import Enum
from functools import lru_cache

from mailserv.mail.value import Value


class Severity(Enum):
    """What the first digit says (RFC 5321 §4.2.1)."""

    POSITIVE = 2
    INTERMEDIATE = 3
    TRANSIENT = 4
    PERMANENT = 5

    __hash__ = object.__hash__  # by identity, as equality is: Enum's own costs a Python call on every look-up


SEVERITIES = {each.value: each for each in Severity}  # by the first digit; a call of the Enum takes longer


class Reply(Value, frozen=True):
    """One reply: a three-digit code, an enhanced status ("" where RFC 2034 §4 allows none) and text, "\\n" between lines."""

    code: int
    enhanced: str
    text: str

    @property
    def severity(self) -> Severity:
        return SEVERITIES[self.code // 100]

    @property
    def is_positive(self) -> bool:
        """2xx or 3xx: the command did what it is for."""
        return self.code < 400

    @lru_cache(maxsize=256)  # noqa: B019 - it keeps values: a server says the same again and again
    def encode(self) -> bytes:
        """The reply as it goes on the wire. Characters that could break a line were refused or replaced by the maker."""
        prefix = f"{self.enhanced} " if self.enhanced else ""
        *lines, last = self.text.split("\n")
        head = "".join([f"{self.code}-{prefix}{line}\r\n" for line in lines])
        return f"{head}{self.code} {prefix}{last}\r\n".encode("utf-8", "replace")

    def __str__(self) -> str:
        return " ".join(part for part in (str(self.code), self.enhanced, self.text.replace("\n", " ")) if part)


@lru_cache(maxsize=8)
def greeting(hostname: str, *, is_lmtp: bool = False) -> Reply:
    """What a session begins with (RFC 5321 §4.2, RFC 2033 §4.1)."""
    return Reply(220, "", f"{hostname} {'LMTP' if is_lmtp else 'ESMTP'} mailserv")


# Positive.
OK = Reply(250, "2.0.0", "Ok")
SENDER_OK = Reply(250, "2.1.0", "Sender ok")
RECIPIENT_OK = Reply(250, "2.1.5", "Recipient ok")
START_CONTENT = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
CLOSING = Reply(221, "2.0.0", "Bye")
START_TLS = Reply(220, "2.0.0", "Ready to start TLS")
AUTHENTICATED = Reply(235, "2.7.0", "Authentication successful")
CANNOT_VERIFY = Reply(
    252, "2.5.1", "Cannot verify the user, but will take mail for delivery and try (RFC 5321 section 3.5.3)"
)

NEEDS_UTF8_REPLY = Reply(252, "2.6.8", "The answer needs UTF-8; ask again with SMTPUTF8 (RFC 6531 section 3.7.4.2)")

# Order and syntax (RFC 5321 §4.2.4, §4.3.2).
UNRECOGNIZED = Reply(500, "5.5.2", "Command not recognized")
LINE_TOO_LONG = Reply(500, "5.5.2", "Line too long")
SYNTAX = Reply(501, "5.5.4", "Syntax error in parameters")
NOT_IMPLEMENTED = Reply(502, "5.5.1", "Command not implemented")
BAD_SEQUENCE = Reply(503, "5.5.1", "Bad sequence of commands")
NEED_HELO = Reply(503, "5.5.1", "Say EHLO or HELO first")
NEED_MAIL = Reply(503, "5.5.1", "Say MAIL first")
NEED_RCPT = Reply(503, "5.5.1", "Say RCPT first: no valid recipients")
NESTED_MAIL = Reply(503, "5.5.1", "A transaction is already open; RSET ends it")
NO_MIXING = Reply(503, "5.5.1", "A message is coming in chunks; go on with BDAT, or RSET (RFC 3030 section 2)")
NEED_RSET = Reply(503, "5.5.1", "A chunk was refused; say RSET first (RFC 3030 section 2)")
NEED_BDAT = Reply(503, "5.5.1", "BODY=BINARYMIME needs BDAT (RFC 3030 section 3)")
BINARY_REFUSED = Reply(554, "5.6.3", "Binary content cannot be kept in a mailbox here; encode it (RFC 2045)")
LINE_ENDLESS = Reply(421, "4.7.0", "Line much too long; closing")
BARE_NEWLINE_IN_COMMAND = Reply(
    500, "5.5.2", "Bare CR or LF in a command; only CRLF ends a line (RFC 5321 section 2.3.8)"
)
BAD_REVERSE_PATH = Reply(501, "5.1.7", "Bad sender address syntax")
BAD_FORWARD_PATH = Reply(501, "5.1.3", "Bad recipient address syntax")
INVALID_UTF8 = Reply(501, "5.5.2", "Command is not valid UTF-8")
NEED_SMTPUTF8 = Reply(553, "5.6.7", "Non-ASCII address without SMTPUTF8 (RFC 6531)")
UNKNOWN_PARAMETER = Reply(555, "5.5.4", "Parameter not recognized")
NO_HTTP = Reply(421, "4.7.0", "This is a mail server, not a web server; closing")
BARE_NEWLINE = Reply(550, "5.5.2", "Bare CR or LF in the message; only CRLF ends a line (RFC 5321 section 2.3.8)")
EARLY_DATA = Reply(554, "5.5.1", "Bytes after STARTTLS and before the handshake; closing")

# Policy and limits.
UNKNOWN_USER = Reply(550, "5.1.1", "No such user here")
RELAY_DENIED = Reply(550, "5.7.1", "Relaying denied")
NEED_AUTH = Reply(530, "5.7.0", "Authentication required")
NEED_TLS = Reply(530, "5.7.0", "Must issue a STARTTLS command first")
NOT_FOR_YOU = Reply(550, "5.7.1", "Access denied")
AUTH_NEEDS_TLS = Reply(538, "5.7.11", "Encryption required for the requested authentication mechanism")
AUTH_FAILED = Reply(535, "5.7.8", "Authentication credentials invalid")
AUTH_UNAVAILABLE = Reply(454, "4.7.0", "Temporary authentication failure")
AUTH_BAD_RESPONSE = Reply(501, "5.5.2", "Cannot decode the authentication response")
AUTH_CANCELLED = Reply(501, "5.7.0", "Authentication cancelled")
AUTH_LINE_TOO_LONG = Reply(500, "5.5.6", "Authentication exchange line is too long")
UNKNOWN_MECHANISM = Reply(504, "5.5.4", "Unrecognized authentication mechanism")
AUTH_THROTTLED = Reply(421, "4.7.0", "Too many failed logins; try again later")
ACCOUNT_GONE = Reply(421, "4.7.0", "The account of this login has been removed; closing")
NOT_YOUR_ADDRESS = Reply(553, "5.7.1", "This login may not send as that address")
MESSAGE_TOO_BIG = Reply(552, "5.3.4", "Message exceeds the size limit")
HEADER_TOO_BIG = Reply(552, "5.3.4", "Header section exceeds the size limit")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients in one transaction")
STORAGE_FULL = Reply(452, "4.3.1", "Insufficient system storage; try again later")
MAILBOX_FULL = Reply(452, "4.2.2", "Mailbox full; try again later")
NEVER_FITS = Reply(552, "5.2.2", "Message is larger than all that this mailbox may hold")
LOCAL_ERROR = Reply(451, "4.3.0", "Local error in processing; try again later")
ALIAS_LOOP = Reply(550, "5.4.6", "Routing loop: the aliases of this address lead nowhere")
EXPANSION_TOO_BIG = Reply(550, "5.2.4", "This address expands to too many recipients")
NO_POSTMASTER = Reply(450, "4.2.1", "There is no mailbox here yet, not even for postmaster; try again later")
TOO_MANY_HOPS = Reply(554, "5.4.6", "Routing loop: too many Received fields")
TOO_MANY_SESSIONS = Reply(421, "4.7.0", "Too many sessions; try again later")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors; closing")
SHUTTING_DOWN = Reply(421, "4.3.2", "Server is shutting down; try again later")
TIMED_OUT = Reply(421, "4.4.2", "Timeout; closing")
