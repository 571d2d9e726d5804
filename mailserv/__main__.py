"""The console script, which `python -m mailserv` is, too. All it does is to end quietly at Ctrl-C from the first moment."""

from __future__ import annotations

import signal


def main() -> None:
    """What has imported nothing yet has nothing to tidy up: SIGINT simply ends it, which a shell calls 130."""
    raises = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else whoever started us wants it ignored
    if raises:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from mailserv.cli import main as command  # half a second, and a traceback from the middle of it if it were above

    if raises:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command.main()


if __name__ == "__main__":
    main()
