"""The hooks that are asked once, when the server starts; `specs` has them with all others."""

from __future__ import annotations

from collections.abc import Iterable

from click import Command

from mailserv.hooks.kinds import Kind, hook
from mailserv.mail.delivery import Transport
from mailserv.mail.extension import SMTPExtension
from mailserv.mail.listening import PluginListener
from mailserv.mail.pop3_extension import Pop3Extension
from mailserv.mail.sasl import SaslMechanism


@hook(Kind.COLLECT)
def register_smtp_extensions() -> Iterable[SMTPExtension]:
    """SMTP service extensions: EHLO keywords, verbs, parameters.

    Called: once at start. Thread: main. Answer: any number of SMTPExtension.
    Raises: the server does not start, and names the plugin; so does a keyword or verb that two plugins claim.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.COLLECT)
def register_transports() -> Iterable[tuple[str, Transport]]:
    """Ways out of the queue besides "smtp", each under a name that a Route may carry.

    Called: once at start. Thread: main. Answer: (name, Transport) pairs; the transport's methods run on queue workers.
    Raises: the server does not start, and names the plugin.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.COLLECT)
def register_pop3_extensions() -> Iterable[Pop3Extension]:
    """POP3 extensions: capabilities and verbs.

    Called: once at start. Thread: main. Answer: any number of Pop3Extension.
    Raises: the server does not start, and names the plugin; so does a capability or verb that two plugins claim. A verb
    that raises or lies answers -ERR [SYS/TEMP].
    """
    raise AssertionError("a specification is never called")


@hook(Kind.COLLECT)
def register_sasl_mechanisms() -> Iterable[SaslMechanism]:
    """SASL mechanisms besides PLAIN and LOGIN, for AUTH over SMTP and POP3.

    Called: once at start, and for each `mailserv user add` and `passwd`. Thread: main. Answer: any number of SaslMechanism.
    Raises: the server does not start, and names the plugin; so does a mechanism that two plugins claim. An exchange that
    raises or lies is a temporary failure of this login (454 4.7.0, [SYS/TEMP]).
    """
    raise AssertionError("a specification is never called")


@hook(Kind.COLLECT)
def register_listeners() -> Iterable[PluginListener]:
    """A service of the plugin's own: `[[listen]] service = "NAME"`, NAME being the plugin's. It gets no socket: bytes that
    came, and the bytes to answer. Places, deadlines, TLS, threads and the end of the server are the server's.

    Called: once at start. Thread: main; a conversation is called on its session's. Answer: one PluginListener, or none.
    Raises: the server does not start, and names the plugin. A conversation that raises or lies is over, and its connection.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.COLLECT)
def register_commands() -> Iterable[Command]:
    """Commands of the command line: `mailserv NAME COMMAND …`, NAME being the plugin's. They are `click` commands.

    Called: once at start, and by `mailserv NAME …` in a process of its own, beside the server or without one. There the
    plugin is alone, has its table on the live database and DNS, and its `startup` is not called; `--config` is taken out of
    the arguments. Thread: main. Answer: any number of click.Command; one that fails raises click.ClickException.
    Raises: the server does not start, and names the plugin; so does a name that two of its commands have.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.COLLECT)
def check_config() -> Iterable[str]:
    """What is wrong with the plugin's settings that no type can tell.

    Called: once at start, and by `mailserv check`, after all plugins are made. Thread: main. Answer: one printable line for
    each problem, "key: what is wrong". Raises: the server does not start, and names the plugin; so does any problem.
    """
    raise AssertionError("a specification is never called")
