"""Saved audiences, and how the audience of a directive differs from what it would be today.

Owns their rows. A saved audience is its selector, evaluated anew at each use. Saved audiences may
name one another; one that leads back to itself, or deeper than `MAX_NESTED`, is not saved.
"""

import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from buswire.errors import WireError
from buswire.names import new_identifier, shown
from hqconsole.audience import (
    MAX_NESTED,
    AudienceError,
    Mailbox,
    Organisation,
    choose,
    drift,
    select_again,
)
from hqconsole.ledger.organisation import organisation
from hqconsole.selector import Selector, in_words, selector_from_json, selector_to_json
from hqconsole.suggestions import close_names

MAX_SAVED = 10_000
_HINT_LIST = "hq audience list names the saved ones; hq audience save NAME saves one"

FROZEN = (
    "SELECT store.id, mailbox.role FROM {table} AS member"
    " JOIN mailbox ON mailbox.no = member.mailbox_no JOIN store ON store.no = mailbox.store_no"
    " WHERE member.directive_no = ?"
)
MAILBOX_NO = (
    "SELECT mailbox.no FROM store JOIN mailbox ON mailbox.store_no = store.no"
    " WHERE store.id = ? AND mailbox.role = ?"
)


@dataclass(frozen=True, slots=True)
class AudienceDrift:
    """How the frozen audience of a directive differs from what it would be today.

    Attributes:
        frozen: How many mailboxes it has: the denominator, which stays.
        asked: How it was asked for; None when HQ does not know (an older directive).
        joined: Mailboxes that the selector takes today and that are not in the audience.
        taken_in: Those that the directive has been given to since, being continuous.
        left: Mailboxes of the audience whose store is closed or has lost the role.
    """

    frozen: int
    asked: Selector | None
    joined: frozenset[Mailbox]
    taken_in: frozenset[Mailbox]
    left: frozenset[Mailbox]


def whole(connection: sqlite3.Connection, selector: Selector) -> Selector:
    """Return the selector with the definitions of the saved audiences that it names.

    What it means depends on the roster alone from then on: a later change of a saved audience
    changes no directive that was written before. Without saved audiences it costs nothing.

    Raises:
        AudienceError: There is no such saved audience (with close names), or one names itself.
    """
    if not selector.audiences:
        return selector
    reached = dict(_reached(connection, selector.audiences))
    return replace(selector, definitions=tuple(sorted(reached.items())))


def save(
    connection: sqlite3.Connection, name: str, selector: Selector, *, at: float, by: str
) -> bool:
    """Save what a selector says under a name; one of that name is replaced.

    Args:
        connection: In a write transaction.
        name: A word of letters and digits of any script, `-` and `_`.
        selector: It must mean somebody today.
        at: The present time.
        by: Who saves it.

    Returns:
        Whether there was one of that name.

    Raises:
        AudienceError: The name is none, the selector means nobody or cannot be understood, it
            leads back to this name, or there are too many.
    """
    try:
        name = new_identifier(name, "audience")
    except WireError as error:
        raise AudienceError(str(error), hint=error.hint) from error
    choose(whole(connection, selector), organisation(connection))
    text = selector_to_json(replace(selector, definitions=()))
    known = connection.execute("SELECT 1 FROM saved_audience WHERE name = ?", (name,)).fetchone()
    (count,) = connection.execute("SELECT count(*) FROM saved_audience").fetchone()
    if known is None and count >= MAX_SAVED:
        raise AudienceError(f"{count:,} audiences are saved already", hint="hq audience drop NAME")
    connection.execute(
        "INSERT INTO saved_audience (name, selector, saved_at, saved_by) VALUES (?1, ?2, ?3, ?4)"
        " ON CONFLICT (name) DO UPDATE SET selector = ?2, saved_at = ?3, saved_by = ?4",
        (name, text, at, by),
    )
    _refuse_circles(connection)
    return known is not None


def drop(connection: sqlite3.Connection, name: str) -> None:
    """Forget a saved audience; what was written with it keeps what it meant.

    Raises:
        AudienceError: There is none of that name, or another one names it.
    """
    _require(connection, name)
    users = used_by(connection, name)
    if users:
        raise AudienceError(
            f"audience {name} is part of {' and '.join(users[:5])}",
            hint=f"hq audience save {users[0]} again without it, or drop that first",
        )
    connection.execute("DELETE FROM saved_audience WHERE name = ?", (name,))


def used_by(connection: sqlite3.Connection, name: str) -> list[str]:
    """The saved audiences that name this one."""
    return [
        other for other, selector in definitions(connection).items() if name in selector.audiences
    ]


def definitions(connection: sqlite3.Connection) -> dict[str, Selector]:
    """Every saved audience by name, in order."""
    return {
        name: selector_from_json(text)
        for name, text in connection.execute(
            "SELECT name, selector FROM saved_audience ORDER BY name"
        )
    }


