"""What may go wrong while something is measured."""

from __future__ import annotations


class Failed(Exception):
    """This measurement has no figure: what happened, in one line."""
