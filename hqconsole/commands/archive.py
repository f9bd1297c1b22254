"""`archive`: finished directives leave the ledger for a file of their own."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option, json_option
from buskit.database import Database, DatabaseError
from buskit.locks import FileLock
from buskit.terminal import Column, Sheet, clock, narrate
from hqconsole.commands.common import acting, operator, progress, span_seconds, write_audit
from hqconsole.errors import HqError
from hqconsole.home import new_id, read_hq_settings
from hqconsole.ledger import archive_files, archive_removal, archiving, search_index
from hqconsole.ledger.archiving import Choice, File, HeadOffice, Leaving
from hqconsole.ledger.opening import open_ledger
from hqconsole.lifecycle import DirectiveState
from hqconsole.render import state_words

LOCK_NAME = "archive.lock"
_PAUSE_SECONDS = 0.02
"""Between two transactions, for a hub that waits for its turn."""


@click.command()
@click.option(
    "--older-than",
    "age",
    metavar="SPAN",
    required=True,
    help="Those of which nothing happened for so long, such as 400d; 90d at least.",
)
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Where the file goes.  [default: archive/ in the home]",
)
@click.option("--dry-run", is_flag=True, help="Only say what would leave.")
@home_option("hq")
@json_option
def archive(*, age: str, folder: Path | None, dry_run: bool, home: Path, as_json: bool) -> None:
    """Let finished directives leave the ledger, each with its deliveries and answers, for a file.

    One file for each run, with its SHA-256 beside it and in the audit; it holds all that proves
    what is in it. The ledger keeps each directive with its text and its counts, and names the
    file: hq status and hq why go on answering, and hq who, hq cannot, hq why, hq export deliveries
    and hq evidence take --archive FILE. The hub may go on meanwhile.

    A run that was interrupted is gone on with by the next one.

    \b
    Examples:
      hq archive --older-than 400d --dry-run
      hq archive --older-than 400d
      hq verify --archive archive/archive-20260930-020000-6513270e.db
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    age_seconds = span_seconds(age)
    if age_seconds < archiving.YOUNGEST_SECONDS:
        days = archiving.YOUNGEST_SECONDS / archiving.DAY_SECONDS
        raise click.UsageError(
            f"--older-than {age} is too young, {days:.0f}d is the least: devices send again what"
            " they keep for 30 days, and what had left would count as new"
        )
    settings = read_hq_settings(home)
    acting(home, "upkeep")
    folder = (folder or home / archive_files.FOLDER_NAME).absolute()
    now_at = time.time()
    lock = FileLock(home / LOCK_NAME)
    if not lock.try_acquire():
        lock.close()
        raise HqError("another hq archive is at work here", hint="wait for its end")
    try:
        with open_ledger(home) as ledger:
            run = _Run(ledger, home, folder, settings.name, now_at)
            done = [] if dry_run else run.finish_others()
            _catch_up(ledger)
            with ledger.read() as connection:
                choice = archiving.choose(connection, now_at - age_seconds)
            found: tuple[File, set[int]] | None = None
            if choice.leaving and not dry_run:
                found = run.archive(choice, now_at - age_seconds)
    finally:
        lock.close()
    _show(choice, found, done, dry_run=dry_run, as_json=as_json)


