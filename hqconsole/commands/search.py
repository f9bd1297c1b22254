"""`search`: find words in the whole history."""

import shutil
import time
from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option, json_option
from buskit.database import Database, DatabaseBusy, DatabaseFull
from buskit.terminal import Column, Sheet, clock, narrate
from hqconsole.commands.common import progress
from hqconsole.commands.past import past_moment, since_option, until_option
from hqconsole.commands.places import known_region, known_store
from hqconsole.ledger import search as ledger_search
from hqconsole.ledger import search_index
from hqconsole.ledger.opening import open_ledger
from hqconsole.words import Excerpt, Query, parse

_MOST = 20
_EXCERPT_COLUMNS = 100
_OTHER_COLUMNS = 62
_WORTH_A_BAR = 5_000


@click.command(
    # What looks like an option can be a word that must not be there.
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]}
)
@click.argument("words", nargs=-1, metavar="WORDS...")
@click.option(
    "--kind",
    type=click.Choice(sorted(search_index.KINDS)),
    help="Only these; a decision is why head office denied, paused, withdrew or reminded.",
)
@click.option("--store", metavar="S", help="Only what this store said, or was sent.")
@click.option("--region", metavar="R", help="Only what this region's stores said, or were sent.")
@since_option
@until_option
@click.option(
    "--limit",
    "most",
    type=click.IntRange(1, 10_000),
    default=_MOST,
    show_default=True,
    help="At most so many, the best.",
)
@click.option("--rebuild", is_flag=True, help="First make the index anew, from the history itself.")
@home_option("hq")
@json_option
def search(
    *,
    words: tuple[str, ...],
    kind: str | None,
    store: str | None,
    region: str | None,
    since: str | None,
    until: str | None,
    most: int,
    rebuild: bool,
    home: Path,
    as_json: bool,
) -> None:
    """Find words in all that was ever said: directives, decisions, replies, alerts, notes, reasons.

    All words must be there, in any order. Letter case and accents do not matter, and Chinese,
    Japanese and Korean words of any length are found. The best come first: those that fit well,
    and of these the new ones. [Brackets] mark what was found.

    \b
      'this OR that'       either
      '"side by side"'     these words in a row (with the quotes, so quote them for the shell)
      -word                without this one
      begin*               words that begin so

    \b
    Examples:
      hq search lot 2231
      hq search 促销 海报 --kind reply --since 30d
      hq search '"price tags" OR labels' -printer --region east
      hq search 'freez*' --store S017 --json
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    if not words and not rebuild:
        raise click.UsageError("say what to look for: hq search lot 2231")
    for word in words:
        if word.startswith("--") and len(word) > 2:
            raise click.UsageError(f"no such option: {word}")
    query = parse(" ".join(words)) if words else None
    since_at = None if since is None else past_moment(since, home)
    until_at = None if until is None else past_moment(until, home, whole_day=True)
    with open_ledger(home) as ledger:
        filters = ledger_search.Filters(
            kind=kind,
            store=None if store is None else known_store(ledger.connection, store),
            region=None if region is None else known_region(ledger.connection, region),
            since_at=since_at,
            until_at=until_at,
        )
        _catch_up(ledger, anew=rebuild)
        if query is None:
            narrate("the index is made anew")
            return
        with ledger.read() as connection:
            found = ledger_search.search(
                connection,
                query,
                filters,
                now_at=time.time(),
                most=most,
                columns=_excerpt_columns(as_json=as_json),
            )
    _show(found, query, as_json=as_json, narrowed=store is not None or region is not None)


def _catch_up(ledger: Database, *, anew: bool) -> None:
    """Index what is new; where that cannot be, say so and look among the rest."""
    try:
        if anew:
            with ledger.write() as connection:
                search_index.forget(connection)
        total = search_index.behind(ledger.connection)
        if not total:
            return
        if total > _WORTH_A_BAR:
            narrate(f"{total:,} entries are new to the index")
        with progress(total, "indexing") as advance:
            looked = total
            while looked:
                with ledger.write() as connection:
                    looked = search_index.catch_up(connection)
                advance(looked)
    except (DatabaseBusy, DatabaseFull) as error:
        if anew:
            raise
        narrate(f"what is new is not found yet: {error}")


def _excerpt_columns(*, as_json: bool) -> int:
    sheet = Sheet()
    if as_json or not sheet.on_terminal:
        return _EXCERPT_COLUMNS
    return max(40, min(_EXCERPT_COLUMNS, shutil.get_terminal_size().columns - _OTHER_COLUMNS))


def _show(found: ledger_search.Found, query: Query, *, as_json: bool, narrowed: bool) -> None:
    columns = [
        Column("at", "when", text=clock),
        Column("kind", "kind"),
        Column("store", "store"),
        Column("role", "for", text=lambda role: "" if role in {"any", None} else str(role)),
        Column("by", "by"),
        Column("short_id", "directive"),
        Column("marked", "text"),
    ]
    sheet = Sheet()
    if as_json:
        sheet.json(found.rows)
        return
    rows = [{**row, "marked": _marked(row)} for row in found.rows]
    sheet.show(rows, columns, as_json=False, empty=_nothing(query))
    if rows and found.hits > len(rows):
        about = "up to " if narrowed else ""
        narrate(f"the best {len(rows):,} of {about}{found.hits:,}: --limit, --kind, --since")


def _marked(row: dict[str, Any]) -> str:
    marks = tuple((start, end) for start, end in row["marks"])
    return Excerpt(row["excerpt"], marks).marked()


def _nothing(query: Query) -> str:
    whole = [term for term in query.terms if not term.prefix and term.words[-1].isascii()]
    also = f"; words that begin so: '{whole[-1].words[-1]}*'" if whole else ""
    return f"nothing was found{also}"
