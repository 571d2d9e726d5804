"""What plugins bring at the start, asked of them and checked for contradictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pluggy
from click import Command

from mailserv.errors import ConfigError
from mailserv.hooks.extensions import OUR_KEYS, flaws, guarded, keys
from mailserv.hooks.listeners import guarded_listener
from mailserv.hooks.mechanisms import guarded_mechanism
from mailserv.hooks.pop3_extensions import OUR_POP3_KEYS, guarded_pop3, pop3_flaws, pop3_keys
from mailserv.hooks.runner import Runner
from mailserv.mail.delivery import Transport
from mailserv.mail.extension import SMTPExtension
from mailserv.mail.listening import PluginListener
from mailserv.mail.pop3_extension import Pop3Extension
from mailserv.mail.route import MAILBOX, SMTP, TRANSPORT_NAME
from mailserv.mail.sasl import SaslMechanism
from mailserv.protocol.sasl import BUILT_IN

OURS = "mailserv"  # who brings what no plugin does


@dataclass(frozen=True, slots=True)
class Plugins:
    """What the enabled plugins brought, checked for contradictions."""

    names: tuple[str, ...]
    extensions: tuple[SMTPExtension, ...]
    transports: Mapping[str, Transport]
    commands: Mapping[str, Sequence[Command]]  # by plugin
    listeners: Mapping[str, PluginListener]  # by plugin
    runner: Runner
    mechanisms: tuple[SaslMechanism, ...] = BUILT_IN
    pop3_extensions: tuple[Pop3Extension, ...] = ()


def collect(manager: pluggy.PluginManager, names: tuple[str, ...], runner: Runner) -> Plugins:
    """Ask the hooks that collect. Raises ConfigError with every problem found, each naming its plugin."""
    problems: list[str] = []
    extensions = _answers(manager, "register_smtp_extensions", SMTPExtension, problems, flaws)
    transports = _answers(manager, "register_transports", tuple, problems, _transport_flaws)
    pop3 = _answers(manager, "register_pop3_extensions", Pop3Extension, problems, pop3_flaws)
    mechanisms = _answers(manager, "register_sasl_mechanisms", SaslMechanism, problems)
    claims = [(OURS, key) for key in (*OUR_KEYS, *OUR_POP3_KEYS, f"transport {SMTP}", f"transport {MAILBOX}")]
    claims += [(owner, key) for owner, extension in extensions for key in keys(extension)]
    claims += [(owner, f"transport {name}") for owner, (name, _) in transports]
    claims += [(owner, key) for owner, extension in pop3 for key in pop3_keys(extension)]
    problems += _contradictions(claims)
    built_in = [(OURS, mechanism) for mechanism in BUILT_IN]
    problems += _contradictions((owner, f"SASL mechanism {each.name}") for owner, each in [*built_in, *mechanisms])
    listeners = _answers(manager, "register_listeners", PluginListener, problems)
    problems += _contradictions((owner, f"service {owner}") for owner, _ in listeners)
    commands = _answers(manager, "register_commands", Command, problems)
    problems += _contradictions((owner, f"command {owner} {command.name}") for owner, command in commands)
    problems += [f"plugin.{name}.{text}" for name, text in _answers(manager, "check_config", str, problems)]
    if problems:
        raise ConfigError(problems)
    return Plugins(
        names=names,
        extensions=tuple(guarded(owner, extension) for owner, extension in extensions),
        transports=dict(pair for _, pair in transports),
        listeners={owner: guarded_listener(owner, listener) for owner, listener in listeners},
        commands={name: [command for owner, command in commands if owner == name] for name in names},
        runner=runner,
        mechanisms=BUILT_IN + tuple(guarded_mechanism(owner, mechanism) for owner, mechanism in mechanisms),
        pop3_extensions=tuple(guarded_pop3(owner, extension) for owner, extension in pop3),
    )


def _answers(
    manager: pluggy.PluginManager,
    hook: str,
    kind: type,
    problems: list[str],
    flaws: Callable[[Any], Iterable[str]] = lambda _: (),
) -> list[tuple[str, Any]]:
    """Every answer with its plugin's name. What raises, has a wrong type or a flaw is a problem that names it."""
    found = []
    for implementation in reversed(getattr(manager.hook, hook).get_hookimpls()):
        name = implementation.plugin_name
        try:
            gave = implementation.function()
            answers = None if isinstance(gave, str) or not isinstance(gave, Iterable) else list(gave)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - the hook runner is one of the three places for this
            problems.append(f"plugin {name}: {hook} raised {type(error).__name__}: {error}")
            continue
        if answers is None:
            problems.append(f"plugin {name}: {hook} gave {gave!r}, not a list of {kind.__name__}")
            continue
        for answer in answers:
            wrong = [*flaws(answer)] if isinstance(answer, kind) else [f"{hook} gave {answer!r}, not a {kind.__name__}"]
            problems += [f"plugin {name}: {text}" for text in wrong]
            found += [] if wrong else [(name, answer)]
    return found


def _transport_flaws(pair: tuple[Any, ...]) -> Iterator[str]:
    name, way = pair if len(pair) == 2 else (None, None)
    is_name = isinstance(name, str) and TRANSPORT_NAME.fullmatch(name)
    if not is_name or not all(callable(getattr(way, method, None)) for method in ("deliver", "close")):
        yield f"{pair!r} is no name with a Transport"


def _contradictions(claims: Iterable[tuple[str, str]]) -> list[str]:
    first: dict[str, str] = {}
    problems = []
    for owner, key in claims:
        if key in first:
            problems.append(
                f"plugin {owner} brings {key}, which mailserv has itself"
                if first[key] == OURS
                else f"plugins {first[key]} and {owner} both bring {key}: disable one of them"
            )
        else:
            first[key] = owner
    return problems
