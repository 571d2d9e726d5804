"""A message whose content is whole and not yet committed: who sent it, may it pass, what is in it, what is made of it."""

from __future__ import annotations

from collections.abc import Callable

from mailserv.errors import PluginError
from mailserv.filter.auth_results import results_field
from mailserv.filter.checks import SessionChecks
from mailserv.hooks.round import Asking
from mailserv.logging import get_logger
from mailserv.mail import reply
from mailserv.mail.auth_result import AuthResults
from mailserv.mail.envelope import Envelope
from mailserv.mail.fields import printable
from mailserv.mail.finding import Finding
from mailserv.mail.message import Content, SplicedContent
from mailserv.mail.peer import Peer
from mailserv.mail.reply import Reply
from mailserv.mail.trace import TraceEntry
from mailserv.mail.value import Value, replace

_log = get_logger("accept")


class Arrived(Value, frozen=True):
    """`below`: how many octets of `content` our Received field takes; other fields of ours come behind it."""

    queue_id: str
    peer: Peer
    envelope: Envelope
    content: Content
    below: int
    hostname: str
    received_at: float


class Inspected(Value, frozen=True):
    """What is to be accepted. `content` is what arrived, or holds it with more fields, or is another."""

    content: Content
    results: AuthResults = ()
    fields: bytes = b""
    trace: tuple[TraceEntry, ...] = ()


def inspect(
    asked: SessionChecks, peer: Peer, envelope: Envelope, content: Content, arrived: Callable[[Content], Arrived]
) -> Asking[Inspected | Reply]:
    """Ask the plugins that look at whole messages, in the order of docs/hooks.md; the refusal when there is one.

    `arrived(content)` is called where somebody wants to add something. Where nobody looks this need not be called:
    `SessionChecks.inspecting` is empty then.
    """
    try:
        found = Inspected(content)
        if "message_authenticate" in asked.inspecting:
            found = yield from _authenticated(asked, arrived(content))
        verdict = yield from asked.message(peer, envelope, found.content, found.results)
        if verdict is not None:
            return verdict.reply
        if "message_scan" in asked.inspecting:
            scanned = yield from _scanned(asked, arrived(content), found)
            if isinstance(scanned, Reply):
                return scanned
            found = scanned
        if "message_rewrite" not in asked.inspecting or envelope.is_binary:
            return found
        rewritten, by = yield from asked.rewritten(peer, envelope, found.content, found.results)
        if not by:
            return found
        detail: dict[str, str | int | float] = {"by": ", ".join(by), "size": rewritten.size}
        entry = TraceEntry(arrived(rewritten).received_at, "rewritten", detail=detail)
        return replace(found, content=rewritten, trace=(*found.trace, entry))
    except PluginError as error:
        _log.warning("plugin_missed", session=peer.session_id, error=str(error))
        return reply.LOCAL_ERROR


def _authenticated(asked: SessionChecks, arrived: Arrived) -> Asking[Inspected]:
    results = yield from asked.authenticated(arrived.peer, arrived.envelope, arrived.content)
    fields = results_field(arrived.hostname, results)
    said = ", ".join(f"{each.method}={each.result}" for each in results)
    trace = (TraceEntry(arrived.received_at, "authenticated", detail={"results": said}),) if results else ()
    return Inspected(SplicedContent(arrived.content, arrived.below, fields), results, fields, trace)


def _scanned(asked: SessionChecks, arrived: Arrived, so_far: Inspected) -> Asking[Inspected | Reply]:
    findings, verdict = yield from asked.scanned(arrived.peer, arrived.envelope, so_far.content, so_far.results)
    details = [_detail(plugin, finding) for plugin, finding in findings]
    for detail, (_, finding) in zip(details, findings, strict=True):
        if finding.found:
            _log.info("scan_found", queue_id=arrived.queue_id, session=arrived.peer.session_id, **detail)
    if verdict is not None:
        return verdict.reply
    fields = so_far.fields + b"".join(map(_fields, (finding for _, finding in findings)))
    content = SplicedContent(arrived.content, arrived.below, fields) if fields else arrived.content
    trace = tuple(TraceEntry(arrived.received_at, "scanned", detail=detail) for detail in details)
    return replace(so_far, content=content, fields=fields, trace=so_far.trace + trace)


def _detail(plugin: str, finding: Finding) -> dict[str, str | int | float]:
    detail: dict[str, str | int | float] = {"plugin": plugin, "found": printable(finding.found, 255)}
    return detail if finding.score is None else {**detail, "score": finding.score}


def _fields(finding: Finding) -> bytes:
    return "".join(f"{name}: {printable(value, 900)}\r\n" for name, value in finding.fields).encode("ascii")
