"""The SMTP service extensions of a server, by keyword, verb and parameter (RFC 5321 §2.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from types import MappingProxyType

from mailserv.mail import reply as replies
from mailserv.mail.extension import Parameter, SessionView, SMTPExtension, Verb
from mailserv.mail.reply import Reply
from mailserv.protocol.commands import COMMANDS, LMTP_COMMANDS, NOT_OURS, RawParameters


class ExtensionTable:
    """Built once, never changed: any number of threads may use it.

    Raises ValueError when two extensions claim one EHLO keyword, verb or parameter, or one of them a verb of the core.
    """

    def __init__(self, extensions: Sequence[SMTPExtension]) -> None:
        self._extensions = tuple(extensions)
        self._verbs: dict[str, tuple[SMTPExtension, Verb]] = {}
        # For each service once: every greeting asks. Each is a line, or a keyword with who knows its text.
        self._offers = cache(
            lambda service: [_offer(e) for e in self._extensions if e.keyword and service in e.services]
        )
        self._verbs_of = cache(
            lambda service: MappingProxyType({n: v.help for n, (e, v) in self._verbs.items() if service in e.services})
        )
        keywords: set[str] = set()
        for extension in self._extensions:
            _claim_keyword(keywords, extension.keyword.upper())
            for verb in extension.verbs:
                self._claim_verb(extension, verb)
        self._mail_params = _by_name("MAIL", ((e, e.mail_params) for e in self._extensions))
        self._rcpt_params = _by_name("RCPT", ((e, e.rcpt_params) for e in self._extensions))
        self.line_growth = max(map(_growth, (self._mail_params, self._rcpt_params)))
        """Octets that parameters add to the longest command line (RFC 5321 §4.5.3.1.4): MAIL's or RCPT's, the larger."""

    def ehlo_lines(self, view: SessionView) -> list[str]:
        """What EHLO advertises to this session now, one keyword with its text a line, in the order of the extensions."""
        lines = []
        for offer in self._offers(view.peer.service):
            if isinstance(offer, str):
                lines.append(offer)
                continue
            keyword, text = offer
            now = text(view)
            if now is not None:
                lines.append(f"{keyword} {now}" if now else keyword)
        return lines

    def verb(self, name: str, service: str) -> Verb | None:
        """The verb, by its name in capitals, where this service has it. Whether it may be used *now* its handler knows."""
        claim = self._verbs.get(name)
        return claim[1] if claim and service in claim[0].services else None

    def verbs(self, service: str) -> Mapping[str, str]:
        """Every verb of the extensions on this service, with what HELP says of it."""
        return self._verbs_of(service)

    def knows_verb(self, name: str) -> bool:
        """Whether it is a command at all, here or elsewhere: 502 rather than 500 (RFC 5321 §4.2.4)."""
        return name in self._verbs or name.encode() in NOT_OURS

    def mail_param(self, name: str, view: SessionView, value: str | None = None) -> Parameter | None:
        """MAIL's parameter, by its name in capitals, if its extension is offered to this session now.

        Where several share it, the one whose value this is; else the first, which will refuse it.
        """
        return _offered(self._mail_params.get(name, ()), view, value)

    def rcpt_param(self, name: str, view: SessionView, value: str | None = None) -> Parameter | None:
        """RCPT's parameter, as `mail_param`."""
        return _offered(self._rcpt_params.get(name, ()), view, value)

    def check_mail(self, raw: RawParameters, view: SessionView) -> dict[str, str] | Reply:
        """MAIL's parameters, each passed by its extension; or the first refusal."""
        return _check([(self.mail_param(name, view, value), name, value) for name, value in raw], view)

    def check_rcpt(self, raw: RawParameters, view: SessionView) -> dict[str, str] | Reply:
        """RCPT's parameters, each passed by its extension; or the first refusal."""
        return _check([(self.rcpt_param(name, view, value), name, value) for name, value in raw], view)

    def _claim_verb(self, extension: SMTPExtension, verb: Verb) -> None:
        name = verb.name.upper()
        if name in self._verbs or name.encode() in COMMANDS.keys() | LMTP_COMMANDS.keys():
            raise ValueError(f"two claim the verb {name}")
        self._verbs[name] = (extension, verb)


_Shared = tuple[tuple[SMTPExtension, Parameter], ...]
_Parameters = dict[str, _Shared]


def _offer(extension: SMTPExtension) -> str | tuple[str, Callable[[SessionView], str | None]]:
    if isinstance(extension.advertise, str):
        return f"{extension.keyword} {extension.advertise}" if extension.advertise else extension.keyword
    return extension.keyword, extension.advertise


def _claim_keyword(keywords: set[str], keyword: str) -> None:
    if keyword and keyword in keywords:
        raise ValueError(f"two claim the EHLO keyword {keyword}")
    keywords.add(keyword)


def _by_name(command: str, claims: Iterable[tuple[SMTPExtension, tuple[Parameter, ...]]]) -> _Parameters:
    table: _Parameters = {}
    for extension, parameters in claims:
        for parameter in parameters:
            name = parameter.name.upper()
            shared = table.get(name, ())
            if any(_contradict(parameter, other) for _, other in shared):
                raise ValueError(f"two claim the {command} parameter {name}")
            table[name] = (*shared, (extension, parameter))
    return table


def _growth(table: _Parameters) -> int:
    return sum(max(p.growth for _, p in shared) for shared in table.values())


def _contradict(one: Parameter, other: Parameter) -> bool:
    return one.values is None or other.values is None or not one.values.isdisjoint(other.values)


def _offered(shared: _Shared, view: SessionView, value: str | None) -> Parameter | None:
    service = view.peer.service
    offered = [p for extension, p in shared if service in extension.services and extension.text(view) is not None]
    if len(offered) > 1 and value is not None:
        return next((p for p in offered if p.values is not None and value.upper() in p.values), offered[0])
    return offered[0] if offered else None


def _check(parameters: Iterable[tuple[Parameter | None, str, str | None]], view: SessionView) -> dict[str, str] | Reply:
    """RFC 5321 §4.1.1.11: a parameter that nobody knows or that is not offered is 555."""
    values: dict[str, str] = {}
    for parameter, name, value in parameters:
        if parameter is None:
            return replies.UNKNOWN_PARAMETER
        refusal = parameter.check(view, value)
        if refusal is not None:
            return refusal
        values[name] = value or ""
    return values
