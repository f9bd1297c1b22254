"""`publish`: issue a directive to exactly the right stores, now or later, at once or in waves."""

import sqlite3
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
import msgspec

from buskit.cli import home_option, json_option
from buskit.database import Database
from buskit.doorbell import ring
from buskit.terminal import Column, Sheet, narrate
from buswire.messages import DIRECTIVE_BYTES_LIMIT
from buswire.names import ANY_ROLE
from buswire.states import Needs
from hqconsole import kinds
from hqconsole.audience import Choice, choose, left_out
from hqconsole.commands.audience_options import audience_options
from hqconsole.commands.common import (
    acting,
    by_option,
    narrate_hub,
    operator,
    said_by,
    write_audit,
)
from hqconsole.commands.going_out import asked_gate, out_words, per_hour
from hqconsole.composing import Composed, Wish, compose, waves, why_approval
from hqconsole.cover import cover, digest
from hqconsole.errors import HqError
from hqconsole.home import hub_state, new_id, read_hq_settings
from hqconsole.ledger import audiences, directives, lifecycles, steps, store_views, withdrawing
from hqconsole.ledger import waves as going_out
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.organisation import PresentOrganisation, timezones
from hqconsole.ledger.views import SHORT_ID, directive_id
from hqconsole.lifecycle import DirectiveState
from hqconsole.moments import Moment
from hqconsole.organisation import Mailbox, Organisation
from hqconsole.reminders import Escalation, escalation_words
from hqconsole.reminders import words as rule_words
from hqconsole.render import due_words
from hqconsole.selector import Selector
from hqconsole.store_times import StoreTimes
from hqconsole.zones import time_zone

_NAMED = 5
_WAVES_NAMED = 8
_CHANNELS_NAMED = 3
_MANY = 20_000
_FIRST_ON_EARTH = "Pacific/Kiritimati"


