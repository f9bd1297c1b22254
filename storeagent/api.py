"""The agent for Python programs: what a script says is durable when the call returns.

Owns the open database of a program and its doorbell. Works without the daemon and without a
network, beside the daemon and other programs, and from several threads.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from buskit.database import Database, DatabaseDamaged, DatabaseFailed
from buskit.doorbell import Bell
from buswire.errors import BusError
from storeagent.database import database_path, open_agent_database
from storeagent.limits import read_limits
from storeagent.scripts import Recorded, Scripts

if TYPE_CHECKING:
    from buswire.messages import StoreFacts
    from storeagent.reports import Table
    from storeagent.statements import Said, Statements
    from storeagent.status import HqHeard

T = TypeVar("T")


class Agent:
    """One device, as a program sees it. Keep it for as long as the program says things.

    Example:
        agent = Agent()
        agent.alert("replenishment", sku="6901234", on_hand=3, reorder_point=12, key="2026-05-01")
    """

    def __init__(self, home: str | Path | None = None, *, by: str = "") -> None:
        """Name the device; nothing is opened before the first call.

        Args:
            home: Its folder; `$STOREBUS_AGENT_HOME` or this user's data folder if not given.
            by: Who speaks, in all that is said; `$STOREBUS_BY` if not given.
        """
        if home is None:
            from buskit.homes import default_home  # noqa: PLC0415 - unneeded with a home given

            home = default_home("agent")
        self.home = Path(home)
        self._by = by or os.environ.get("STOREBUS_BY", "")
        self._lock = threading.Lock()
        self._database: Database | None = None
        self._scripts: Scripts | None = None
        self._bell = Bell(self.home)

    # --- of scripts ------------------------------------------------------------------------------

    def alert(
        self,
        kind: str,
        /,
        *,
        key: str | None = None,
        note: str = "",
        by: str = "",
        **fields: object,
    ) -> Recorded:
        """Raise an alert.

        Args:
            kind: `replenishment` (sku, on_hand, reorder_point, wanted), `incident`, `equipment`.
            key: Your own name for it: said again with the same key, it is not recorded again.
            note: Free text.
            by: Who says it.
            fields: What the kind demands.

        Raises:
            InvalidEntry: It does not fit its kind.
            OutboxFull: Too much waits for head office.
            DatabaseError: There is no such device here, or its file cannot be written.

        In each case nothing was recorded; only after `DatabaseFailed`, which is the word for a disk
        that fails, it may have been. Said again with the same key it is recorded once.
        """
        speaker = by or self._by
        return self._script(lambda say: say.alert(kind, fields, key=key, note=note, by=speaker))

    def report(
        self,
        name: str,
        figures: str | Path | bytes | Sequence[Mapping[str, Any]],
        *,
        key: str | None = None,
    ) -> Recorded:
        """Send a table of figures, all of it or nothing.

        Args:
            name: What the report is called, such as daily-sales.
            figures: A CSV or JSON Lines file, its content, or rows as dictionaries.
            key: Your own name for this very report; the hash of its content if not given, so that
                the same figures are never counted twice.

        Raises:
            InvalidEntry: With the line that cannot be read.
            OutboxFull: Too much waits for head office.
            DatabaseError: As for `alert`.
            OSError: The file cannot be read.
        """
        from storeagent import reports  # noqa: PLC0415 - csv and more, which an alert does not need

        if isinstance(figures, str | Path):
            path = Path(figures)
            content = path.read_bytes()
            table = reports.read_table(content, reports.guess_format(content, path.name))
        elif isinstance(figures, bytes):
            content = figures
            table = reports.read_table(content, reports.guess_format(content))
        else:
            import msgspec  # noqa: PLC0415 - here already, through the statements

            table = reports.make_table([dict(row) for row in figures])
            content = msgspec.json.encode(table)
        return self.report_table(name, table, key=key or reports.content_key(content))

    def report_table(self, name: str, table: "Table", *, key: str) -> Recorded:
        """Send a table that was read already; raises as `report`."""
        return self._script(lambda say: say.report(name, table, key=key))

    # --- about work ------------------------------------------------------------------------------

    def inbox(self, *, everything: bool = False) -> list[dict[str, Any]]:
        """The work that is to do, in the order of the list on the till; or all that is kept."""
        from storeagent import work  # noqa: PLC0415 - time zones, which an alert does not need

        now_at = time.time()
        with self._working() as database:
            statements = self._staff(database)
            zone = work.zone_of(statements.facts().timezone)
            items = statements.inbox.items(everything=everything)
        return [work.as_dict(item, zone, now_at) for item in work.in_order(items, zone, now_at)]

    def show(self, work: str | int) -> dict[str, Any]:
        """One piece of work with its text; it is not marked as read.

        Raises:
            NoSuchWork: There is none such here, or several.
        """
        from storeagent import work as words  # noqa: PLC0415 - as in `inbox`

        with self._working() as database:
            statements = self._staff(database)
            item = statements.find(str(work))
            zone = words.zone_of(statements.facts().timezone)
            data = statements.inbox.directive_data(item.delivery.directive)
        return words.as_dict(item, zone, time.time(), data=data or b"{}")

    def find(self, work: str | int) -> dict[str, Any]:
        """One piece of work without its text; raises as `show`."""
        found = self.show(work)
        del found["body"]
        return found

    def news(self) -> list[dict[str, Any]]:
        """Work that was closed by others, and that nobody here was told of: the latest first.

        That is what head office withdrew, replaced or closed, and what another device of the store
        finished. Each as in `inbox`, with `replacement`: what stands in for it, or None. Owed next:
        `tell`.
        """
        from storeagent import work as words  # noqa: PLC0415 - as in `inbox`
        from storeagent.inbox_news import News  # noqa: PLC0415 - likewise

        now_at = time.time()
        with self._working() as database:
            statements = self._staff(database)
            zone = words.zone_of(statements.facts().timezone)
            found = []
            for item in News(database).items():
                row = words.as_dict(item, zone, now_at)
                new = item.superseded_by
                standing = statements.inbox.items_with_prefix(new, 1) if new else []
                row["replacement"] = words.as_dict(standing[0], zone, now_at) if standing else None
                found.append(row)
        return found

    def tell(self, news: Sequence[Mapping[str, Any]]) -> None:
        """Note that somebody was told of this news; idempotent.

        What happened to a piece of work since `news` was asked is news still.
        """
        from storeagent.inbox_news import News  # noqa: PLC0415 - as in `inbox`

        told = {(row["directive"], row["role"], row["changed_at"]) for row in news}
        if not told:
            return
        with self._working() as database, database.write():
            known = News(database)
            known.tell(
                item
                for item in known.items()
                if (item.delivery.directive, item.delivery.role, item.delivery.changed_at) in told
            )

    def facts(self) -> "StoreFacts":
        """What head office says about this store: name, region, time zone."""
        with self._working() as database:
            return self._staff(database).facts()

    def hearing(self) -> "HqHeard":
        """Whether head office is heard, and when it last answered."""
        from storeagent.memory import Memory  # noqa: PLC0415 - an alert does not need it
        from storeagent.status import how_heard  # noqa: PLC0415

        with self._working() as database:
            last_at = Memory(database).welcome_at()
        return how_heard(self.home, last_saved_at=last_at, now_at=time.time())

    def counts(self) -> dict[str, int]:
        """How much is to do, is unsure, and waits for head office in each log."""
        with self._working() as database:
            statements = self._staff(database)
            return {
                "todo": statements.inbox.todo_count(),
                "unsure": statements.inbox.unsure_count(),
                "act": statements.outbox.pending("act"),
                "bulk": statements.outbox.pending("bulk"),
            }

    def read(self, work: str | int, *, by: str = "") -> "Said":
        """Say that somebody has read it; `work` is a number of the list, or part of an id."""
        return self._about(work, lambda say, d, r: say.read(d, r, by=by or self._by))

    def start(self, work: str | int, *, by: str = "") -> "Said":
        """Say that the work has begun."""
        return self._about(work, lambda say, d, r: say.start(d, r, by=by or self._by))

    def done(self, work: str | int, *, note: str = "", by: str = "") -> "Said":
        """Say that the work is done.

        Raises:
            NoSuchWork: There is none such here, or several.
            OutboxFull: Too much waits for head office. Nothing was recorded.
        """
        return self._about(work, lambda say, d, r: say.done(d, r, note=note, by=by or self._by))

    def cannot(self, work: str | int, *, reason: str = "", code: str = "", by: str = "") -> "Said":
        """Say that the store cannot do it, and why.

        Args:
            work: A number of the list, or part of an id.
            reason: Why, in the store's own words; needed where head office offers no reasons.
            code: One of those that it offers (`reasons` of the work); needed where it does.
            by: Who says it.
        """
        return self._about(
            work,
            lambda say, d, r: say.cannot(d, r, reason=reason, code=code, by=by or self._by),
        )

    def reply(self, work: str | int, text: str, *, by: str = "") -> Recorded:
        """Answer in the directive's thread."""
        return self._about(work, lambda say, d, r: say.reply(d, r, text=text, by=by or self._by))

    # --- the connection --------------------------------------------------------------------------

    def close(self) -> None:
        """Close the database; idempotent, and the next call opens it again."""
        with self._lock:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _about(self, work: str | int, say: "Callable[[Statements, str, str], T]") -> T:
        with self._working() as database:
            statements = self._staff(database)
            delivery = statements.find(str(work)).delivery
            said = say(statements, delivery.directive, delivery.role)
            self._bell.ring()
        return said

    def _script(self, say: Callable[[Scripts], T]) -> T:
        with self._working() as database:
            if self._scripts is None:
                limits = read_limits(self.home)
                self._scripts = Scripts(database, wall_clock=time.time, limits=limits)
            said = say(self._scripts)
            self._bell.ring()
        return said

    def _working(self) -> "_Working":
        return _Working(self)

    def _begin(self) -> Database:
        self._lock.acquire()
        try:
            return self._open()
        except BaseException as error:
            self._end(error)
            raise

    def _end(self, error: BaseException | None) -> None:
        """Let the next thread in; what went wrong may be the file's fault."""
        try:
            if error is not None:
                self._judge(error)
        finally:
            self._lock.release()

    def _judge(self, error: BaseException) -> None:
        if isinstance(error, DatabaseFailed):
            self._close()  # the file was replaced, or its disk failed: begin anew next time
            return
        try:
            if isinstance(error, DatabaseDamaged):
                raise error
            if self._database is not None and not isinstance(error, BusError):
                self._database.tell(error)
        except DatabaseDamaged:
            from storeagent.mending import suspect  # noqa: PLC0415 - as far as it ever comes

            suspect(self.home)
            self._bell.ring()
            self._close()
            raise

    def _staff(self, database: Database) -> "Statements":
        from storeagent.statements import Statements  # noqa: PLC0415 - an alert does not need it

        return Statements(database, wall_clock=time.time, limits=read_limits(self.home))

    def _open(self) -> Database:
        if self._database is None:
            self._database = open_agent_database(database_path(self.home), any_thread=True)
        return self._database

    def _close(self) -> None:
        database, self._database, self._scripts = self._database, None, None
        self._bell.close()
        if database is not None:
            database.close()


class _Working:
    """The block in which a call has the database; a generator would cost each call more."""

    __slots__ = ("_agent",)

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def __enter__(self) -> Database:
        return self._agent._begin()  # noqa: SLF001 - half of it

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._agent._end(error)  # noqa: SLF001