class _Run:
    """One run of the command on one ledger."""

    def __init__(
        self, ledger: Database, home: Path, folder: Path, name: str, now_at: float
    ) -> None:
        self._ledger = ledger
        self._home = home
        self._folder = folder
        self._name = name
        self._now_at = now_at

    def archive(self, choice: Choice, before_at: float) -> tuple[File, set[int]]:
        """Write a new archive, and let go what it has. Returns it, and what left."""
        about = archiving.About(
            new_id(), self._now_at, operator(), before_at, _head_office(self._home, self._name)
        )
        target = self._folder / archive_files.new_name(about.id, self._now_at)
        with progress(choice.rows, "writing") as advance:
            archiving.write(self._ledger, target, choice.leaving, about, advance)
        file = archiving.examine(target)
        return file, set(self._take(file))

    def finish_others(self) -> list[Path]:
        """Go on with what earlier runs have begun. Returns the archives that are finished now."""
        archive_files.remove_unfinished(self._folder)
        done = []
        for no, path, total in archiving.unswept(self._ledger.connection):
            here = path if path.is_file() else self._folder / path.name
            try:
                self._take_out(archiving.examine(here, total), no)
                done.append(here)
            except (DatabaseError, HqError) as error:
                narrate(f"! not all of archive {path} has left the ledger yet: {error}")
                if error.hint:
                    narrate(f"  {error.hint}")
        for path in archive_files.found_in(self._folder):
            try:
                if archiving.known(self._ledger.connection, archiving.id_of(path)):
                    continue
                gone = self._take(archiving.examine(path))
            except (DatabaseError, HqError) as error:
                narrate(f"! {path} is left as it is: {error}")
                continue
            if gone:
                done.append(path)
        return done

    def _take(self, file: File) -> list[int]:
        """Record an archive that is complete, and let go what it has."""
        archiving.require_own(self._ledger.connection, file)
        archive_files.write_sum(file.path, file.sha256)
        with self._ledger.write() as connection:
            no = archiving.record(connection, file, at=self._now_at, by=operator())
            write_audit(
                connection,
                "archive",
                id=file.id,
                sha256=file.sha256,
                file=str(file.path),
                directives=file.directives,
                deliveries=file.deliveries,
                arrivals=file.arrivals,
                messages=file.messages,
            )
        return self._take_out(file, no)

    def _take_out(self, file: File, no: int) -> list[int]:
        with progress(2 * file.rows, "removing") as advance:
            left = archive_removal.take_out(
                self._ledger,
                no,
                file.path,
                at=self._now_at,
                advance=advance,
                pause=lambda: time.sleep(_PAUSE_SECONDS),
            )
        if left.changed:
            narrate(f"{left.changed:,} directives changed meanwhile and stay in the ledger")
        return left.directives


def _head_office(home: Path, name: str) -> HeadOffice:
    """What proves head office's seals, for who has the file alone."""
    from hqconsole.keyring import Keyring  # noqa: PLC0415 - cryptography, which help does not need

    keyring = Keyring.load(home)
    return HeadOffice(
        name=name,
        recovery=keyring.recovery,
        keys=list(keyring.entries),
        stolen=sorted(keyring.stolen),
    )


def _catch_up(ledger: Database) -> None:
    """Bring the index of the search up to date: what has left cannot be indexed any more."""
    total = search_index.behind(ledger.connection)
    with progress(total, "indexing") as advance:
        looked = total
        while looked:
            with ledger.write() as connection:
                looked = search_index.catch_up(connection)
            advance(looked)
            time.sleep(_PAUSE_SECONDS)


def _show(
    choice: Choice,
    found: tuple[File, set[int]] | None,
    done: Sequence[Path],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    file, gone = (None, set()) if found is None else found
    leaving = [one for one in choice.leaving if file is None or one.no in gone]
    sheet = Sheet()
    if as_json:
        sheet.json(
            {
                "dry_run": dry_run,
                "file": None if file is None else str(file.path),
                "file_bytes": None if file is None else file.bytes,
                "sha256": None if file is None else file.sha256,
                "directives": [_row(one) for one in leaving],
                "young": choice.young,
                "latest": choice.latest,
                "unsealed": choice.unsealed,
                "finished": [str(path) for path in done],
            }
        )
        return
    columns = [
        Column("short_id", "id"),
        Column("last_at", "last", text=clock),
        Column("state", "state", text=lambda state: state_words({"state": state})),
        Column("deliveries", "deliveries", right=True, text=_count),
        Column("arrivals", "answers", right=True, text=_count),
        Column("title", "title"),
    ]
    sheet.show([_row(one) for one in leaving], columns, as_json=False, empty="nothing is so old")
    for path in done:
        narrate(f"an earlier run is finished: {path}")
    if choice.young:
        narrate(f"{choice.young:,} that are finished are younger and stay")
    if choice.unsealed:
        narrate(f"{choice.unsealed:,} wait for the hub to seal them: hq up (or hq hub)")
    if choice.latest:
        narrate(f"{choice.latest:,} stay for now, because they have the latest answer or step")
    if file is not None:
        narrate(f"{file.path} has them, {file.bytes:,} bytes; the room in the ledger is used again")
        narrate(f"its SHA-256 is {file.sha256}; keep a copy of both elsewhere")
    elif dry_run and leaving:
        narrate("nothing was written: leave --dry-run out")


def _row(one: Leaving) -> dict[str, Any]:
    return {
        "id": one.id,
        "short_id": one.id[:8],
        "title": one.title,
        "state": DirectiveState(one.state).value,
        "last_at": one.ended_at,
        "deliveries": one.deliveries,
        "arrivals": one.arrivals,
    }


def _count(number: int) -> str:
    return f"{number:,}"
