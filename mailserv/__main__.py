"""`python -m mailserv` is the command `mailserv`."""

from __future__ import annotations

from mailserv.cli.main import main

main()
