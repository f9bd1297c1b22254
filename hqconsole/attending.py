"""What the hub does of itself with directives: starts, waves, completion, lateness, who joins.

Owns when the hub looks at which directive: when its time has come, when stores said something about
it, when the roster changed, and once at the beginning at all of them, since nobody knows what an
earlier hub still meant to do. What there is to do is `ledger.lifecycles`' business.
"""

from collections.abc import Callable

from hqconsole.audience import AudienceError
from hqconsole.batch import Batch
from hqconsole.ledger import audiences, lifecycles, organisation, waves
from hqconsole.ledger.organisation import PresentOrganisation
from hqconsole.ledger.troubles import record_standing_incident

NO_JOINERS = "nobody can join"
"""The kind of the incident that a continuous audience cannot be judged on today's roster."""
_AT_ONCE = 50


class Attendant:
    """Attends to directives for one desk."""

    def __init__(self, there: PresentOrganisation, *, new_id: Callable[[], str]) -> None:
        """Begin; the first call looks at everything that is unfinished."""
        self._there = there
        self._new_id = new_id
        self._left: list[int] | None = None
        self._roster_version = -1

    def attend(self, batch: Batch) -> None:
        """Do what is due; once in each batch. Opens no transaction where nothing is."""
        if self._left is None:
            self._left = lifecycles.unfinished(batch.reading)
        due = batch.touched | set(lifecycles.to_look_at(batch.reading, batch.at))
        due |= set(self._left[:_AT_ONCE])
        self._left = self._left[_AT_ONCE:]
        self._take_joiners_in(batch)
        for directive_no in sorted(due):
            lifecycles.look(
                batch.connection,
                directive_no,
                at=batch.at,
                new_id=self._new_id,
                organisation=self._there,
            )

    def next_at(self, batch: Batch) -> float | None:
        """When there is something to do again, in Unix time, if nothing happens before."""
        return batch.at if self._left else lifecycles.next_look(batch.reading)

    def _take_joiners_in(self, batch: Batch) -> None:
        """Send what takes in stores that join to those that did since the roster changed."""
        version = organisation.roster_version(batch.reading)
        if version == self._roster_version:
            return
        self._roster_version = version
        for directive_no in lifecycles.continuous(batch.reading):
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
                continue
            if joiners:
                waves.join(
                    batch.connection,
                    directive_no,
                    joiners,
                    at=batch.at,
                    new_id=self._new_id,
                    organisation=self._there(),
                )
