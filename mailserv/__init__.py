"""mailserv: a whole mail server in readable Python.

What a plugin imports is here and in `mailserv.mail`: `hookimpl` marks a method of its `Plugin` class as a hook.
"""

from __future__ import annotations

import pluggy

__version__ = "0.1.0"

hookimpl = pluggy.HookimplMarker("mailserv")
"""Decorator for hook implementations (mailserv.hooks.specs has every hook)."""

__all__ = ["__version__", "hookimpl"]
