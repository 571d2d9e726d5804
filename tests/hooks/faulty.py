"""The shipped plugins with a switch at everything that the server calls of them."""

from __future__ import annotations

import functools
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from mailserv import hookimpl
from mailserv.cli.plugin_found import OURS
from mailserv.config import read_section
from mailserv.hooks.host import GROUP
from mailserv.hooks.methods import MARK
from mailserv.hooks.specs import KINDS, Kind
from mailserv.logging import get_logger
from mailserv.mail.delivery import Attempt, Delivery, Transport
from mailserv.mail.extension import LookUp, Parameter, SMTPExtension, StartQueue, Verb
from mailserv.mail.outcome import Delivered
from mailserv.mail.plugin import Services
from mailserv.mail.pop3_extension import Pop3Extension
from mailserv.mail.reply import OK
from mailserv.mail.sasl import SaslMechanism
from mailserv.mail.value import replace
from mailserv.testing.clock import FakeClock

SHIPPED = sorted(entry.name for entry in entry_points(group=GROUP) if entry.dist and entry.dist.name == OURS)
ONCE = ("startup", "shutdown")  # called once in a server's life: no breaker can open
Fault = Callable[[], Any]


def plugin_class(name: str) -> type:
    found: type = entry_points(group=GROUP)[name].load()
    return found


# RFC 8463, appendix A.2.
ED25519_KEY = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
"""


def hooks_of(name: str, *kinds: Kind) -> list[str]:
    """Those that the plugin implements, of these kinds; without kinds all that are called while the server runs."""
    wanted = kinds or [kind for kind in Kind if kind is not Kind.COLLECT]
    plugin = plugin_class(name)
    return [hook for hook, kind in KINDS.items() if kind in wanted and hasattr(getattr(plugin, hook, None), MARK)]


def settings_of(name: str, folder: Path) -> dict[str, Any]:
    """What a plugin can't be made without, and what lets the client of a test pass. A plugin that needs more is added here."""
    everybody = ["127.0.0.0/8"]
    if name == "passwdfile":
        (folder / "passwd").touch()
    if name == "dkim":
        (folder / "dkim.pem").write_text(ED25519_KEY)
    needed: dict[str, dict[str, Any]] = {
        "audit": {"path": str(folder / "audit.log")},
        "clamav": {"address": f"unix:{folder}/none", "unavailable": "accept"},
        "dkim": {"keys": [{"domain": "example.org", "selector": "test", "file": str(folder / "dkim.pem")}]},
        "etrn": {"clients": [{"networks": everybody, "domains": ["example.org"]}]},
        "forward": {"secret": "a secret of a test"},
        "greylist": {"networks": everybody},
        "lmtp": {"to": "127.0.0.1:1"},
        "magic": {"domains": ["magic.example"]},
        "maildir": {"path": str(folder / "{local_part}")},
        "passwdfile": {"file": str(folder / "passwd")},
        "sender": {"networks": everybody},
        "xclient": {"networks": everybody},
    }
    return needed.get(name, {})


class Switch:
    """What fails now, by name, and how often each was called. Any thread, as far as a test needs it."""

    def __init__(self, *, runs_own_code: bool = True) -> None:
        """`runs_own_code` False: what is well says nothing, at once. A tiny budget is then used up by a fault only."""
        self.calls: Counter[str] = Counter()
        self._faults: dict[str, Fault] = {}
        self._runs_own_code = runs_own_code

    @contextmanager
    def failing(self, fault: Fault, *names: str) -> Iterator[None]:
        self._faults = dict.fromkeys(names, fault)
        try:
            yield
        finally:
            self._faults = {}

    def at(self, name: str, own: Callable[..., Any], *, may_be_silent: bool = True) -> Callable[..., Any]:
        """`own`, under the switch `name`."""

        @functools.wraps(own)
        def call(*arguments: Any, **named: Any) -> Any:
            self.calls[name] += 1
            if name in self._faults:
                return self._faults[name]()
            return own(*arguments, **named) if self._runs_own_code or not may_be_silent else None

        return call


