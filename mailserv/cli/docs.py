"""The pages of docs/ that are printed from the code: `python -m mailserv.cli.docs [--check] [FOLDER]`.

In a page docs/plugins/NAME.md only the plugin's settings are printed, between two marks; the words are somebody's.
bin/check runs it with --check, so that a page cannot stay behind its code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import entry_points
from itertools import groupby
from pathlib import Path

import click
import msgspec

from mailserv.cli.main import cli
from mailserv.config.show import Row, plugin_rows, rows
from mailserv.hooks import show
from mailserv.hooks.host import GROUP
from mailserv.queue import state

COMMAND = ".venv/bin/python -m mailserv.cli.docs docs"
SETTINGS_MARK, SETTINGS_END = "<!-- settings -->", "<!-- /settings -->"


def settings_page() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings",
        "",
        f"Printed from `mailserv/settings.py` by `{COMMAND}`; conf/mailserv.toml has the same with more words.",
        "",
        "The file is TOML: `--config`, else `$MAILSERV_CONFIG`, else `/etc/mailserv/mailserv.toml`. `mailserv check` tells",
        "everything that is wrong with it, with line numbers. Nothing wrong is ignored, and nothing wrong starts.",
        "",
        '- A **duration** is `"90s"`, `"5m"`, `"4h"` or `"5d"`.',
        '- A **size** is `"50MB"` (10⁶ octets) or `"64KiB"` (2¹⁰); a plain number is octets.',
        '- A **secret** is a string, `{ file = "/path" }` (its last line end does not count) or `{ env = "NAME" }`.',
        "- A relative **path** starts from the folder of the settings file.",
        "- On SIGHUP (`systemctl reload mailserv`) the file is read again. If anything in it is wrong, the old settings stay",
        "  and the log says why. What is marked **restart** waits for one. What DNS has said is asked anew.",
    ]
    for table, group in groupby(rows(), key=lambda row: row.table):
        lines += ["", f"## {_heading(table)}", "", *_settings_table(group)]
    return "\n".join(lines) + "\n"


def _heading(table: str) -> str:
    if not table:
        return "The top of the file"
    return {"listen": "`[[listen]]`", "routes": '`[routes]`, the long form of an entry: `"domain" = { to = … }`'}.get(
        table, f"`[{table}]`"
    )


def _settings_table(table: Iterable[Row]) -> list[str]:
    return ["| setting | value | default | meaning |", "|---|---|---|---|", *map(_settings_row, table)]


def _settings_row(row: Row) -> str:
    default = f"`{row.default}`" if row.default else "none" if _has_default(row) else "**required**"
    cells = (f"`{row.name}`", row.kind, default, row.meaning + (" (restart)" if row.restart else ""))
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _has_default(row: Row) -> bool:
    """Whether an empty default means "nothing" instead of "must be given"."""
    return row.kind == "path"


def commands_page() -> str:
    """docs/commands.md: what --help says, of every command."""
    lines = [
        "# Commands",
        "",
        f"Printed from the commands' own `--help` by `{COMMAND}`.",
        "",
        "Exit codes: 0 done; 1 refused or failed, with the reason on standard error; 2 wrong usage.",
    ]
    for context in _walk(click.Context(cli, info_name="mailserv", terminal_width=100, **cli.context_settings)):
        lines += ["", f"## {context.command_path}", "", "```", context.get_help(), "```"]
    return "\n".join(lines) + "\n"


def _walk(context: click.Context) -> Iterator[click.Context]:
    """The context of every command, as a real call makes it: each takes over what its parent says."""
    yield context
    command = context.command
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            yield from _walk(click.Context(inner, info_name=name, parent=context))


def plugin_page(name: str, text: str) -> str:
    """docs/plugins/NAME.md: `text` with the settings of the plugin between its marks; without marks, as it is."""
    head, mark, rest = text.partition(SETTINGS_MARK)
    if not mark:
        return text
    _, end_mark, tail = rest.partition(SETTINGS_END)
    lines: list[str] = []
    struct = entry_points(group=GROUP)[name].load().Settings
    for table, group in groupby(plugin_rows(struct, f"plugin.{name}"), key=lambda row: row.table):
        lines += [f"`[{table}]`", "", *_settings_table(_without_restart(row) for row in group), ""]
    return "\n".join([head + mark, "", *lines, end_mark + tail])


def _without_restart(row: Row) -> Row:
    """All settings of plugins wait for a restart: it need not be said of each."""
    return msgspec.structs.replace(row, restart=False)


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "commands.md": commands_page,
    "queue-states.md": state.page,
    "hooks.md": show.page,
}


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail if a page is not what would be written.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path("docs"))
def docs(check: bool, folder: Path) -> None:
    """Write the generated pages into FOLDER."""
    pages = {name: page() for name, page in PAGES.items()} | _plugin_pages(folder)
    old = [name for name, page in pages.items() if _read(folder / name) != page]
    for name in old:
        if check:
            click.echo(f"{folder / name} is not up to date: {COMMAND}", err=True)
        else:
            (folder / name).write_text(pages[name], encoding="utf-8")
            click.echo(f"wrote {folder / name}")
    sys.exit(1 if check and old else 0)


def _plugin_pages(folder: Path) -> dict[str, str]:
    """Of the pages that are there."""
    return {
        f"plugins/{path.name}": plugin_page(path.stem, path.read_text(encoding="utf-8"))
        for path in sorted((folder / "plugins").glob("*.md"))
    }


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


if __name__ == "__main__":
    docs()
