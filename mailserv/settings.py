"""The settings as typed structs: default, unit, meaning. `config.py` reads them from TOML; README of each in conf/.

Durations are `float` seconds, sizes `int` octets once read; in TOML they are "5m" and "50MB". A field's meaning is the
`Meta` description beside it; conf/mailserv.toml and docs/settings.md are held against this file by tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from mailserv.mail.tls_mode import TLSMode
from mailserv.mail.values import Duration, Network, Secret, Size

Service = Literal["smtp", "submission", "submissions", "lmtp", "pop3", "pop3s", "metrics"]


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[[listen]]` block."""

    service: Annotated[
        str, Meta(description=f"what is spoken here: {', '.join(get_args(Service))}; or a plugin that has a service")
    ]
    address: Annotated[str, Meta(description="host:port or [v6]:port; port 0 picks a free one, which `ready` tells")]


class TLS(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[tls]`."""

    certificate: Annotated[Path | None, Meta(description="PEM file with the chain; reread when it changes")] = None
    key: Annotated[Path | None, Meta(description="PEM file with the private key; reread when it changes")] = None
    plaintext_auth: Annotated[
        Literal["never", "loopback", "always"], Meta(description="may a login come without TLS (submission, POP3)?")
    ] = "loopback"


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[limits]`: docs/decisions/0013; every number is per what its name says."""

    message_size: Annotated[Size, Meta(description="largest message, told by SIZE (RFC 1870)")] = Size(50_000_000)
    header_size: Annotated[Size, Meta(description="largest header section")] = Size(1_000_000)
    recipients: Annotated[int, Meta(ge=100, description="per transaction on port 25 (RFC 5321 §4.5.3.1.8)")] = 100
    recipients_authenticated: Annotated[int, Meta(ge=100, description="per transaction after AUTH")] = 1000
    sessions: Annotated[int, Meta(ge=1, description="SMTP sessions at once; one more gets 421")] = 200
    sessions_per_ip: Annotated[int, Meta(ge=0, description="sessions at once from one address; 0: no limit")] = 20
    connections_per_minute: Annotated[int, Meta(ge=0, description="new sessions from one address; 0: no limit")] = 120
    one_core: Annotated[
        bool, Meta(description="all threads on one core, where they do not fight over Python's lock")
    ] = True
    processes: Annotated[
        int, Meta(ge=1, le=64, description="that take mail, on one store; the first runs queue and POP3, too")
    ] = 1
    pop3_sessions: Annotated[int, Meta(ge=1, description="POP3 sessions at once")] = 200
    errors: Annotated[int, Meta(ge=1, description="protocol errors that close a session")] = 10
    unknown_recipients: Annotated[
        int, Meta(ge=1, description="unknown recipients and refused relays that close a session")
    ] = 10
    failed_logins: Annotated[int, Meta(ge=1, description="failed logins that close a session")] = 3
    failed_logins_per_minute: Annotated[int, Meta(ge=0, description="per address; ×3 per /24 or /48; 0: no limit")] = 10
    failed_logins_per_day: Annotated[int, Meta(ge=0, description="per address; ×3 per /24 or /48; 0: no limit")] = 50
    password_cache: Annotated[
        Duration, Meta(description="a right password is known again so long without argon2id; 0s: never")
    ] = Duration(3600)
    hops: Annotated[int, Meta(ge=1, description="Received fields that make a loop (RFC 5321 §6.3)")] = 100
    command_timeout: Annotated[Duration, Meta(description="wait for a command (RFC 5321 §4.5.3.2.7)")] = Duration(300)
    data_timeout: Annotated[Duration, Meta(description="wait for the next block of content")] = Duration(180)
    session_timeout: Annotated[Duration, Meta(description="an SMTP session as a whole")] = Duration(3600)
    pop3_timeout: Annotated[Duration, Meta(description="idle POP3 session; RFC 1939 §3 asks 10m")] = Duration(600)
    drain: Annotated[Duration, Meta(description="after SIGTERM, running transactions may finish for")] = Duration(30)


class Mailbox(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[mailboxes.accounts."ADDRESS"]`: what is different for one account; the rest is as `[mailboxes]` says."""

    expire: Annotated[Duration | None, Meta(description="as in [mailboxes]")] = None
    leave_on_server_max: Annotated[Duration | None, Meta(description="as in [mailboxes]")] = None
    quota: Annotated[Size | None, Meta(description="as in [mailboxes]")] = None


class Mailboxes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[mailboxes]`: how long and how much."""

    expire: Annotated[
        Duration, Meta(description="a message is deleted so long after it came; told by EXPIRE (RFC 2449); 0s: never")
    ] = Duration(0)
    leave_on_server_max: Annotated[
        Duration, Meta(description="a message is deleted so long after POP3 first retrieved it; 0s: never")
    ] = Duration(0)
    quota: Annotated[
        Size, Meta(description="octets that a mailbox may hold; a message over it gets 452 4.2.2; 0: no limit")
    ] = Size(0)
    accounts: Annotated[
        dict[str, Mailbox], Meta(description="address → { expire, leave_on_server_max, quota }: where it differs")
    ] = {}


class Relay(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[relay]`."""

    networks: Annotated[tuple[Network, ...], Meta(description="clients that may relay without AUTH")] = ()


class Queue(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[queue]`."""

    retry: Annotated[
        tuple[Duration, ...], Meta(min_length=1, description="waits between attempts; the last one repeats; ±10 %")
    ] = tuple(Duration(m * 60) for m in (5, 15, 30, 60, 120, 240))
    give_up: Annotated[Duration, Meta(description="then the message bounces (RFC 5321 §4.5.4.1)")] = Duration(432_000)
    bounce_give_up: Annotated[Duration, Meta(description="the same for bounces")] = Duration(172_800)
    delay_notice: Annotated[Duration, Meta(description="one notice to our own senders after; 0s: none")] = Duration(
        14_400
    )
    workers: Annotated[int, Meta(ge=1, le=1000, description="delivery threads")] = 20
    connections_per_destination: Annotated[
        int, Meta(ge=1, description="at once to one destination at first, 5 where it goes well; 1 stays 1")
    ] = 2
    trace_days: Annotated[int, Meta(ge=1, description="days that every message's trace is kept")] = 30


class DNS(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[dns]`."""

    nameservers: Annotated[tuple[str, ...], Meta(description='"ip" or "ip:port"; default: the system\'s')] = ()
    timeout: Annotated[Duration, Meta(description="one question, all tries together")] = Duration(10)


class Routed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[routes]` in its long form: `"example.net" = { to = "smtp:[host]:587", tls = "verify", user = …, password = … }`."""

    to: Annotated[str, Meta(description='"smtp:[host]:port" (no MX look-up), "smtp:domain", or a plugin transport')]
    tls: Annotated[TLSMode, Meta(description="STARTTLS to this next hop")] = "opportunistic"
    user: Annotated[str, Meta(description="AUTH to the smarthost; with a password")] = ""
    password: Annotated[Secret, Meta(description='a string, { file = "…" } or { env = "…" }')] = Secret("")


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[log]`."""

    format: Annotated[Literal["logfmt", "json"], Meta(description="one line for each event, on standard error")] = (
        "logfmt"
    )
    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="least level shown")] = "info"


class PluginPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[plugins.policy.NAME]`: what the operator decides about an enabled plugin, whatever its author thinks."""

    on_error: Annotated[
        Literal["tempfail", "skip"] | None,
        Meta(description="no answer: 451 for this command, or go on without it; default: as docs/hooks.md says"),
    ] = None
    budget: Annotated[
        Duration | None, Meta(description="one call may take; then it counts as failed; default: 10s for most hooks")
    ] = None
    mode: Annotated[
        Literal["enforce", "observe"], Meta(description="observe: verdicts and changes are logged and not applied")
    ] = "enforce"


class Plugins(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[plugins]`. What mailserv ships as an SMTP extension is on unless disabled."""

    enabled: Annotated[tuple[str, ...], Meta(description="by name, in the order they are called")] = ()
    disabled: Annotated[tuple[str, ...], Meta(description='shipped SMTP extensions to switch off, e.g. "vrfy"')] = ()
    path: Annotated[Path | None, Meta(description="folder with single-file plugins")] = None
    policy: Annotated[
        dict[str, PluginPolicy],
        Meta(description="plugin → { on_error, budget, mode }: when it fails, hangs, is on trial (docs/hooks.md)"),
    ] = {}


class Section(dict[str, Any]):
    """`[plugin.NAME]` as it stands in the file: what it means its plugin knows, which is found later."""

    base = Path()
    """The folder that relative paths in it start from."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    hostname: Annotated[str, Meta(description="this server's name in greetings, EHLO and Received")]
    data_dir: Annotated[Path, Meta(description="database and spool; one server at a time")] = Path("/var/lib/mailserv")
    local_domains: Annotated[tuple[str, ...], Meta(description="domains whose mailboxes are here")] = ()
    subaddress: Annotated[str, Meta(description='alice+tag reaches alice; "" switches it off')] = "+"
    postmaster: Annotated[str, Meta(description="who gets postmaster's mail where no alias or account says")] = ""
    catch_all: Annotated[dict[str, str], Meta(description="domain → address for its unknown users")] = {}
    listen: Annotated[tuple[Listen, ...], Meta(description="one block for each address")] = ()
    tls: TLS = TLS()
    aliases: Annotated[
        dict[str, tuple[str, ...]], Meta(description="address → one or more addresses, local or not")
    ] = {}
    limits: Limits = Limits()
    mailboxes: Mailboxes = Mailboxes()
    relay: Relay = Relay()
    routes: Annotated[
        dict[str, str | Routed], Meta(description='recipient domain → next hop; "*" is the smarthost')
    ] = {}
    queue: Queue = Queue()
    dns: DNS = DNS()
    log: Log = Log()
    plugins: Plugins = Plugins()
    plugin: Annotated[dict[str, dict[str, Any]], Meta(description="[plugin.NAME]: a plugin's own settings")] = {}
