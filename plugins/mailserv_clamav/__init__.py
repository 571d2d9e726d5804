"""Viruses: each message is shown to ClamAV's clamd, which says what is in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from mailserv import hookimpl
from mailserv.mail.finding import Finding
from mailserv.mail.message import Content
from mailserv.mail.plugin import Services, reading
from mailserv.mail.values import Duration, Size
from mailserv.mail.verdict import reject, tempfail
from mailserv_clamav.clamd import Clamd, ClamdError


class ClamavSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    address: Annotated[str, msgspec.Meta(description='clamd\'s: "unix:/path" or "[address]:port"')] = (
        "unix:/run/clamav/clamd.ctl"
    )
    timeout: Annotated[Duration, msgspec.Meta(description="to scan one message; then clamd counts as unavailable")] = (
        Duration(30)
    )
    infected: Annotated[
        Literal["reject", "tag"], msgspec.Meta(description="554 5.7.1, or accepted with the header field `field`")
    ] = "reject"
    unavailable: Annotated[
        Literal["tempfail", "accept"], msgspec.Meta(description="451 4.7.1, or accepted without having been scanned")
    ] = "tempfail"
    field: Annotated[str, msgspec.Meta(description="header field that names what was found")] = "X-Virus-Found"
    max_size: Annotated[
        Size, msgspec.Meta(description="larger messages are not scanned; at most clamd's own StreamMaxLength")
    ] = Size(25_000_000)


class Plugin:
    Settings = ClamavSettings

    def __init__(self, settings: ClamavSettings, services: Services) -> None:
        self._settings = settings
        self._log = services.log
        with reading(services, "address"):
            self._clamd = Clamd.at(settings.address, settings.timeout, services.monotonic)

    @hookimpl
    def check_config(self) -> Iterable[str]:
        name = self._settings.field
        if not name.isascii() or not name.replace("-", "").isalnum():
            yield f"field: {name!r} is no name for a header field"
        if self._settings.timeout <= 0:
            yield "timeout: nothing can be scanned in no time"

    @hookimpl
    def message_scan(self, content: Content) -> Finding | None:
        settings = self._settings
        if content.size > settings.max_size:
            return None
        try:
            found = self._clamd.scan(content.blocks())
        except (ClamdError, OSError) as error:
            self._log.warning("clamav_unavailable", error=str(error) or type(error).__name__)
            why = f"clamd is unavailable: {error}"
            verdict = tempfail("The message cannot be scanned for viruses now; try again later", reason=why)
            return Finding(verdict=verdict) if settings.unavailable == "tempfail" else None
        if not found:
            return Finding()
        if settings.infected == "tag":
            return Finding(found, fields=((settings.field, found),))
        return Finding(found, verdict=reject(f"The message has a virus: {found}", code=554, reason=found))
