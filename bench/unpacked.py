"""A server out of a Debian package that is only unpacked, since it cannot be installed beside Postfix.

It runs in a mount namespace of its own that shows the package's files where they belong. The machine's are not touched.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.errors import Failed
from bench.installed import CACHE

ENTER = Path(__file__).with_name("enter")
FIRST_ID = 64_900  # of the users that the package would have made


def package(*names: str) -> list[Path]:
    """The folders with the packages' files. Failed when they are not there or cannot be used."""
    if os.geteuid():
        raise Failed("only root can run it")
    found = [CACHE / "unpacked" / name for name in names]
    if not all(folder.is_dir() for folder in found):
        raise Failed(f"not unpacked (Debian: {', '.join(names)}; bench/run --install)")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        raise Failed("this machine makes no mount namespaces")
    return found


def prepare(folder: Path, users: Sequence[str], var: Sequence[str]) -> dict[str, int]:
    """Users and groups that only it sees, and its folders under /var: the users' ids by name."""
    (folder / "etc").mkdir()
    ids = {user: FIRST_ID + number for number, user in enumerate(users)}
    accounts = {
        "passwd": [f"{user}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin\n" for user, number in ids.items()],
        "group": [f"{user}:x:{number}:\n" for user, number in ids.items()],
    }
    for name, lines in accounts.items():
        (folder / "etc" / name).write_text(Path("/etc", name).read_text() + "".join(lines))
    for name in var:
        (folder / "var" / name).mkdir(parents=True)
    return ids


def entering(folder: Path, packages: Sequence[Path], var: Sequence[str], command: Sequence[str]) -> list[str]:
    """The command that shows all that and becomes `command`."""
    layers = ":".join(str(path / "usr") for path in packages)
    return ["unshare", "--mount", "sh", str(ENTER), str(folder), layers, " ".join(var), *command]


def version_of(name: str) -> str:
    """The version that `bench/run --install` has noted."""
    return (CACHE / "unpacked" / f"{name}.version").read_text().strip()
