"""The cost of the hot queries does not grow with the queue: SQLite searches by an index, it never scans a table."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_kit import behind

from mailserv.store import (
    acceptance,
    accounts,
    deletions,
    deliveries,
    importing,
    listing,
    maildrop,
    plugin_tables,
    queue_admin,
    queue_rows,
    references,
    retention,
    settling,
    totals,
    trace,
)
from mailserv.store.interface import Store

BY_ID = "USING INTEGER PRIMARY KEY"
PLANS = {  # query -> what its plan must use
    queue_rows.CLAIM: "queue_ready (transport=? AND next_hop=? AND not_before<?)",
    queue_rows.NEXT_DUE: "queue_ready (transport=? AND next_hop=?)",
    settling.SETTLE: BY_ID,
    settling.FINISH: BY_ID,
    settling.IS_OURS: BY_ID,
    settling.IS_OPEN: BY_ID,
    settling.GIVE_UP: BY_ID,
    queue_rows.QUARANTINE: BY_ID,
    queue_rows.RENEW: "queue_claimed (owner=?)",
    references.DELETE_UNREFERENCED: BY_ID,
    deliveries.READ_HEAD: BY_ID,
    deliveries.OPEN: "queue_by_message (message_id=?",
    deliveries.READ_ROW: BY_ID,
    listing.STATE: "mailbox_by_account (account_id=?)",
    listing.LIST: "mailbox_by_account (account_id=? AND rowid>?)",
    maildrop.READ: BY_ID,
    listing.PROMISED: "deletion_by_account (account_id=?)",
    maildrop.ENTRIES: "mailbox_by_account (account_id=?)",
    importing.IS_KNOWN: "PRIMARY KEY (account_id=? AND key=?)",
    deletions.ACCOUNT_OF: BY_ID,
    deletions.DELETE: BY_ID,
    deletions.FORGET: BY_ID,
    retention.OLDEST: "mailbox_by_account (account_id=?)",
    retention.EXPIRE: "mailbox_by_account (account_id=?)",
    retention.FIRST_RETRIEVED: "mailbox_retrieved (account_id=?",
    retention.EXPIRE_RETRIEVED: "mailbox_retrieved (account_id=? AND retrieved_at<?)",
    retention.RETRIEVED: BY_ID,
    totals.USAGE: "account_address (address=?)",
    totals.WARNED: "account_address (address=?)",
    accounts.EXISTS: "account_address (address=?)",
    accounts.READ_HASH: "account_address (address=?)",
    accounts.EMPTY: "mailbox_by_account (account_id=?)",
    acceptance.INSERT_MAILBOX: "account_address (address=?)",
    acceptance.IS_THERE: "mailbox_once (message_id=? AND account_id=? AND recipient=?)",
    trace.READ: "trace_by_message (queue_id=?)",
    trace.EXPIRE: "trace_by_time (at<?)",
    plugin_tables.GET: "PRIMARY KEY (plugin=? AND key=?)",
    plugin_tables.ITEMS: "PRIMARY KEY (plugin=? AND key>?)",
    plugin_tables.DELETE: "PRIMARY KEY (plugin=? AND key=?)",
    plugin_tables.EXPIRE: "plugin_value_by_time (expires_at<?)",
    plugin_tables.EXPIRE_OWN: "PRIMARY KEY (plugin=?)",
    queue_admin.BATCH_ALL: BY_ID,
    queue_admin.BATCH_SOME: "queue_by_message (message_id=?",
    queue_admin.BATCH_ROWS: BY_ID,
    queue_admin.LIST_ALL: BY_ID + " (rowid>?)",
    queue_admin.LIST_SOME: "queue_by_message (message_id=?",
}


def plan(data_dir: Path, sql: str) -> list[str]:
    with behind(data_dir) as connection:
        rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", (1,) * sql.count("?")).fetchall()
    return [row[3] for row in rows]


@pytest.fixture
def analysed(store: Store, data_dir: Path) -> Path:
    """No statistics (the server makes none): the planner decides by the schema alone, so an empty database will do."""
    assert store.queue_list() == []
    return data_dir


@pytest.mark.parametrize("sql", PLANS)
def test_a_hot_query_uses_its_index(analysed: Path, sql: str) -> None:
    steps = plan(analysed, sql)
    assert any(PLANS[sql] in step for step in steps), steps
    # The only thing that is walked from end to end is the list that the caller gave.
    assert [step for step in steps if step.startswith("SCAN") and "json_each" not in step] == [], steps
    assert [step for step in steps if "TEMP B-TREE" in step and "ORDER BY" in step and "LAST" not in step] == [] or (
        sql
        in {queue_admin.BATCH_SOME, queue_admin.LIST_SOME, deliveries.OPEN}  # sorts the rows of the messages asked for
    ), steps


def test_taking_back_leases_reads_the_claimed_rows_only(analysed: Path) -> None:
    assert plan(analysed, queue_rows.RECLAIM) == ["SCAN queue USING INDEX queue_claimed"]


def test_destinations_are_found_without_reading_their_rows(analysed: Path) -> None:
    steps = plan(analysed, queue_rows.DESTINATIONS)
    assert any("queue_ready (transport=? AND next_hop>?)" in step for step in steps), steps
    assert any("queue_ready (transport>?)" in step for step in steps), steps
    # The walk over the index ends with its first entry (LIMIT 1).
    walks = {step for step in steps if step.startswith("SCAN") and "CONSTANT" not in step}
    assert walks == {"SCAN first", "SCAN queue USING INDEX queue_ready"}, steps


def test_counting_reads_no_table(analysed: Path) -> None:
    steps = [step for step in plan(analysed, queue_admin.COUNTS) if "SUBQUERY" not in step and "CONSTANT" not in step]
    assert len(steps) == 4
    assert all("INDEX queue_" in step for step in steps), steps
