"""`mailserv`: the command line. Exit codes: 0 done; 1 refused or failed, the reason on standard error; 2 wrong usage."""

from __future__ import annotations

import sys

import click

from mailserv import __version__
from mailserv.cli.check import check
from mailserv.cli.common import one_line
from mailserv.cli.mailbox import mailbox
from mailserv.cli.plugin_commands import WithPlugins
from mailserv.cli.plugins import plugin
from mailserv.cli.queue import queue
from mailserv.cli.serve import serve
from mailserv.cli.try_it import try_it
from mailserv.cli.users import user
from mailserv.errors import ConfigError, MailservError


@click.group(cls=WithPlugins, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mailserv")
def cli() -> None:
    """A whole mail server: SMTP, submission, a durable queue with MX delivery, POP3.

    \b
    First steps:
      mailserv try                            a server to play with: no configuration, no root
      mailserv check                          is /etc/mailserv/mailserv.toml right?
      mailserv user add alice@example.org     a mailbox and a login
      mailserv serve                          the server, in the foreground
      mailserv queue list                     what waits for delivery?
      mailserv mailbox list                   who has how much mail here?

    Plugins may have commands of their own: mailserv PLUGIN --help.
    """


cli.add_command(check)
cli.add_command(mailbox)
cli.add_command(plugin)
cli.add_command(queue)
cli.add_command(serve)
cli.add_command(try_it)
cli.add_command(user)


def main() -> None:
    """The console script. An error is one line for each problem, never a traceback."""
    try:
        cli.main(prog_name="mailserv")
    except ConfigError as error:
        for problem in error.problems:
            print(one_line(problem), file=sys.stderr)
    except MailservError as error:
        print(f"mailserv: {error}", file=sys.stderr)
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        print(f"mailserv: {where}{error.strerror or error}", file=sys.stderr)
    sys.exit(1)
