"""`export`: whole tables of the history, as CSV or JSON Lines, to a file or a pipe."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from buskit.cli import home_option
from buskit.files import replace, sync_folder, unfinished_name
from buskit.terminal import narrate, printable
from hqconsole.commands.archive_option import archive_option, find_here
from hqconsole.commands.common import progress
from hqconsole.commands.past import past_moment, since_option, until_option, zone
from hqconsole.commands.places import known_region, known_store
from hqconsole.errors import HqError
from hqconsole.export_format import BOM, CSV, FORMATS, CsvLines, JsonLines, format_of
from hqconsole.ledger import exports
from hqconsole.ledger.exports import Among, Export
from hqconsole.ledger.opening import FILE_NAME, open_ledger

F = TypeVar("F", bound=Callable[..., Any])

_ADVANCE_ROWS = 500
_PROTECTED = ("hq.toml", FILE_NAME)


@click.group()
def export() -> None:
    """Write whole tables of the history, for spreadsheets and programs.

    CSV for spreadsheets: moments are on head office's clock, and a cell that a spreadsheet would
    compute (it begins with = + - @) gets an apostrophe before it, for stores' texts are anybody's.
    JSON Lines (--format jsonl) has every value as it is, and moments as Unix seconds.

    \b
    Examples:
      hq export deliveries 3f2a --to recall.csv
      hq export replies --since 30d --to replies.jsonl
      hq export directives --bom --to year.csv        for Excel, with Chinese
      hq export alerts --region east | head
    """  # noqa: D301 - click reads \b as: leave the lines as they are


def _output_options(command: F) -> F:
    for option in (
        click.option(
            "--to",
            "target",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="The file, complete or not at all; an older one is replaced. Otherwise a pipe.",
        ),
        click.option(
            "--format",
            "form",
            type=click.Choice(FORMATS),
            help="Without it as the file is called (.csv, .jsonl), or CSV.",
        ),
        click.option(
            "--bom", is_flag=True, help="Begin CSV with a mark by which Excel reads UTF-8."
        ),
        home_option("hq"),
    ):
        command = option(command)
    return command


def _place_options(command: F) -> F:
    command = click.option("--store", metavar="S", help="Only of this store.")(command)
    return click.option("--region", metavar="R", help="Only of this region's stores.")(command)


def _time_options(command: F) -> F:
    return since_option(until_option(command))


@export.command()
@click.argument("directive", metavar="ID")
@_place_options
@archive_option
@_output_options
def deliveries(directive: str, **options: Any) -> None:
    """Every mailbox of one directive: where it stands, since when, who said so, and why not."""
    _write(
        lambda connection, among: exports.deliveries(
            connection, find_here(connection, directive, f"hq export deliveries {directive}"), among
        ),
        **options,
    )


@export.command()
@_time_options
@_output_options
def directives(**options: Any) -> None:
    """Every directive with its counts, drafts too."""
    _write(exports.directives, **options)


def _told(name: str, kind: str | None, what: str) -> None:
    @export.command(name, help=what)
    @_time_options
    @_place_options
    @_output_options
    def command(**options: Any) -> None:
        _write(lambda connection, among: exports.arrivals(connection, kind, among), **options)


_told("replies", "reply", "Every answer in a directive's thread.")
_told("alerts", "alert", "Everything that stores raised for action.")
_told("receipts", "receipt", "Every statement about a delivery, also those that changed nothing.")
_told("arrivals", None, "Everything that stores said, as it came, with its data.")


@export.command()
@_time_options
@_output_options
def audit(**options: Any) -> None:
    """Who did what at head office."""
    _write(exports.audit_rows, **options)


def _write(
    make: Callable[[Any, Among], Export],
    *,
    target: Path | None,
    form: str | None,
    bom: bool,
    home: Path,
    since: str | None = None,
    until: str | None = None,
    store: str | None = None,
    region: str | None = None,
    archive_file: Path | None = None,
) -> None:
    form = form or (None if target is None else format_of(target.name)) or CSV
    if bom and form != CSV:
        raise click.UsageError("--bom is for CSV")
    _refuse_own(target, home)
    since_at = None if since is None else past_moment(since, home)
    until_at = None if until is None else past_moment(until, home, whole_day=True)
    with contextlib.ExitStack() as stack:
        if archive_file is None:
            ledger = stack.enter_context(open_ledger(home))
            connection = ledger.connection
        else:
            from hqconsole.ledger import archive_files  # noqa: PLC0415 - few read one

            connection = stack.enter_context(archive_files.reading(archive_file))
        among = Among(
            None if store is None else known_store(connection, store),
            None if region is None else known_region(connection, region),
            since_at,
            until_at,
        )
        if target is not None and archive_file is None:
            # A file is done in seconds, so all of it can be of one moment; whoever reads a pipe
            # may take hours, and the ledger's log could not shrink meanwhile.
            stack.enter_context(ledger.read())
        found = make(connection, among)
        lines = CsvLines(found.columns, zone(home)) if form == CSV else JsonLines(found.columns)
        watched = sys.stdout.isatty() and sys.stderr.isatty() and target is not None
        advance = stack.enter_context(progress(found.total() if watched else 0, "exporting"))
        write = stack.enter_context(_to_stdout() if target is None else _to_file(target))
        write((BOM if bom else "") + lines.header())
        count = 0
        for count, row in enumerate(found.rows, 1):
            write(lines.line(row))
            if count % _ADVANCE_ROWS == 0:
                advance(_ADVANCE_ROWS)
    if target is not None:
        narrate(f"{target} has {count:,} rows, {target.stat().st_size:,} bytes")


def _refuse_own(target: Path | None, home: Path) -> None:
    if target is None:
        return
    if target.absolute().resolve() in {(home / name).absolute().resolve() for name in _PROTECTED}:
        raise click.UsageError("that is a file of head office's own; name another one")
    if not target.absolute().parent.is_dir():
        raise HqError(f"there is no folder {target.absolute().parent}", hint="make it first")


@contextlib.contextmanager
def _to_stdout() -> Iterator[Callable[[str], None]]:
    if sys.stdout.isatty():
        yield lambda text: _keep(sys.stdout.write(printable(text, keep_newlines=True)))
        return
    # Bytes, so that neither the locale nor the system's line ends change what is written.
    yield lambda text: _keep(sys.stdout.buffer.write(_encoded(text)))
    sys.stdout.buffer.flush()


@contextlib.contextmanager
def _to_file(target: Path) -> Iterator[Callable[[str], None]]:
    """A file that takes its place when all of it is durable."""
    target = target.absolute()
    unfinished = unfinished_name(target)
    try:
        # Nobody else's business: it has what stores and people said.
        descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb", buffering=1 << 20) as file:
            yield lambda text: _keep(file.write(_encoded(text)))
            file.flush()
            os.fsync(file.fileno())
        replace(unfinished, target)
        sync_folder(target.parent)
    except OSError as error:
        raise HqError(
            f"{target} cannot be written: {error.strerror}", hint="name a file elsewhere: --to FILE"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _encoded(text: str) -> bytes:
    """UTF-8; half characters, which JSON can hold and UTF-8 cannot, are escaped."""
    return text.encode("utf-8", "backslashreplace")


def _keep(_: int) -> None:
    """Drop the number of what was written."""
