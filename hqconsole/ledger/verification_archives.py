"""Checks what a ledger says of directives that left for archives.

Each archive stands in the audit with its SHA-256, so nobody can put a file of their own in its
place without the audit telling. What stands for a directive has to count what it says of each
mailbox. What the files themselves hold is looked at one by one (`verification.verify_archive`).
"""

import json
import sqlite3
from collections import Counter
from typing import Any

from buskit.database import DatabaseDamaged
from hqconsole.ledger import archived
from hqconsole.ledger.verification_context import Context, MisfitError
from hqconsole.lifecycle import UNFINISHED

ACTION = "archive"
"""What the audit calls it, with the archive's `id` and `sha256` in the detail."""


def known_archived(connection: sqlite3.Connection) -> dict[str, int]:
    """The directives that left: their ids and numbers."""
    return dict(
        connection.execute(
            "SELECT id, no FROM archived JOIN directive ON directive.no = directive_no"
        ).fetchall()
    )


def sum_in(action: str, detail: str) -> tuple[str, str] | None:
    """The id and SHA-256 of the archive that a row of the audit tells of; None if of none."""
    if action != ACTION:
        return None
    try:
        said = json.loads(detail)
        return str(said["id"]), str(said["sha256"])
    except (ValueError, KeyError, TypeError):
        return None


def check_archives(context: Context, audited: set[tuple[str, str]]) -> None:
    """Look at all archives, and at what stands for each directive that left.

    Args:
        context: Of the walk.
        audited: Ids and sums of archives, as the audit has them.

    Raises:
        MisfitError: Something does not fit.
    """
    connection = context.connection
    for archive_id, total in connection.execute("SELECT id, sha256 FROM archive"):
        if (archive_id, total) not in audited:
            raise MisfitError(
                "archive",
                f"archive {archive_id[:8]}",
                "the audit does not have it with that sum: it was put in or altered",
            )
    for no, directive_id, state, archive, counts in connection.execute(
        "SELECT directive.no, directive.id, state, archive.no, counts FROM archived"
        " LEFT JOIN directive ON directive.no = directive_no"
        " LEFT JOIN archive ON archive.no = archive_no"
    ).fetchall():
        what = f"directive {str(directive_id)[:8]}"
        if archive is None or state is None or state in UNFINISHED:
            raise MisfitError(
                "archive", what, f"it is called archived, and is {state or 'not there'}"
            )
        if _counted(connection, no) != _said(counts):
            raise MisfitError(
                "archive", what, "its counts are not those of its mailboxes: they were altered"
            )
        context.counts["archived"] += 1


def _counted(connection: sqlite3.Connection, directive_no: int) -> tuple[dict[str, int], int]:
    try:
        ends = archived.ends(connection, directive_no)
    except DatabaseDamaged as error:
        raise MisfitError("archive", f"directive {directive_no}", str(error)) from None
    sent = Counter(end.state.value for end in ends if end.sent and not end.joined)
    return dict(sent), sum(not end.sent for end in ends)


def _said(counts: str) -> tuple[dict[str, Any], Any]:
    said = json.loads(counts)["counts"]
    return {state: count for state, count in said["states"].items() if count}, said["planned"]
