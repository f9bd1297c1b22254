"""`hq verify` finds what was put back, filed elsewhere or taken out, however neatly it was done."""

import contextlib
import sqlite3

import pytest

from hqconsole.ledger.opening import FILE_NAME
from tests.hq_console.conftest import Run
from tests.hq_console.field import Field
from tests.hq_console.test_verify import day, finished_day, problem

__all__ = ["day", "finished_day"]

EARLIER = "(SELECT min(no) FROM arrival WHERE kind = 'receipt' AND device_no = 1)"
HARMS: dict[str, tuple[str, ...]] = {
    "a delivery that is done put back to pending": (
        "UPDATE delivery SET state = 0, arrival_no = NULL, open = 1 WHERE state = 5",
    ),
    "a delivery that is done put back to an earlier receipt": (
        f"UPDATE delivery SET state = 1, open = 1, arrival_no = {EARLIER} WHERE state = 5",
    ),
    "a delivery that is done called expired, and so the directive": (
        "UPDATE delivery SET state = 6, open = 0 WHERE directive_no = 1",
        "UPDATE directive SET state = 'expired' WHERE no = 1",
    ),
    "a reply that nobody finds any more": (
        "UPDATE arrival SET directive_no = NULL, mailbox_no = NULL WHERE kind = 'reply'",
    ),
    "a reply under another directive": (
        "UPDATE arrival SET directive_no = 2 WHERE kind = 'reply'",
    ),
    "a reply under another mailbox": (
        "UPDATE arrival SET mailbox_no = mailbox_no + 1 WHERE kind = 'reply'",
    ),
    "receipts called those of another role": (
        (
            "UPDATE arrival SET outcome = 'not its role', directive_no = NULL, mailbox_no = NULL"
            " WHERE kind = 'receipt'"
        ),
        "UPDATE delivery SET state = 0, arrival_no = NULL, open = 1 WHERE directive_no = 1",
    ),
    "receipts called stray": ("UPDATE arrival SET outcome = 'stray' WHERE kind = 'receipt'",),
    "receipts called too late": ("UPDATE arrival SET outcome = 'too late' WHERE kind = 'receipt'",),
    "a withdrawal taken out with all that it did": (
        "DELETE FROM cancel",
        "UPDATE directive SET state = 'issued', closed_at = NULL",
        "UPDATE delivery SET state = 0, open = 1 WHERE state = 7",
    ),
    "a directive taken out with its deliveries": (
        "DELETE FROM delivery WHERE directive_no = 1",
        "DELETE FROM directive WHERE no = 1",
    ),
    "a directive that nobody answered taken out": (
        "DELETE FROM cancel",
        "DELETE FROM doc WHERE kind = 'cancel'",
        "DELETE FROM delivery WHERE directive_no = 2",
        "DELETE FROM directive WHERE no = 2",
    ),
    "an entry of a channel taken out": ("DELETE FROM channel_log WHERE no = 1",),
    "an entry of a channel with another text": (
        "UPDATE channel_log SET doc_no = (SELECT max(no) FROM doc) WHERE no = 1",
    ),
    "the head of a channel moved": ("UPDATE channel SET head_seq = head_seq + 1",),
    "the id of a channel's head": ("UPDATE channel_log SET id = randomblob(16)",),
    "an audience cut down under the cover of an adoption": (
        "UPDATE directive SET adopted_at = 1 WHERE no = 1",
        "DELETE FROM delivery WHERE directive_no = 1 AND state = 0",
    ),
}


@pytest.mark.parametrize("name", HARMS)
def test_what_was_done_neatly_is_found(run: Run, day: Field, name: str) -> None:
    """Every signature still fits; what HQ made of it does not."""
    assert not problem(run)
    with contextlib.closing(sqlite3.connect(day.home / FILE_NAME)) as connection, connection:
        for statement in HARMS[name]:
            assert connection.execute(statement).rowcount > 0
    assert problem(run)["kind"] in {"answer", "state", "document", "channel", "directive"}
