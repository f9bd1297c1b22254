"""A simulated chain in which commands may end without an answer, and what is made of those.

Owns what of such a command is taken as said: what it had not yet reported may be there or not, and
if it is, it must stay. When a command ends so, and why, is the worlds' own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from buswire.states import State
from buswire.topics import Identity
from tests.disk.databases import FileDisks
from tests.simulation.disks import Killed
from tests.simulation.journal import Entry, Statement
from tests.simulation.machine import Machine
from tests.simulation.scenarios import Scenario
from tests.simulation.timeline import Timeline
from tests.simulation.world import World

if TYPE_CHECKING:
    from hqconsole.audience import Selector
    from hqconsole.ledger.directives import Draft, Issued

_SAID_BY_PEOPLE = {"receipt", "reply", "alert", "report"}

When = Callable[[float], bool]
"""Whether a command of this time, by the clock of its machine, ended without an answer."""


class Refused(BaseException):
    """A command said that it could not be done; who gave it does nothing more."""


class _Timeline(Timeline):
    """Who dies, or is refused, does nothing more of what they had in mind."""

    def run_until(self, when: float) -> None:
        while True:
            try:
                super().run_until(when)
            except (Killed, Refused):
                continue
            return


class UnansweredWorld(World):
    """A world whose databases are files, and whose commands may be killed or refused."""

    def __init__(self, scenario: Scenario, seed: int, disks: FileDisks) -> None:
        self.files = disks
        super().__init__(scenario, seed, disks)
        self.timeline.__class__ = _Timeline
        self._drafts: dict[str, Draft] = {}
        self._issue = self.hq.issue
        self.hq.issue = self._issue_noted  # type: ignore[method-assign]

    def _issue_noted(
        self, draft: Draft, selector: Selector
    ) -> tuple[Issued, frozenset[tuple[str, str]]]:
        self._drafts[draft.title] = draft
        return self._issue(draft, selector)

    def adopt_entries(self, machine: Machine, unanswered: When) -> None:
        """Take as said what commands on a machine left."""
        for id_, kind, data, said_at in machine.disk.database.connection.execute(
            "SELECT id, kind, data, said_at FROM act UNION ALL SELECT id, kind, data, said_at"
            " FROM bulk"
        ).fetchall():
            key = machine.identity, id_.hex()
            known = key in self.journal.entries or kind not in _SAID_BY_PEOPLE
            if not known and unanswered(said_at):
                self._adopt_entry(key, kind, data)

    def _adopt_entry(self, key: tuple[Identity, str], kind: str, data: bytes) -> None:
        said = json.loads(data)
        if said.get("state") == State.DELIVERED:
            return  # the agent's own word
        self.counts["unanswered and done"] += 1
        entry = Entry(*key, kind, self.timeline.now, data)
        self.journal.entries[key] = entry
        if kind == "receipt":
            mailbox = key[0].store, said["role"]
            self.journal.statements.append(
                Statement(entry, said["directive"], mailbox, State(said["state"]))
            )

    def adopt_directives(self, unanswered: When) -> None:
        """Take as issued, and as withdrawn, what commands at head office left."""
        connection, journal = self.hq.ledger.connection, self.journal
        for directive, title, at in connection.execute(
            "SELECT id, title, issued_at FROM directive"
        ).fetchall():
            if directive not in journal.directives and unanswered(at):
                self.counts["unanswered and done"] += 1
                audience = connection.execute(
                    "SELECT store.id, role FROM delivery"
                    " JOIN directive ON directive.no = directive_no"
                    " JOIN mailbox ON mailbox.no = mailbox_no JOIN store ON store.no = store_no"
                    " WHERE directive.id = ?",
                    (directive,),
                )
                journal.directive(directive, self._drafts[title], frozenset(map(tuple, audience)))
        for directive, at in connection.execute(
            "SELECT directive_id, cancelled_at FROM cancel"
        ).fetchall():
            issue = journal.directives.get(directive)
            if issue is not None and issue.cancelled_at is None and unanswered(at):
                self.counts["unanswered and done"] += 1
                journal.cancelled(directive)
