"""Tools: programs of the operators' that listen at the broker and say nothing.

Owns their rows. A tool's token is drawn by the command and shown once; its hash is kept. Each
change raises the version of the access file in the same transaction, so that the broker learns of
it.
"""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from buswire.errors import WireError
from buswire.names import identifier
from buswire.topics import Topics
from hqconsole.errors import HqError
from hqconsole.ledger import access


class ToolError(HqError):
    """A tool cannot be added or revoked so."""


def add(
    connection: sqlite3.Connection,
    name: str,
    reads: Sequence[str],
    *,
    token_hash: str,
    at: float,
    by: str,
) -> bool:
    """Let a tool listen; one of that name gets the new token and filters instead of its old ones.

    Args:
        connection: In a write transaction.
        name: A word, as it stands behind `tool/`.
        reads: Topic filters, root included, as `filter_below` gives them.
        token_hash: Of its password.
        at: The present time.
        by: Who adds it.

    Returns:
        Whether there was one of that name, whose old token no longer counts.

    Raises:
        ToolError: The name is none.
    """
    try:
        name = identifier(name, "tool")
    except WireError as error:
        raise ToolError(str(error), hint=error.hint) from error
    known = connection.execute("SELECT revoked_at FROM tool WHERE name = ?", (name,)).fetchone()
    connection.execute(
        "INSERT INTO tool (name, token_hash, reads, made_at, made_by) VALUES (?1, ?2, ?3, ?4, ?5)"
        " ON CONFLICT (name) DO UPDATE SET token_hash = ?2, reads = ?3, made_at = ?4,"
        " made_by = ?5, revoked_at = NULL",
        (name, token_hash, json.dumps(list(reads)), at, by),
    )
    access.raise_version(connection)
    return known is not None and known[0] is None


def revoke(connection: sqlite3.Connection, name: str, *, at: float) -> None:
    """Shut a tool out.

    Raises:
        ToolError: There is none of that name, or it is revoked already.
    """
    changed = connection.execute(
        "UPDATE tool SET revoked_at = ? WHERE name = ? AND revoked_at IS NULL", (at, name)
    ).rowcount
    if not changed:
        raise ToolError(f"there is no tool {name} to revoke", hint="hq tool list names them")
    access.raise_version(connection)


def tools(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """Every tool, also those that were revoked, with the names that `--json` shows."""
    return [
        {
            "name": name,
            "reads": json.loads(reads),
            "made_at": made_at,
            "made_by": made_by,
            "revoked_at": revoked_at,
        }
        for name, reads, made_at, made_by, revoked_at in connection.execute(
            "SELECT name, reads, made_at, made_by, revoked_at FROM tool ORDER BY name"
        )
    ]


def filter_below(text: str, topics: Topics) -> str:
    """A topic filter as the access file has it: below the root, which may be left out.

    Raises:
        ToolError: It is no filter (MQTT 3.1.1, section 4.7).
    """
    root = f"{topics.root}/"
    whole = text if text.startswith(root) else root + text
    levels = whole.split("/")
    misplaced = any("#" in level for level in levels[:-1]) or any(
        len(level) > 1 and ("#" in level or "+" in level) for level in levels
    )
    if not text or misplaced or "\0" in whole or len(whole.encode()) > 65_535:
        raise ToolError(
            f"{text!r} is no topic filter",
            hint="+ stands for one level and # for all that follow, such as from/+/+ or down/#",
        )
    return whole
