"""Haraka from npm, with a plugin that puts the mailbox's mail into a Maildir and syncs it. Its queue is not synced."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import Failed
from bench.installed import CACHE
from bench.server import PATH, Server, Wanted, files_in, fill, launched
from bench.tree import Tree
from bench.waiting import START_SECONDS, free_port, greeted, wait_until

HERE = Path(__file__).parent
PACKAGE = CACHE / "haraka" / "node_modules" / "Haraka"


@dataclass(frozen=True, slots=True)
class Haraka:
    name: str = "haraka"

    def version(self) -> str:
        try:
            said = json.loads((PACKAGE / "package.json").read_text())
        except OSError:
            raise Failed("not installed (npm: Haraka; bench/run --install)") from None
        if not shutil.which("node", path=PATH):
            raise Failed("needs node")
        return f"Haraka {said['version']}"

    def start(self, folder: Path, wanted: Wanted) -> Iterator[Server]:
        port = free_port()
        box = folder / "box"
        config = folder / "config"
        shutil.copytree(PACKAGE / "config", config)  # its defaults, as `haraka --install` does it
        for name in ("smtp.ini", "outbound.ini", "log.ini"):
            fill(HERE / name, config / name, port=port)
        (config / "plugins").write_text("bench_maildir\n")
        (config / "me").write_text("haraka.example.org\n")
        (config / "bench.json").write_text(json.dumps({"next_hop": wanted.next_hop, "maildir": str(box)}))
        shutil.copytree(HERE / "plugins", folder / "plugins")
        with launched(["node", PACKAGE / "bin" / "haraka", "-c", folder], folder) as process:
            wait_until(lambda: greeted(port), START_SECONDS, "Haraka's greeting")
            yield Server(folder, Tree(process.pid), smtp=port, delivered=lambda: files_in(box / "new"))