@click.command()
@click.argument("title")
@click.option("--body", metavar="TEXT", help="The text.")
@click.option("-f", "--file", "body_file", metavar="FILE", help="The text from a file; - is stdin.")
@audience_options
@click.option("--kind", default="notice", show_default=True, help="hq kinds lists them.")
@click.option(
    "--needs",
    type=click.Choice([needs.value for needs in Needs]),
    help="What is asked of them; if not said, what the kind asks.",
)
@click.option("--due", metavar="WHEN", help="On each store's own clock, such as 'Friday 18:00'.")
@click.option(
    "--forced-from", metavar="WHEN", help="From when devices insist on it; before, it may wait."
)
@click.option("--expires", metavar="WHEN", help="When it closes by itself; on head office's clock.")
@click.option("--priority", type=click.Choice(kinds.PRIORITIES), help="Else that of the kind.")
@click.option(
    "--remind",
    multiple=True,
    metavar="RULE",
    help="'2h before due', 'every 4h after due, 6 times, 08:00-20:00'; none for not at all.",
)
@click.option(
    "--escalate", multiple=True, metavar="RULE", help="'24h late: region manager'; or none."
)
@click.option("--at", "starts", metavar="WHEN", help="When it goes out; on head office's clock.")
@click.option("--local", is_flag=True, help="With --at: on each store's own clock.")
@click.option("--pilot", multiple=True, metavar="STORE", help="Goes first, the others by the gate.")
@click.option("--waves", "percents", metavar="10,50", help="Then up to these shares of the rest.")
@click.option("--done-percent", type=float, help="The next wave goes when so many are done. [100]")
@click.option("--cannot-percent", type=float, help="It pauses when more cannot. [0]")
@click.option("--within", metavar="SPAN", help="It pauses when that is not so after 24h, 7d, ...")
@click.option("--rate", metavar="N/h", help="So many mailboxes an hour at most: 500/h, 20/min.")
@click.option("--continuous", is_flag=True, help="Stores that join later get it, too.")
@click.option("--supersedes", metavar="ID", help="Withdraw that one, for which this stands in.")
@click.option("--undo", metavar="ID", help="To those who had done what was withdrawn.")
@click.option("--draft", "as_draft", is_flag=True, help="Only write it down: hq submit lets it go.")
@click.option("--dry-run", is_flag=True, help="Only show whom it would reach, and how.")
@by_option
@home_option("hq")
@json_option
def publish(
    *,
    selector: Selector,
    title: str,
    body: str | None,
    body_file: str | None,
    kind: str,
    needs: str | None,
    due: str | None,
    forced_from: str | None,
    expires: str | None,
    priority: str | None,
    remind: Sequence[str],
    escalate: Sequence[str],
    starts: str | None,
    local: bool,
    pilot: Sequence[str],
    percents: str | None,
    done_percent: float | None,
    cannot_percent: float | None,
    within: str | None,
    rate: str | None,
    continuous: bool,
    supersedes: str | None,
    undo: str | None,
    as_draft: bool,
    dry_run: bool,
    by: str,
    home: Path,
    as_json: bool,
) -> None:
    """Issue a directive. Places add up, tags and --where restrict, roles name who in each store.

    Durable when the command returns; works with the hub down. Without an audience, what supersedes
    another one goes to whom that went, and an --undo to those who had done it.

    \b
    Examples:
      hq publish 'Golden Week' -f golden.md --region east --role manager \\
          --kind task --due 'Friday 18:00'
      hq publish 'Pull lot 2231' --all --kind recall
      hq publish 'Open late' --store S017 --body 'Until 22:00.' --dry-run
      hq publish 'New prices' --all --at 'Monday 06:00' --local
      hq publish 'New till software' --all --kind task --pilot S001 --pilot S017 \\
          --waves 10,50 --done-percent 90 --cannot-percent 5 --within 24h
      hq publish 'Big stores only' --where 'format=hypermarket and area_sqm>800' --kind task
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    settings = read_hq_settings(home)
    now_at = time.time()
    zone = time_zone(settings.timezone)
    what = kinds.of(settings, checked(kind, "the kind", 40))
    if not dry_run:
        acting(home, "publish", kind=what.name)
    wish = Wish(
        title=checked(title, "the title", 200),
        body=read_body(body, body_file),
        kind=what,
        needs=Needs(needs) if needs else None,
        priority=priority,
        due=due,
        forced_from=forced_from,
        expires=expires,
        remind=remind,
        escalate=escalate,
        starts=starts,
        local=local,
        pilot=pilot,
        percents=_shares(percents),
        gate=asked_gate(done_percent, cannot_percent, within),
        rate_per_hour=None if rate is None else per_hour(rate),
        continuous=continuous,
    )
    with open_ledger(home) as ledger:
        there_now = PresentOrganisation(ledger.connection)
        publishing = _Publishing(ledger, there_now, wish, selector, supersedes, undo)
        with ledger.read() as connection:
            choice, composed = publishing.prepare(
                connection,
                by=said_by(by, home),
                now=datetime.fromtimestamp(now_at, ZoneInfo(zone)),
                zone=zone,
            )
            there = publishing.there()
            unserved = store_views.unserved(connection, choice.mailboxes)
            cut = publishing.cut(connection, composed, choice, zone)
            replaced = publishing.replaced(connection)
            late = _late(connection, composed, choice, now_at)
        why = why_approval(settings.approval, what, len(choice.mailboxes))
        found = _facts(choice.mailboxes)
        if not dry_run:
            if replaced is not None:  # that one is withdrawn beside it
                acting(home, "cancel", kind=replaced[0], regions=replaced[1])
            acting(home, "publish", kind=what.name, regions=_regions(choice.mailboxes, there))
            if len(choice.mailboxes) >= _MANY and sys.stderr.isatty():
                narrate(f"writing {len(choice.mailboxes):,} deliveries ...")
            found |= publishing.carry_out(
                composed, choice, cut, at=now_at, why=why, as_draft=as_draft
            )
            ring(home)
    if "channels" not in found:  # nothing went out yet
        found |= _reach(choice.mailboxes, there)
    draft = composed.draft
    found |= {
        "needs": draft.needs.value,
        "due": draft.due,
        "expires_at": draft.expires_at,
        "forced_from": draft.forced_from,
        "starts": composed.plan.starts,
        "waves": []
        if composed.goes_at_once
        else [
            {"label": one.label, "mailboxes": len(one.mailboxes), "not_before": one.not_before}
            for one in cut
        ],
        "approval": why,
        "unserved": len(unserved),
        "unserved_mailboxes": [str(mailbox) for mailbox in unserved],
        "dry_run": dry_run,
    }
    for store_id in left_out(selector, choice.mailboxes):
        narrate(f"! store {store_id} was named and is left out: it lacks that role or tag")
    if late:
        narrate(f"! it is past due already in {late:,} of the {found['stores']:,} stores")
    for note in choice.notes:
        narrate(f"! {note}")
    if as_json:
        found["hub_running"] = hub_state(home).running
        Sheet().json(found)
        return
    _show(found, composed)
    if dry_run:
        narrate("nothing was issued; the same without --dry-run issues it")
        return
    narrate(out_words(found["state"], found["short_id"], why))
    narrate_hub(home)
    narrate(f"follow it with: hq status {found['short_id']} --watch")


@dataclass(frozen=True, slots=True)
class _Publishing:
    """One call of the command, with the ledger open."""

    ledger: Database
    there: PresentOrganisation
    wish: Wish
    selector: Selector
    supersedes: str | None
    undo: str | None

    def prepare(
        self, connection: sqlite3.Connection, *, by: str, now: datetime, zone: str
    ) -> tuple[Choice, Composed]:
        """Work out whom it is for and what goes out."""
        wish, there = self.wish, self.there()
        former = undone = None
        if self.supersedes is not None:
            former = directives.find(connection, self.supersedes)
            steps.require(
                connection,
                former,
                frozenset(DirectiveState) - withdrawing.WITHDRAWN,
                "nothing can stand in for what is withdrawn",
            )
            wish = replace(wish, supersedes=directive_id(connection, former))
        if self.undo is not None:
            undone = directives.find(connection, self.undo)
            withdrawing.require_withdrawn(connection, undone)
            wish = replace(wish, undoes=directive_id(connection, undone))
        selector = audiences.whole(connection, self.selector)
        if selector == Selector() and (former or undone):
            found = (
                withdrawing.done_before(connection, undone)
                if undone is not None
                else audiences.members_of(connection, former or 0)
            )
            choice = Choice({one for one in found if there.has(one)}, ())
            if not choice.mailboxes:
                raise HqError("nobody of them is there", hint="say whom it is for")
        else:
            choice = choose(selector, there)
            if former is not None:
                choice = _beside(choice, set(audiences.members_of(connection, former)))
        composed = compose(wish, selector, author=operator(), issued_by=by, now=now, zone=zone)
        return choice, composed

    def replaced(self, connection: sqlite3.Connection) -> tuple[str, set[str]] | None:
        """Of which kind that is, and in which regions, for which it stands in."""
        if self.supersedes is None:
            return None
        former = directives.find(connection, self.supersedes)
        return lifecycles.author(connection, former).kind, lifecycles.regions(connection, former)

    def cut(
        self, connection: sqlite3.Connection, composed: Composed, choice: Choice, zone: str
    ) -> list[directives.Wave]:
        """Its waves; one, where it goes out in one."""
        return waves(composed, choice.mailboxes, zones=lambda: timezones(connection), zone=zone)

    def carry_out(
        self,
        composed: Composed,
        choice: Choice,
        cut: Sequence[directives.Wave],
        *,
        at: float,
        why: str,
        as_draft: bool,
    ) -> dict[str, Any]:
        """Write it down, and let it go if nothing holds it back."""
        with self.ledger.write() as connection:
            there = self.there()
            if composed.goes_at_once and not why and not as_draft:
                issued = directives.issue(
                    connection,
                    composed.draft,
                    choice.mailboxes,
                    there,
                    at=at,
                    new_id=new_id,
                    plan=composed.plan,
                )
                no, state, fingerprint = issued.no, DirectiveState.ISSUED, issued.digest
                uses = [str(channel) for channel in issued.channels]
            else:
                written = directives.write(
                    connection, composed.draft, composed.plan, cut, at=at, new_id=new_id
                )
                no, state, fingerprint = written.no, DirectiveState.DRAFT, written.digest
                uses = []
                if why and not as_draft:
                    lifecycles.submit(connection, no, by=operator(), why=why, at=at)
                    state = DirectiveState.WAITING
                elif not as_draft:
                    state = going_out.begin(
                        connection,
                        no,
                        by=operator(),
                        at=at,
                        new_id=new_id,
                        organisation=lambda: there,
                    )
            whole_id = directive_id(connection, no)
            write_audit(
                connection,
                "publish",
                directive=whole_id,
                title=composed.draft.title,
                mailboxes=len(choice.mailboxes),
                digest=fingerprint,
                by=composed.draft.issued_by,
                state=state.value,
            )
        found: dict[str, Any] = {
            "id": whole_id,
            "short_id": whole_id[:SHORT_ID],
            "state": state.value,
        }
        return found | ({"channels": uses, "digest": fingerprint} if uses else {})


def _beside(choice: Choice, former: set[Mailbox]) -> Choice:
    """The same, with a word where it is not for those who have what it stands in for."""
    notes = list(choice.notes)
    more, fewer = len(choice.mailboxes - former), len(former - choice.mailboxes)
    if more:
        notes.append(
            f"{more:,} of these mailboxes did not have the one that it replaces;"
            " without an audience it goes to exactly those who had that"
        )
    if fewer:
        notes.append(f"from {fewer:,} mailboxes the other one is taken, and they do not get this")
    return choice._replace(notes=tuple(notes))


def _late(connection: sqlite3.Connection, composed: Composed, choice: Choice, now_at: float) -> int:
    """In how many stores it is past due before it goes out: where the day began long ago."""
    due = StoreTimes(composed.draft.due)
    if composed.starts is not None or not due.is_past(_FIRST_ON_EARTH, now_at):
        return 0
    zones = timezones(connection)
    stores = {mailbox.store for mailbox in choice.mailboxes}
    return sum(due.is_past(zones[store], now_at) for store in stores)


def _regions(mailboxes: set[Mailbox], there: Organisation) -> set[str]:
    return {there.stores[mailbox.store].region for mailbox in mailboxes}


def _shares(text: str | None) -> list[float]:
    if text is None:
        return []
    try:
        return [float(part.strip().removesuffix("%")) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"--waves {text} are no shares; write 10,50") from None


def _facts(mailboxes: set[Mailbox]) -> dict[str, Any]:
    return {
        "mailboxes": len(mailboxes),
        "stores": len({mailbox.store for mailbox in mailboxes}),
        "roles": sorted({mailbox.role for mailbox in mailboxes}),
    }


def _reach(mailboxes: set[Mailbox], there: Organisation) -> dict[str, Any]:
    return {
        "channels": [str(use.channel) for use in cover(mailboxes, there)],
        "digest": digest(mailboxes),
    }


def _show(found: dict[str, Any], composed: Composed) -> None:
    roles = [role for role in found["roles"] if role != ANY_ROLE]
    words: dict[str, str] = {}
    if "short_id" in found:
        words["id"] = found["short_id"]
    words["audience"] = (
        f"{found['mailboxes']:,} mailboxes in {found['stores']:,} stores"
        f" ({', '.join(roles) or 'the store as a whole'})"
    )
    if found["starts"]:
        words["goes out"] = _moment_words(found["starts"])
    cut = found["waves"]
    if len(cut) > 1:
        words["waves"] = f"{len(cut)}: " + ", ".join(
            f"{one['label']} ({one['mailboxes']:,})" for one in cut[:_WAVES_NAMED]
        )
        words["waves"] += f" and {len(cut) - _WAVES_NAMED} more" * (len(cut) > _WAVES_NAMED)
    channels = found["channels"]
    more = len(channels) - _CHANNELS_NAMED
    words["channels"] = f"{len(channels)}: " + " ".join(channels[:_CHANNELS_NAMED])
    if more > 0:
        words["channels"] += f" and {more} more"
    words["needs"] = found["needs"]
    if found["due"]:
        words["due"] = _moment_words(found["due"])
    if found["forced_from"]:
        words["forced"] = f"from {_moment_words(found['forced_from'])}"
    if composed.draft.remind:
        words["reminds"] = "; ".join(map(rule_words, composed.draft.remind))
    told = msgspec.json.decode(composed.plan.escalate, type=tuple[Escalation, ...])
    if told:
        words["escalates"] = "; ".join(map(escalation_words, told))
    if found["approval"]:
        words["approval"] = found["approval"]
    if "unserved" in found:
        names = found["unserved_mailboxes"][:_NAMED]
        more = found["unserved"] - len(names)
        words["unserved"] = "0: a device serves each of them"
        if found["unserved"]:
            words["unserved"] = (
                f"{found['unserved']:,} mailboxes that no device was ever heard to serve: "
                + " ".join(names)
                + (f" and {more:,} more" if more else "")
            )
    Sheet().show_one(words, [Column(key, key) for key in words], as_json=False)


def _moment_words(text: str) -> str:
    local = Moment.from_text(text).is_local
    return due_words(text).removesuffix(" local") + " on each store's own clock" * local


def checked(text: str, what: str, most: int) -> str:
    """Text in one line, not empty and not too long.

    Raises:
        UsageError: It is.
    """
    text = " ".join(text.split())
    if not text:
        raise click.UsageError(f"{what} is empty")
    if len(text) > most:
        raise click.UsageError(f"{what} has {len(text)} characters, {most} are the most")
    return text


def read_body(text: str | None, file: str | None) -> str:
    """The text of a directive, from an option or a file.

    Raises:
        UsageError: Both were given.
        HqError: It is too long, or not UTF-8.
    """
    if text is not None and file is not None:
        raise click.UsageError("--body and --file contradict each other; leave one out")
    if file is None:
        return text or ""
    # One byte more than can ever fit tells that it does not, however long the file is.
    if file == "-":
        data = sys.stdin.buffer.read(DIRECTIVE_BYTES_LIMIT + 1)
    else:
        with Path(file).open("rb") as opened:
            data = opened.read(DIRECTIVE_BYTES_LIMIT + 1)
    if len(data) > DIRECTIVE_BYTES_LIMIT:
        raise HqError(
            f"the text is longer than the {DIRECTIVE_BYTES_LIMIT:,} bytes of a directive",
            hint="shorten it, or say where to find the rest",
        )
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise HqError(
            f"the text is not UTF-8 (byte {error.start})", hint="save it as UTF-8 and try again"
        ) from None
