"""What is wrong with the settings, gathered so that all of it is told in one go."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from mailserv.config.locate import Path

_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something at one place of the file. `path` as tomli nests it: ("listen", 0, "address")."""

    path: Path
    text: str


class Findings:
    """Collects problems, which keep the server from starting, and warnings, which do not. One thread."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self._unread: tuple[Path, ...] = ()

    def wrong(self, path: Path, text: str) -> None:
        """Add a problem, unless the value there could not be read at all, which has been told."""
        if not any(path[: len(unread)] == unread for unread in self._unread):
            self.problems.append(Problem(path, text))

    def warn(self, path: Path, text: str) -> None:
        """Add a warning."""
        self.warnings.append(Problem(path, text))

    def all_read(self) -> None:
        """What is wrong until now could not be read: a filler or the default stands in its place from here on."""
        self._unread = tuple(problem.path for problem in self.problems)

    def is_unread(self, *path: str | int) -> bool:
        """Whether something at or under `path`, or the whole that holds it, could not be read."""
        return any(path[: len(unread)] == unread or unread[: len(path)] == path for unread in self._unread)


def dotted(path: Path) -> str:
    """A path as TOML writes it; the numbers of array elements are left to the line number."""
    return ".".join(key if _BARE.fullmatch(key) else f'"{key}"' for key in path if isinstance(key, str))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """'; did you mean "x"?' for the nearest known word, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""
