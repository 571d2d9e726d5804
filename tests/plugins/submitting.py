"""Plugins that make messages: what they submit, and to whom it goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mailserv.mail.address import Address
from mailserv.mail.message import Content
from mailserv.mail.plugin import SubmitError


@dataclass
class Submitted:
    """Takes what a plugin submits; `refuse` may say why not."""

    refuse: Callable[[list[str]], SubmitError | None] = lambda _: None
    messages: list[tuple[str, list[str], bytes]] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    smtputf8: list[bool] = field(default_factory=list)

    def __call__(
        self,
        reverse_path: Address,
        forward_paths: Sequence[Address],
        content: Content,
        *,
        key: str = "",
        smtputf8: bool = False,
    ) -> str:
        if key in self.keys:
            return self.keys[key]
        paths = list(map(str, forward_paths))
        if error := self.refuse(paths):
            raise error
        self.smtputf8.append(smtputf8)
        self.messages.append((str(reverse_path), paths, b"".join(content.blocks())))
        if key:
            self.keys[key] = f"Q{len(self.messages)}"
        return f"Q{len(self.messages)}"
