"""Who did what at head office: one row for each command that changed something.

Owns the rows and the chain that holds them together. Each row's hash is the SHA-256 over the hash
of the row before it (nothing, for the first) and its own content, so that no row can be changed,
taken out or put in between without every later hash telling. Whoever can write the ledger can
write all of the chain anew; who keeps one hash somewhere else (`hq verify` says the latest) notices
that, too.

Must not know commands: what an action is called and what its details are is theirs. Rows are only
ever appended, in the transaction of what they tell of.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

_WORD = 100
_ORIGIN = 300
_COLUMNS = "no, at, operator, origin, action, detail, hash"
LATEST = f"SELECT {_COLUMNS} FROM audit WHERE {{where}} ORDER BY no DESC LIMIT ?"


class Row(NamedTuple):
    """One row as it is kept; `detail` is the JSON text that the hash is over."""

    no: int
    at: float
    operator: str
    origin: str
    action: str
    detail: str
    hash: str

    def expected_hash(self, before: str) -> str:
        """The hash that the row must have behind that of the row before."""
        return _hash(before, self[1:6])


def _hash(before: str, content: Sequence[Any]) -> str:
    """SHA-256 in hex over the hash before, a line feed, and a JSON list of the content."""
    text = json.dumps(list(content), ensure_ascii=False)
    return hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()


def record(
    connection: sqlite3.Connection,
    *,
    action: str,
    at: float,
    operator: str,
    origin: str,
    **detail: Any,
) -> None:
    """Append a row, in the caller's transaction: it stands exactly if the action does.

    Args:
        connection: With a write transaction open.
        action: The words of the command, such as "device add".
        at: Unix time.
        operator: Who; texts that are no text (an odd environment) are kept escaped.
        origin: From where: machine, terminal, address.
        detail: What changed, as JSON has it; kept whole, so the caller keeps it short.
    """
    last = connection.execute("SELECT hash FROM audit ORDER BY no DESC LIMIT 1").fetchone()
    text = _text(json.dumps(detail, ensure_ascii=False))
    content = (float(at), _text(operator)[:_WORD], _text(origin)[:_ORIGIN], _text(action), text)
    connection.execute(
        "INSERT INTO audit (at, operator, origin, action, detail, hash) VALUES (?, ?, ?, ?, ?, ?)",
        (*content, _hash(last[0] if last else "", content)),
    )


def _text(text: str) -> str:
    """The text, with what cannot be written as UTF-8 escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def rows(connection: sqlite3.Connection) -> Iterator[Row]:
    """Every row, the oldest first."""
    for row in connection.execute(f"SELECT {_COLUMNS} FROM audit ORDER BY no"):
        yield Row(*row)


def entries(
    connection: sqlite3.Connection,
    *,
    since_at: float | None = None,
    operator: str | None = None,
    action: str | None = None,
    most: int,
) -> list[dict[str, Any]]:
    """The latest rows, the oldest first, with the names that `--json` shows.

    Args:
        connection: Reads the ledger.
        since_at: Only from this Unix time on.
        operator: Only of this operator, by the whole name.
        action: Only of this action, or of all that begin with these words: "device" is all of
            `hq device`.
        most: At most so many.
    """
    where, values = ["1"], list[Any]()
    if since_at is not None:
        where.append("at >= ?")
        values.append(since_at)
    if operator is not None:
        where.append("operator = ?")
        values.append(operator)
    if action is not None:
        where.append("(action = ? OR substr(action, 1, ?) = ?)")
        values += [action, len(action) + 1, f"{action} "]
    found = connection.execute(LATEST.format(where=" AND ".join(where)), (*values, most)).fetchall()
    return [_entry(row) for row in reversed(found)]


def _entry(row: Sequence[Any]) -> dict[str, Any]:
    found = Row(*row)._asdict()
    try:
        found["detail"] = json.loads(found["detail"])
    except ValueError:  # altered by somebody; hq verify says so, and this shows it as it is
        found["detail"] = {"text": found["detail"]}
    return found
