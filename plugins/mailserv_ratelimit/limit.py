"""A limit, and the count of one client, login or domain that it bounds."""

from __future__ import annotations

from dataclasses import dataclass

SECONDS = {"hour": 3_600, "day": 86_400}
SUBJECTS = {"client": "client", "login": "login", "sender_domain": "sender domain"}
MESSAGES, RECIPIENTS, BYTES = "messages", "recipients", "bytes"


@dataclass(frozen=True, slots=True)
class Limit:
    """`most` of a measure in a unit of time, for each of a subject: hours and days begin as UTC's do."""

    subject: str
    measure: str
    unit: str
    most: int

    def count(self, who: str, now: float) -> Count:
        """The count that runs at `now`."""
        number = int(now // SECONDS[self.unit])
        key = f"{self.subject} {who} {self.measure} {self.unit} {number}"
        return Count(self, who, key, float((number + 1) * SECONDS[self.unit]))


@dataclass(frozen=True, slots=True)
class Count:
    """Where it stands in the table, and when it ends (epoch seconds)."""

    limit: Limit
    who: str
    key: str
    ends: float

    @property
    def words(self) -> str:
        """Which limit, for the reply and the log."""
        limit = self.limit
        return f"{limit.most} {limit.measure} per {limit.unit} of {SUBJECTS[limit.subject]} {self.who}"