def saved(connection: sqlite3.Connection, name: str | None = None) -> list[dict[str, Any]]:
    """Every saved audience, or one, with the names that `--json` shows.

    Raises:
        AudienceError: There is none of that name.
    """
    if name is not None:
        _require(connection, name)
    return [
        {
            "name": one,
            "options": in_words(selector_from_json(text)),
            "saved_at": saved_at,
            "saved_by": saved_by,
        }
        for one, text, saved_at, saved_by in connection.execute(
            "SELECT name, selector, saved_at, saved_by FROM saved_audience"
            " WHERE ?1 IS NULL OR name = ?1 ORDER BY name",
            (name,),
        )
    ]


def drift_of(
    connection: sqlite3.Connection, directive_no: int, there: Organisation | None = None
) -> AudienceDrift:
    """How the frozen audience of a directive differs from what it would be today.

    Args:
        connection: In a transaction.
        directive_no: Sent or not.
        there: The roster of today, if the caller has read it.

    Raises:
        AudienceError: Its expression cannot be judged any longer: the roster lost the column.
    """
    there = organisation(connection) if there is None else there
    frozen = _members(connection, directive_no, "delivery", "joined_at IS NULL")
    frozen |= _members(connection, directive_no, "planned")
    taken_in = _members(connection, directive_no, "delivery", "joined_at IS NOT NULL")
    asked, _ = _asked(connection, directive_no)
    found = drift(frozen, asked, there)
    return AudienceDrift(
        frozen=len(frozen),
        asked=asked,
        joined=found.joined | taken_in,
        taken_in=frozenset(taken_in),
        left=found.left,
    )


def joiners(connection: sqlite3.Connection, directive_no: int, there: Organisation) -> list[int]:
    """The numbers of the mailboxes that a continuous directive is to take in, in order.

    They are what its selector takes today and neither its audience nor those taken in before; none
    when it is not continuous.

    Raises:
        AudienceError: Its expression cannot be judged any longer: the roster lost the column.
            Nobody can be taken in until that is mended; what was sent is as it was.
    """
    asked, continuous = _asked(connection, directive_no)
    if asked is None or not continuous:
        return []
    today = select_again(asked, there)
    today -= _members(connection, directive_no, "delivery")
    today -= _members(connection, directive_no, "planned")
    return sorted(connection.execute(MAILBOX_NO, mailbox).fetchone()[0] for mailbox in today)


def members_of(connection: sqlite3.Connection, directive_no: int) -> set[Mailbox]:
    """Everybody whom a directive was sent to, or is to be."""
    sent = _members(connection, directive_no, "delivery")
    return sent | _members(connection, directive_no, "planned")


def _members(
    connection: sqlite3.Connection, directive_no: int, table: str, also: str = "1"
) -> set[Mailbox]:
    query = f"{FROZEN.format(table=table)} AND {also}"
    return {Mailbox(*row) for row in connection.execute(query, (directive_no,))}


def _asked(connection: sqlite3.Connection, directive_no: int) -> tuple[Selector | None, bool]:
    row = connection.execute(
        "SELECT selector, continuous FROM plan WHERE directive_no = ?", (directive_no,)
    ).fetchone()
    if row is None or not row[0]:
        return None, False
    return selector_from_json(row[0]), bool(row[1])


def _reached(
    connection: sqlite3.Connection, names: Collection[str]
) -> Iterator[tuple[str, Selector]]:
    """Each saved audience that these names lead to, once."""
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        definition = selector_from_json(_require(connection, name))
        yield name, definition
        waiting += definition.audiences


def _require(connection: sqlite3.Connection, name: str) -> str:
    row = connection.execute(
        "SELECT selector FROM saved_audience WHERE name = ?", (name,)
    ).fetchone()
    if row is not None:
        return str(row[0])
    known = [one for (one,) in connection.execute("SELECT name FROM saved_audience")]
    near = close_names(name, known)
    raise AudienceError(
        f"there is no saved audience {shown(name)}"
        + (f", did you mean {' or '.join(near)}?" if near else ""),
        hint=_HINT_LIST,
    )


def _refuse_circles(connection: sqlite3.Connection) -> None:
    """Refuse what was just saved if any audience now leads back to itself or too deep."""
    known = definitions(connection)
    depth: dict[str, int] = {}
    for start in known:
        path = [start]
        while path:
            name = path[-1]
            inner = [one for one in known[name].audiences if one in known]
            unknown_depth = [one for one in inner if one not in depth]
            if not unknown_depth:
                depth[name] = 1 + max((depth[one] for one in inner), default=0)
                path.pop()
                continue
            following = unknown_depth[0]
            if following in path:
                circle = [*path[path.index(following) :], following]
                raise AudienceError(
                    f"audience {following} would lead back to itself: {' > '.join(circle)}",
                    hint="leave one of them out",
                )
            path.append(following)
    deepest = max(depth, key=depth.__getitem__, default="")
    if deepest and depth[deepest] > MAX_NESTED:
        raise AudienceError(
            f"audience {deepest} would name others {depth[deepest]} deep, {MAX_NESTED} are the "
            "most",
            hint="name the regions and stores themselves",
        )
