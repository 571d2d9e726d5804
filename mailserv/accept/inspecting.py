"""A message whose content is whole and not yet committed: who sent it, may it pass, what is made of it."""

from __future__ import annotations

from dataclasses import dataclass

from mailserv.errors import PluginError
from mailserv.filter.auth_results import results_field
from mailserv.filter.checks import SessionChecks
from mailserv.logging import get_logger
from mailserv.mail import reply
from mailserv.mail.auth_result import AuthResults
from mailserv.mail.envelope import Envelope
from mailserv.mail.message import Content, PrefixedContent
from mailserv.mail.peer import Peer
from mailserv.mail.reply import Reply
from mailserv.mail.trace import TraceEntry

_log = get_logger("accept")


@dataclass(frozen=True, slots=True)
class Arrived:
    """`top` is our Received field where it is not in `content` yet: an Authentication-Results field has to come below it."""

    peer: Peer
    envelope: Envelope
    content: Content
    top: bytes
    hostname: str
    received_at: float
    is_binary: bool


@dataclass(frozen=True, slots=True)
class Inspected:
    """What is to be accepted. `content` may be another, or hold the one that arrived."""

    content: Content
    results: AuthResults = ()
    trace: tuple[TraceEntry, ...] = ()


def inspect(asked: SessionChecks, arrived: Arrived) -> Inspected | Reply:
    """Ask the plugins that look at whole messages, in the order of docs/hooks.md; the refusal when there is one."""
    try:
        found = _authenticated(asked, arrived)
        verdict = asked.message(arrived.peer, arrived.envelope, found.content, found.results)
        return verdict.reply if verdict is not None else _rewritten(asked, arrived, found)
    except PluginError as error:
        _log.warning("plugin_missed", session=arrived.peer.session_id, error=str(error))
        return reply.LOCAL_ERROR


def _authenticated(asked: SessionChecks, arrived: Arrived) -> Inspected:
    if not arrived.top:
        return Inspected(arrived.content)
    content = PrefixedContent(arrived.top, arrived.content)
    results = asked.authenticated(arrived.peer, arrived.envelope, content)
    top = arrived.top + results_field(arrived.hostname, results)
    said = ", ".join(f"{each.method}={each.result}" for each in results)
    entry = TraceEntry(arrived.received_at, "authenticated", detail={"results": said})
    return Inspected(PrefixedContent(top, arrived.content), results, (entry,) if results else ())


def _rewritten(asked: SessionChecks, arrived: Arrived, found: Inspected) -> Inspected:
    if arrived.is_binary:
        return found
    content = asked.rewritten(arrived.peer, arrived.envelope, found.content, found.results)
    return Inspected(content, found.results, found.trace)
