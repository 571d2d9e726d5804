"""One mail transaction from the client's side (RFC 5321 §3.3), pipelined where that is offered (RFC 2920)."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence

from mailserv.errors import ProtocolError
from mailserv.mail.address import Address
from mailserv.mail.reply import Reply, Severity
from mailserv.mail.smtp_reply import ServerReply
from mailserv.protocol.smtp_client import Capabilities, Step

RSET = b"RSET\r\n"
QUIT = b"QUIT\r\n"
LONE_DOT = b".\r\n"

# Parameters that the next hop hears as we did, and the keyword that it must have offered (RFC 3461 §4, §5.2.1).
_MAIL_PASSED_ON = {"RET": "DSN", "ENVID": "DSN"}
_RCPT_PASSED_ON = {"NOTIFY": "DSN", "ORCPT": "DSN"}

_ESMTP_VALUE = re.compile(r"[!-<>-~]+")  # RFC 5321 §4.1.2

_EXPECTED = {
    Step.RSET: {Severity.POSITIVE},  # else nobody knows whose recipients the server has in mind
    Step.MAIL: {Severity.POSITIVE, Severity.TRANSIENT, Severity.PERMANENT},
    Step.RCPT: {Severity.POSITIVE, Severity.TRANSIENT, Severity.PERMANENT},
    Step.DATA: {Severity.INTERMEDIATE, Severity.TRANSIENT, Severity.PERMANENT},
    Step.DOT: {Severity.POSITIVE, Severity.TRANSIENT, Severity.PERMANENT},
}


def mail_command(
    reverse_path: Address,
    parameters: Mapping[str, str],
    known: Capabilities,
    *,
    size: int,
    is_8bit: bool,
    utf8: bool,
    is_binary: bool = False,
) -> bytes:
    """MAIL with what the server has offered, and nothing else (RFC 5321 §2.2.1, RFC 1870, RFC 6152, RFC 6531).

    8-bit content goes as it is to a server without 8BITMIME, undeclared. RFC 6152 §3 asks for a conversion or a bounce;
    but a conversion breaks signatures, a bounce helps nobody, and servers that are not 8-bit clean have died out.
    """
    extra = ""
    if "SIZE" in known:
        extra += f" SIZE={size}"
    if is_binary:
        extra += " BODY=BINARYMIME"
    elif "8BITMIME" in known and (is_8bit or parameters.get("BODY") == "8BITMIME"):
        extra += " BODY=8BITMIME"
    if utf8:
        extra += " SMTPUTF8"
    extra += _passed_on(parameters, _MAIL_PASSED_ON, known)
    return f"MAIL FROM:<{reverse_path}>{extra}\r\n".encode()


def rcpt_command(forward_path: Address, parameters: Mapping[str, str], known: Capabilities) -> bytes:
    """RCPT with what the server has offered."""
    return f"RCPT TO:<{forward_path}>{_passed_on(parameters, _RCPT_PASSED_ON, known)}\r\n".encode()


def _passed_on(parameters: Mapping[str, str], table: Mapping[str, str], known: Capabilities) -> str:
    if not parameters:
        return ""
    offered = ((name, parameters.get(name, "")) for name, keyword in table.items() if keyword in known)
    return "".join(f" {name}={value}" for name, value in offered if _ESMTP_VALUE.fullmatch(value))


class Transaction:
    """What to send, which reply is awaited, and what each recipient was told. One thread.

    The caller sends `commands()` until it is b"", gives each reply to `take`, and when `wants_content` sends the content
    with its dot and says `content_sent`. With `wants_lone_dot` (all recipients were refused, yet the server said 354:
    RFC 2920 §3.1) it sends LONE_DOT instead. `is_over` ends it: then `replies` has one for each recipient.

    `in_chunks`: there is no DATA and no dot, the content goes as the last chunk of a BDAT (RFC 3030 §2).
    """

    def __init__(
        self,
        mail: bytes,
        rcpts: Sequence[bytes],
        *,
        pipelining: bool,
        reset_first: bool = False,
        in_chunks: bool = False,
    ) -> None:
        self._to_send: deque[tuple[Step, int, bytes]] = deque()
        if reset_first:
            self._to_send.append((Step.RSET, 0, RSET))
        self._to_send.append((Step.MAIL, 0, mail))
        self._to_send.extend((Step.RCPT, index, rcpt) for index, rcpt in enumerate(rcpts))
        if not in_chunks:
            self._to_send.append((Step.DATA, 0, b"DATA\r\n"))
        self.in_chunks = in_chunks
        self._awaited: deque[tuple[Step, int]] = deque()
        self._pipelining = pipelining
        self._accepted: list[int] = []
        self._go_ahead = False  # 354 was said, or none is needed, and the content has not been sent
        self.replies: list[Reply | None] = [None] * len(rcpts)
        self.closing: Reply | None = None  # the 421, if there was one
        self.closed_at: Step | None = None  # the step that it answered
        self.dot_sent = False
        self.needs_reset = False

    @property
    def awaits(self) -> Step | None:
        """The step whose reply comes next."""
        return self._awaited[0][0] if self._awaited else None

    @property
    def wants_content(self) -> bool:
        return self._go_ahead and bool(self._accepted)

    @property
    def wants_lone_dot(self) -> bool:
        return self._go_ahead and not self._accepted

    @property
    def is_taken(self) -> bool:
        """The server took the message for somebody."""
        return any(reply is not None and reply.severity is Severity.POSITIVE for reply in self.replies)

    @property
    def is_over(self) -> bool:
        """Nothing more is to be sent or heard, or the server has said 421."""
        return self.closing is not None or not (self._to_send or self._awaited or self._go_ahead)

    def commands(self) -> bytes:
        """What to send now: the whole group with pipelining, one command without (RFC 2920 §3.1)."""
        if not self._to_send or (self._awaited and not self._pipelining):
            return b""
        count = len(self._to_send) if self._pipelining else 1
        sent = [self._to_send.popleft() for _ in range(count)]
        self._awaited.extend((step, index) for step, index, _ in sent)
        return b"".join(data for _, _, data in sent)

    def content_sent(self) -> None:
        """The dot is on its way: from now on the message may have been taken."""
        self._go_ahead = False
        self.dot_sent = True
        self.needs_reset = False
        self._awaited.append((Step.DOT, 0))

    def take_early(self, reply: ServerReply) -> None:
        """A reply that came before the dot. A refusal is one, for without its dot the content can't have been taken."""
        if reply.severity is Severity.POSITIVE or reply.severity is Severity.INTERMEDIATE:
            raise ProtocolError("a reply came before the content")  # a refusal after the dot would count as nothing
        self._go_ahead = False
        if reply.code == 421:
            self._close(Step.BLOCK, reply.to_reply())
        else:
            self._answer_accepted(reply.to_reply())

    def take(self, reply: ServerReply) -> None:
        """The next reply, in order. Raises ProtocolError for one that can't be an answer to its command."""
        if not self._awaited:
            raise ProtocolError(f"a reply nobody asked for: {reply.code}")
        step, index = self._awaited.popleft()
        if reply.code == 421:  # RFC 5321 §3.8: at any time, to any command
            self._close(step, reply.to_reply())
            return
        if reply.severity not in _EXPECTED[step]:
            raise ProtocolError(f"{reply.code} is no answer to {step.value}")
        match step:
            case Step.MAIL:
                self._take_mail(reply)
            case Step.RCPT:
                self._take_rcpt(reply, index)
                if self.in_chunks and not self._to_send and not self._awaited:
                    self._go_ahead = bool(self._accepted)
            case Step.DATA:
                self._take_data(reply)
            case Step.DOT:
                # RFC 3030 §2: after a refused chunk nobody knows the state but by RSET.
                self.needs_reset = self.in_chunks and reply.severity is not Severity.POSITIVE
                self._answer_accepted(reply.to_reply())

    def _take_mail(self, reply: ServerReply) -> None:
        self.needs_reset = reply.severity is Severity.POSITIVE
        if reply.severity is not Severity.POSITIVE:
            self.replies = [reply.to_reply()] * len(self.replies)
            self._to_send.clear()  # without pipelining nothing follows

    def _take_rcpt(self, reply: ServerReply, index: int) -> None:
        # Even after a refused MAIL: the next message must never reach a recipient that was left over.
        self.needs_reset = self.needs_reset or reply.severity is Severity.POSITIVE
        if self.replies[index] is not None:
            return  # MAIL was refused: what this RCPT is told is only a consequence
        if reply.severity is Severity.POSITIVE:
            self._accepted.append(index)
        else:
            said = reply.to_reply()
            # RFC 5321 §4.5.3.1.10: some say 552 for too many recipients, and mean 452.
            self.replies[index] = Reply(452, "4.5.3", said.text) if said.code == 552 else said
        if not self._accepted and self._to_send and self._to_send[0][0] is Step.DATA:
            self._to_send.clear()  # nobody is left to send it to

    def _take_data(self, reply: ServerReply) -> None:
        self._go_ahead = reply.severity is Severity.INTERMEDIATE
        if self._go_ahead:
            self.needs_reset = False  # its dot ends the transaction, whatever the answer (RFC 5321 §4.1.1.4)
        else:
            self._answer_accepted(reply.to_reply())

    def _answer_accepted(self, reply: Reply) -> None:
        for index in self._accepted:
            self.replies[index] = reply
        self._accepted = []

    def _close(self, step: Step, reply: Reply) -> None:
        """The server ends the session: whoever has no answer yet waits for another one."""
        self.closing, self.closed_at = reply, step
        self.replies = [known or reply for known in self.replies]
