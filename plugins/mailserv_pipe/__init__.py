"""Delivery to a command: a program for each message and recipient, its exit code the answer. Never a shell."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Annotated, Literal

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import Address, parse_mailbox
from mailserv.mail.delivery import Attempt, Delivery, QueuedRow, Transport
from mailserv.mail.fields import return_path_prefix
from mailserv.mail.line_ends import with_lf
from mailserv.mail.outcome import Deferred, Failed, Outcome
from mailserv.mail.plugin import Services, reading
from mailserv.mail.reply import LOCAL_ERROR, Reply
from mailserv.mail.resolution import Resolution
from mailserv.mail.route import Route
from mailserv.mail.values import Duration
from mailserv_pipe.running import Ran, run
from mailserv_pipe.sysexits import TOO_SLOW, outcome_of

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
NO_COMMAND = Reply(451, "4.3.5", "The next hop of this recipient is not set up correctly")
LOOKS_LIKE_AN_OPTION = Reply(550, "5.1.3", "This address begins with - and is not given to a command")
SHELLS = frozenset(["sh", "ash", "bash", "csh", "dash", "fish", "ksh", "mksh", "tcsh", "zsh"])
_PLACE = re.compile(r"\{(sender|recipient|queue_id)\}")
_SCRIPT_FOLLOWS = re.compile("-[A-Za-z]*c[A-Za-z]*")


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    argv: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            min_length=1,
            description="the program, with its path, and its arguments; {sender}, {recipient} and {queue_id} are filled in",
        ),
    ]
    addresses: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description="of `local_domains`: mail for them goes to this command, from anybody; also with a +tag"
        ),
    ] = ()
    timeout: Annotated[Duration, msgspec.Meta(description="then it is killed and the message waits")] = Duration(300)
    user: Annotated[str, msgspec.Meta(description="run as this user (only root can)")] = ""
    directory: Annotated[str, msgspec.Meta(description="where it runs")] = "/"
    environment: Annotated[
        dict[str, str], msgspec.Meta(description="more variables, besides those that it always has")
    ] = msgspec.field(default_factory=dict)
    line_ends: Annotated[Literal["lf", "crlf"], msgspec.Meta(description="of what it reads")] = "lf"


class PipeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    commands: Annotated[
        dict[str, Command], msgspec.Meta(description="what a route may name: `pipe:NAME` runs `commands.NAME`")
    ] = msgspec.field(default_factory=dict)


class PipeTransport:
    """Named "pipe": the next hop is the name of a command. Any number of threads."""

    def __init__(self, settings: PipeSettings, services: Services) -> None:
        self._commands = settings.commands
        self._log = services.log
        self._routes: dict[str, Route] = {}
        for name, command in settings.commands.items():
            with reading(services, f"commands.{name}"):
                self._routes |= {parse_mailbox(text).key: Route("pipe", name) for text in command.addresses}
                _look_at(command)

    def deliver(self, deliveries: Iterable[Delivery]) -> Iterator[Attempt]:
        """See `Transport.deliver`."""
        for delivery in deliveries:
            yield Attempt(delivery, tuple(self._deliver(delivery, row) for row in delivery.rows))

    def close(self) -> None:
        """See `Transport.close`."""

    def resolve(self, address: Address) -> Resolution | None:
        """The command that an address is for. Any thread."""
        route = self._routes.get(address.key) or self._routes.get(address.without_subaddress.key)
        return Resolution(remotes=((address, route),), is_local=True) if route else None

    def _deliver(self, delivery: Delivery, row: QueuedRow) -> Outcome:
        name = delivery.route.next_hop
        command = self._commands.get(name)
        if command is None:
            return self._trouble(delivery, row, "there is no such command", NO_COMMAND)
        argv = _fill(command.argv, delivery, row)
        if argv is None:
            return Failed(LOOKS_LIKE_AN_OPTION)
        try:
            ran = self._run(command, argv, delivery, row)
        except (OSError, KeyError) as error:
            number = getattr(error, "errno", None)
            words = os.strerror(number) if number else f"no such user {command.user}"
            return self._trouble(delivery, row, f"it cannot be started: {words}", LOCAL_ERROR)
        if ran.code is None:
            return self._trouble(delivery, row, f"it was killed after {command.timeout:.0f} s", TOO_SLOW.reply)
        return outcome_of(ran.code, ran.output)

    def _run(self, command: Command, argv: list[str], delivery: Delivery, row: QueuedRow) -> Ran:
        prefix = return_path_prefix(delivery.reverse_path, row.forward_path)
        blocks = chain((prefix,), delivery.content.blocks())
        if command.line_ends == "lf":
            blocks = chain(with_lf(blocks))
        environment = {**ENVIRONMENT, **command.environment, **_about(delivery, row)}
        return run(argv, environment, command.directory, command.user, blocks, command.timeout)

    def _trouble(self, delivery: Delivery, row: QueuedRow, error: str, reply: Reply) -> Deferred:
        """The operator's matter: the message waits until it is put right."""
        self._log.warning(
            "pipe_failed",
            queue_id=delivery.queue_id,
            recipient=str(row.forward_path),
            command=delivery.route.next_hop,
            error=error,
        )
        return Deferred(reply)


def _look_at(command: Command) -> None:
    """Raises ValueError for what no program could be started with, or what an address would choose."""
    if not command.argv[0].startswith("/"):
        raise ValueError("argv begins with a program's whole path, /usr/bin/…")
    if _PLACE.search(command.argv[0]):
        raise ValueError("argv: no address says which program is run")
    if _PLACE.search(_script(command.argv)):
        raise ValueError('argv: a shell would run what an address says; behind its script one is an argument, its "$1"')
    if any("=" in name for name in command.environment):
        raise ValueError("environment: no name of a variable has a =")
    if "\0" in "".join((*command.argv, command.directory, *chain(*command.environment.items()))):
        raise ValueError("nothing that a program is given has a NUL")


def _script(argv: Iterable[str]) -> str:
    """What a shell among these words runs, as sh -c does; "" without one."""
    words = iter(argv)
    if any(os.path.basename(word) in SHELLS for word in words) and any(map(_SCRIPT_FOLLOWS.fullmatch, words)):
        return next((word for word in words if not word.startswith("-")), "")
    return ""


def _about(delivery: Delivery, row: QueuedRow) -> Mapping[str, str]:
    """Whole addresses only, as RCPT has them: a local-part by itself could be "() { …", which old shells run."""
    return {
        "SENDER": str(delivery.reverse_path),
        "RECIPIENT": str(row.forward_path),
        "ORIGINAL_RECIPIENT": str(row.original),
        "QUEUE_ID": delivery.queue_id,
    }


def _fill(argv: Iterable[str], delivery: Delivery, row: QueuedRow) -> list[str] | None:
    """Each argument stays one, whatever is in an address. None when an address would become an option."""
    values = {
        "sender": str(delivery.reverse_path),
        "recipient": str(row.forward_path),
        "queue_id": delivery.queue_id,
    }
    filled = [_PLACE.sub(lambda place: values[place.group(1)], argument) for argument in argv]
    became = [new.startswith("-") and not old.startswith("-") for old, new in zip(argv, filled, strict=True)]
    return None if any(became) else filled


class Plugin:
    Settings = PipeSettings

    def __init__(self, settings: PipeSettings, services: Services) -> None:
        self._transport = PipeTransport(settings, services)

    @hookimpl
    def resolve_recipient(self, address: Address) -> Resolution | None:
        return self._transport.resolve(address)

    @hookimpl
    def register_transports(self) -> Iterable[tuple[str, Transport]]:
        return [("pipe", self._transport)]