def registered(name: str, hook: str) -> list[Any]:
    """What the plugin brings by this hook; none when it has not got it."""
    plugin = plugin_class(name)
    if not hasattr(getattr(plugin, hook, None), MARK):
        return []
    services = Services(name, "mail.example.org", FakeClock().now, get_logger("test"))
    struct = getattr(plugin, "Settings", None)
    section = settings_of(name, Path(tempfile.gettempdir()))
    made = plugin(read_section(struct, section, name) if struct else None, services)
    return list(getattr(made, hook)())


def faulty(name: str, switch: Switch) -> type:
    """The shipped plugin as the server would take it, under the same name, with the same hooks: each has its switch."""
    plugin = plugin_class(name)
    methods: dict[str, Any] = {hook: switch.at(hook, getattr(plugin, hook)) for hook in hooks_of(name)}
    for hook, under in DOORS.items():
        if hasattr(plugin, hook):
            methods[hook] = _register(getattr(plugin, hook), under, switch)
    return type("Plugin", (plugin,), {"__module__": plugin.__module__, **methods})


def _register(own: Callable[[Any], Iterable[Any]], under: Callable[[Any, Switch], Any], switch: Switch) -> Any:
    @hookimpl
    def register(self: Any) -> Iterable[Any]:
        return [under(each, switch) for each in own(self)]

    return register


def switched(extension: SMTPExtension, switch: Switch) -> SMTPExtension:
    """Its names at the switch: "keyword SIZE", "verb VRFY", "payload BDAT", "tell VRFY", "MAIL SIZE", "RCPT NOTIFY"."""
    text = extension.advertise
    return replace(
        extension,
        advertise=text if isinstance(text, str) else switch.at(f"keyword {extension.keyword}", text),
        verbs=tuple(_verb(verb, switch) for verb in extension.verbs),
        mail_params=tuple(_parameter("MAIL", each, switch) for each in extension.mail_params),
        rcpt_params=tuple(_parameter("RCPT", each, switch) for each in extension.rcpt_params),
    )


def _verb(verb: Verb, switch: Switch) -> Verb:
    def handle(*arguments: Any) -> Any:
        answer = verb.handle(*arguments)
        if isinstance(answer, LookUp | StartQueue):
            tell: Any = switch.at(f"tell {verb.name}", answer.tell)
            return replace(answer, tell=tell)
        return answer

    payload = verb.payload and switch.at(f"payload {verb.name}", verb.payload)
    return replace(verb, handle=switch.at(f"verb {verb.name}", handle), payload=payload)


def _parameter(command: str, parameter: Parameter, switch: Switch) -> Parameter:
    return replace(parameter, check=switch.at(f"{command} {'/'.join(parameter.claims)}", parameter.check))


def switched_mechanism(mechanism: SaslMechanism, switch: Switch) -> SaslMechanism:
    return replace(mechanism, begin=switch.at(f"AUTH {mechanism.name}", mechanism.begin))


def switched_pop3(extension: Pop3Extension, switch: Switch) -> Pop3Extension:
    """Its names at the switch: "verb LANG". What a shipped one advertises is a text, which cannot fail."""
    verbs = (replace(verb, handle=switch.at(f"verb {verb.name}", verb.handle)) for verb in extension.verbs)
    return replace(extension, verbs=tuple(verbs))


def switched_transport(named: tuple[str, Transport], switch: Switch) -> tuple[str, Transport]:
    """The name is the plugin's; a stand-in delivers, for there is nobody behind a test's maildir, list or host."""
    name, _ = named
    return name, StandIn(name, switch)


class StandIn:
    """Everything is delivered at once, unless "transport NAME" fails: then what the fault gives is iterated over."""

    def __init__(self, name: str, switch: Switch) -> None:
        self._deliver = switch.at(f"transport {name}", lambda: None)

    def deliver(self, deliveries: Iterable[Delivery]) -> Iterator[Attempt]:
        fault = self._deliver()
        if fault is not None:
            yield from fault(deliveries)
            return
        for delivery in deliveries:
            yield Attempt(delivery, (Delivered(OK),) * len(delivery.rows))

    def close(self) -> None:
        pass


DOORS: dict[str, Callable[[Any, Switch], Any]] = {
    "register_smtp_extensions": switched,
    "register_sasl_mechanisms": switched_mechanism,
    "register_pop3_extensions": switched_pop3,
    "register_transports": switched_transport,
}
"""What a plugin registers, and how a switch gets at it."""
