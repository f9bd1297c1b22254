"""What the hub does of itself with directives: starts, waves, completion, lateness, who joins.

Owns when the hub looks at which directive: when its time has come or is over, when stores said
something about it, when the roster changed, and once at the beginning at all of them, since nobody
knows what an earlier hub still meant to do. What there is to do is `ledger.due`'s business.

Invariants:
- A directive on which this program fails stops no other: what was done for it is undone alone, it
  is reported, and tried again after a while.
- After a batch that was undone (`begin_again`) everything is looked at once more: what is still to
  be looked at stands nowhere else.
- Who joins is judged once for each state of the roster, and when a continuous directive has reached
  all of its own audience.
"""

from collections.abc import Callable

from buskit.database_part import undone_alone
from buskit.defects import is_defect, told
from hqconsole.audience import AudienceError
from hqconsole.batch import Batch
from hqconsole.ledger import audiences, directives, due, organisation, waves
from hqconsole.ledger.arrivals import DEFECT
from hqconsole.ledger.organisation import PresentOrganisation
from hqconsole.ledger.troubles import record_standing_incident

NO_JOINERS = "nobody can join"
"""The kind of the incident that a continuous audience cannot be judged on today's roster."""
AGAIN_SECONDS = 600.0
"""After so long a directive is tried again on which this program failed."""
_AT_ONCE = 50
_TICK_SECONDS = 5.0
_SILENCE_SECONDS = 60.0
"""A shorter time without a link keeps nobody from answering in time."""


class Attendant:
    """Attends to directives for one desk."""

    def __init__(
        self,
        there: PresentOrganisation,
        *,
        settling_seconds: float,
        new_id: Callable[[], str],
    ) -> None:
        """Begin; the first call looks at everything that is unfinished.

        Args:
            there: Today's organisation.
            settling_seconds: See `timing.DeskTiming`.
            new_id: A random 128-bit id in hex.
        """
        self._there = there
        self._settling_seconds = settling_seconds
        self._new_id = new_id
        self._left: list[int] | None = None
        self._joined: set[int] = set()
        self._roster_version = -1
        self._failed: dict[int, float] = {}
        self._heard_since: float | None = None
        self._unheard_from: float | None = None

    def hear(self, at: float) -> None:
        """Stores can be heard from now on."""
        self._heard_since, self._unheard_from = self._heard_since_at(at), None

    def hear_nothing(self, at: float) -> None:
        """Stores cannot be heard any more."""
        if self._unheard_from is None:
            self._unheard_from = at

    def _heard_since_at(self, at: float) -> float:
        """Since when stores can be heard; the present where they cannot."""
        if self._heard_since is None:
            return at
        silent = self._unheard_from is not None and at - self._unheard_from > _SILENCE_SECONDS
        return at if silent else self._heard_since

    def begin_again(self) -> None:
        """Look at everything again: the batch in which that was done is undone."""
        self._left = None
        self._roster_version = -1

    def attend(self, batch: Batch) -> float | None:
        """Do what is due; once in each batch. Opens no transaction where nothing is.

        Returns:
            When there is something to do again, in Unix time, if nothing happens before.
        """
        at = batch.at
        for directive_no in directives.expiring(batch.reading, at, most=_AT_ONCE):
            self._alone(batch, directive_no, self._expire)
        version = organisation.roster_version(batch.reading)
        if version != self._roster_version:
            self._roster_version = version
            self._left = None
            self._joined = set()
        if self._left is None:
            self._left = due.unfinished(batch.reading)
        # In the order of their times, also after an outage: one may withdraw the next.
        come = dict.fromkeys([*due.to_look_at(batch.reading, at), *self._left[:_AT_ONCE]])
        self._left = self._left[_AT_ONCE:]
        touched = batch.touched
        for directive_no in come:
            self._alone(batch, directive_no, self._look)
        for directive_no in sorted(touched - come.keys()):
            self._alone(batch, directive_no, self._look_briefly)
        for directive_no in due.taking_in(batch.reading, (come.keys() | touched) - self._joined):
            self._joined.add(directive_no)
            self._alone(batch, directive_no, self._take_joiners_in)
        return self._next_at(batch)

    def _next_at(self, batch: Batch) -> float | None:
        if self._left:
            return batch.at
        found = [directives.next_expiry(batch.reading), due.next_look(batch.reading)]
        times = [one for one in found if one is not None]
        if not times:
            return None
        # What failed is due all the time.
        return max(min(times), batch.at + _TICK_SECONDS) if self._failed else min(times)

    def _alone(self, batch: Batch, directive_no: int, do: Callable[[Batch, int], None]) -> None:
        """Do something with one directive; what fails is undone, reported and left for a while."""
        if self._failed.get(directive_no, batch.at) > batch.at:
            return
        try:
            with undone_alone(batch.connection):
                do(batch, directive_no)
        except Exception as error:
            if not is_defect(error):
                raise
            self._failed[directive_no] = batch.at + AGAIN_SECONDS
            waves.look_again(batch.connection, directive_no, batch.at + AGAIN_SECONDS)
            record_standing_incident(
                batch.connection,
                DEFECT,
                at=batch.at,
                device_no=None,
                source=f"directive {directives.id_of(batch.connection, directive_no)}",
                reason=told(error),
                times=1,
            )
        else:
            self._failed.pop(directive_no, None)

    def _expire(self, batch: Batch, directive_no: int) -> None:
        directives.expire(
            batch.connection,
            directive_no,
            organisation=self._there,
            at=batch.at,
            new_id=self._new_id,
        )

    def _look(self, batch: Batch, directive_no: int, *, whole: bool = True) -> None:
        due.look(
            batch.connection,
            directive_no,
            at=batch.at,
            new_id=self._new_id,
            organisation=self._there,
            settled_at=self._heard_since_at(batch.at) + self._settling_seconds,
            whole=whole,
        )

    def _look_briefly(self, batch: Batch, directive_no: int) -> None:
        self._look(batch, directive_no, whole=False)

    def _take_joiners_in(self, batch: Batch, directive_no: int) -> None:
        """Send what takes in stores that join to those that did."""
        try:
            joiners = audiences.joiners(batch.reading, directive_no, self._there())
        except AudienceError as error:
            record_standing_incident(
                batch.connection,
                NO_JOINERS,
                at=batch.at,
                device_no=None,
                directive=directive_no,
                reason=str(error),
            )
            return
        if joiners:
            waves.join(
                batch.connection,
                directive_no,
                joiners,
                at=batch.at,
                new_id=self._new_id,
                organisation=self._there(),
            )
