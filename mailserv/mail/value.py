"""What a noun is made of: frozen, compared by value, cheap to make.

Why these are msgspec's structs: docs/decisions/0031.
"""

from __future__ import annotations

from msgspec import Struct, field
from msgspec.structs import replace

__all__ = ["Private", "Value", "field", "replace"]


class Value(Struct, frozen=True):
    """Annotated fields, set once; `replace(value, field=…)` makes another. Any thread."""


class Private(Value, frozen=True):
    """Holds a secret, or somebody's mail: what is printed of it tells its kind and nothing else (invariant 10)."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"
