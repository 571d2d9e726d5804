"""`mailserv plugin test`: a session that is not held, to see what a plugin would say to it."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from mailserv.cli.common import config_option, json_option, print_json, print_table, refuse
from mailserv.cli.plugin_found import load_alone, settings_for
from mailserv.cli.plugin_samples import ORDINARY, Sample
from mailserv.clock import SystemClock
from mailserv.errors import AddressSyntaxError, PluginError
from mailserv.hooks.rooms import Rooms
from mailserv.hooks.runner import Runner
from mailserv.hooks.specs import KINDS, Kind
from mailserv.mail.address import Address, parse_mailbox
from mailserv.mail.finding import Finding
from mailserv.mail.message import BytesContent, Content
from mailserv.mail.value import replace
from mailserv.mail.verdict import Observed, Verdict
from mailserv.resolver import Resolver
from mailserv.settings import Settings

SESSION = (
    "smtp_connect",
    "smtp_helo",
    "smtp_mail",
    "smtp_rcpt",
    "smtp_data",
    "message_authenticate",
    "message_check",
    "message_scan",
    "message_rewrite",
)


@click.command("test")
@click.argument("name")
@click.option("--ip", default=ORDINARY.peer.ip, show_default=True, help="The client's address.")
@click.option("--helo", default=ORDINARY.peer.helo, show_default=True, help="What it says in EHLO.")
@click.option("--login", default="", help="The account that it has logged in as. Default: none.")
@click.option("--mail", default=str(ORDINARY.reverse_path), show_default=True, help='Reverse-path; "" is the null one.')
@click.option("--rcpt", default=str(ORDINARY.forward_path), show_default=True, help="Forward-path.")
@click.option(
    "--message", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="A file with the message."
)
@json_option
@config_option
def test(
    name: str,
    ip: str,
    helo: str,
    login: str,
    mail: str,
    rcpt: str,
    message: Path | None,
    as_json: bool,
    config: Path | None,
) -> None:
    """Show what the plugin NAME would say to a session, hook by hook, and how long it takes.

    No server is needed and nothing is sent or kept. The plugin runs with its settings from the file, whether it is
    enabled or not, with DNS, and with an empty table. A session would end at the first refusal; here every hook is asked.

    \b
    Example:
      mailserv plugin test dnsbl --ip 127.0.0.2 --rcpt bob@example.org --message spam.eml
    """
    settings = settings_for(config)
    content = ORDINARY.content if message is None else BytesContent(_crlf(message.read_bytes()))
    peer = replace(ORDINARY.peer, ip=_ip(ip), helo=helo, login=login, service="submission" if login else "smtp")
    sample = Sample("", peer, _path(mail, may_be_null=True), _path(rcpt, may_be_null=False), content)
    plugins = load_alone(name, settings, rooms=Rooms(dns=_resolver(settings)))
    rows = list(_ask(plugins.runner, sample))
    plugins.runner.close()
    if as_json:
        print_json([{"hook": hook, "answer": answer, "reason": why, "ms": ms} for hook, answer, why, ms in rows])
    elif rows:
        print_table(
            ("HOOK", "MS", "ANSWER", "REASON"), [(hook, f"{ms:.2f}", answer, why) for hook, answer, why, ms in rows]
        )
    else:
        click.echo(f"{name} has no hook that a session asks")


def _ask(runner: Runner, sample: Sample) -> Iterator[tuple[str, str, str, float]]:
    """Hook, answer, reason, milliseconds: in a session's order, then hooks that are asked for other things."""
    clock = SystemClock()
    for hook in (*SESSION, *(hook for hook, kind in KINDS.items() if hook not in SESSION and kind is Kind.PROVIDE)):
        if runner.has(hook):
            started = clock.monotonic()
            answer, reason = _answer(runner, hook, sample)
            yield hook, answer, reason, round((clock.monotonic() - started) * 1000, 3)


def _answer(runner: Runner, hook: str, sample: Sample) -> tuple[str, str]:
    arguments = sample.arguments(hook)
    if KINDS[hook] is not Kind.DECIDE:
        try:
            return _found(runner, hook, arguments)
        except PluginError as error:
            return "a temporary failure", error.reason
    observed: list[Observed] = []
    verdict: Verdict | None = runner.decide(hook, observed, **arguments)
    if observed:
        return f"{observed[0].verdict.reply} (observed only)", observed[0].verdict.reason
    return ("no opinion", "") if verdict is None else (str(verdict.reply), verdict.reason)


def _found(runner: Runner, hook: str, arguments: Mapping[str, Any]) -> tuple[str, str]:
    """Of a hook that has more to say than yes or no. Raises PluginError."""
    if KINDS[hook] is Kind.PROVIDE:
        found: Any = runner.provide(hook, **arguments)
        return ("no opinion" if found is None else str(found)), ""
    if KINDS[hook] is Kind.TRANSFORM:
        return _change(arguments["content"], runner.transform(hook, **arguments)), ""
    for _, answer in runner.gather(hook, **arguments):
        if isinstance(answer, Finding):
            return _finding(answer)
        return ", ".join(f"{each.method}={each.result}" for each in answer), " ".join(each.reason for each in answer)
    return "no opinion", ""


def _finding(finding: Finding) -> tuple[str, str]:
    if finding.verdict is not None:
        return str(finding.verdict.reply), finding.verdict.reason
    score = "" if finding.score is None else f", score {finding.score:g}"
    return f"found {finding.found or 'nothing'}{score}", ""


def _change(before: Content, after: Content) -> str:
    """Whole lines: what a person would look for."""
    if after is before:
        return "no opinion"
    old, new = (Counter(b"".join(content.blocks()).splitlines()) for content in (before, after))
    return f"changed: -{(old - new).total()} +{(new - old).total()} lines"


def _ip(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise refuse(f"{text!r} is no IP address") from None


def _path(text: str, *, may_be_null: bool) -> Address:
    if not text and may_be_null:
        return Address("", "")
    try:
        return parse_mailbox(text)
    except AddressSyntaxError as error:
        raise refuse(f"{text!r} is no address: {error}") from error


def _resolver(settings: Settings) -> Resolver:
    return Resolver(settings.dns.nameservers, timeout=settings.dns.timeout)


def _crlf(text: bytes) -> bytes:
    """A file from a Unix machine, as it would come over the wire."""
    return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
