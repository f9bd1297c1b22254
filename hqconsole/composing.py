"""A directive as an operator asks for it: from options to what the ledger writes down.

Owns what follows from what: what its kind settles and what was said instead, when it goes out, in
which waves, and whether somebody else has to look at it first. Pure but for the time, which is
given. Must not know click or SQL.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import msgspec

from buswire.messages import Reminder
from buswire.states import Needs
from hqconsole.approval import ApprovalPolicy, needs_approval
from hqconsole.errors import HqError
from hqconsole.kinds import Kind
from hqconsole.ledger.directives import Draft, Plan, Wave
from hqconsole.moments import EXAMPLES, Moment, parse_moment
from hqconsole.organisation import Mailbox
from hqconsole.reminders import Escalation, parse_escalation, parse_rules
from hqconsole.rollout import Gate, by_zone, parts
from hqconsole.selector import Selector, selector_to_json

NOTHING = "none"
"""Said for a rule: not even what the kind settles."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the operator said; None and empty stand for nothing said.

    Attributes:
        title: One line.
        body: The text.
        kind: What is settled for it, unless said otherwise.
        due: When it is due, as a person writes it.
        forced_from: From when devices insist on it.
        expires: When it ends by itself, on head office's clock.
        remind: Rules; `none` for no rule.
        escalate: Rules; `none` for no rule.
        starts: When it goes out.
        local: Whether that is on each store's own clock.
        pilot: Stores that come first.
        percents: Up to which shares of the others the next waves reach.
        gate: What a wave must show; None to go by the clock of `rate_per_hour` alone.
        rate_per_hour: How many mailboxes an hour.
        continuous: Whether stores that join later are taken in.
        supersedes: Id of the directive that it stands in for.
        undoes: Id of the withdrawn directive that it asks to be undone.
    """

    title: str
    body: str = ""
    kind: Kind = field(default_factory=lambda: Kind("notice"))
    needs: Needs | None = None
    priority: str | None = None
    due: str | None = None
    forced_from: str | None = None
    expires: str | None = None
    remind: Sequence[str] = ()
    escalate: Sequence[str] = ()
    starts: str | None = None
    local: bool = False
    pilot: Sequence[str] = ()
    percents: Sequence[float] = ()
    gate: Gate | None = None
    rate_per_hour: float | None = None
    continuous: bool = False
    supersedes: str = ""
    undoes: str = ""


@dataclass(frozen=True, slots=True)
class Composed:
    """What follows from it, but for the audience."""

    draft: Draft
    plan: Plan
    starts: Moment | None
    pilot: Sequence[str]
    percents: Sequence[float]

    @property
    def goes_at_once(self) -> bool:
        """Whether all of it goes out in one, as soon as nothing holds it back."""
        plain = not (self.pilot or self.percents or self.plan.rate_per_hour)
        return plain and self.starts is None


def compose(
    wish: Wish, selector: Selector, *, author: str, issued_by: str, now: datetime, zone: str
) -> Composed:
    """Work out what a wish means.

    Args:
        wish: What was said.
        selector: Who it is for, whole.
        author: The operator.
        issued_by: Whose name the stores see.
        now: The present time in head office's time zone.
        zone: That zone's name.

    Raises:
        HqError: Something cannot be meant; the message says what and how to say it.
    """
    kind = wish.kind
    starts = None if wish.starts is None else parse_moment(wish.starts, now=now)
    if starts is not None and starts.is_local and not wish.local:
        starts = Moment(unix_seconds=int(to_come(starts, zone, now)))
    if starts is not None and not starts.is_local and wish.local:
        raise HqError(
            f"{wish.starts} is one instant for all stores", hint=f"without --local, or: {EXAMPLES}"
        )
    cut = bool(wish.pilot or wish.percents)
    if starts is not None and starts.is_local and cut:
        raise HqError(
            "waves and a start on each store's own clock contradict each other",
            hint="leave --local out, or --pilot and --waves",
        )
    if wish.gate is not None and not cut:
        raise HqError(
            "a gate needs waves to stand between", hint="add --pilot STORE or --waves 10,50"
        )
    goes_at = now.timestamp() if starts is None else starts.at(zone)
    draft = Draft(
        title=wish.title,
        body=wish.body,
        kind=kind.name,
        needs=wish.needs or kind.needs,
        priority=wish.priority or kind.priority,
        due=None if wish.due is None else str(parse_moment(wish.due, now=now)),
        expires_at=_expires_at(wish, goes_at, zone, now),
        issued_by=issued_by,
        forced_from=(
            None if wish.forced_from is None else str(parse_moment(wish.forced_from, now=now))
        ),
        reasons=kind.reasons,
        remind=_reminders(wish),
        supersedes=wish.supersedes,
        undoes=wish.undoes,
    )
    plan = Plan(
        author=author,
        selector=selector_to_json(selector),
        continuous=wish.continuous,
        starts=None if starts is None else str(starts),
        gate=(wish.gate or Gate()) if cut else None,
        rate_per_hour=wish.rate_per_hour,
        escalate=msgspec.json.encode(_escalations(wish, draft)).decode(),
    )
    return Composed(draft, plan, starts, wish.pilot, wish.percents)


def waves(
    composed: Composed,
    mailboxes: Collection[Mailbox],
    *,
    zones: Callable[[], Mapping[str, str]],
    zone: str,
) -> list[Wave]:
    """Cut its audience into waves.

    Args:
        composed: What is to go out.
        mailboxes: Its audience.
        zones: Gives the time zone of each store; asked only where it matters.
        zone: Head office's own.

    Raises:
        HqError: They cannot be cut like that.
    """
    if composed.starts is not None and composed.starts.is_local:
        found = [
            Wave(label, there, not_before)
            for label, not_before, there in by_zone(mailboxes, zones(), composed.starts.at)
        ]
        expires_at, last = composed.draft.expires_at, found[-1]
        if expires_at is not None and (last.not_before or 0) >= expires_at:
            raise HqError(
                f"it would expire before it goes out in {last.label}",
                hint="write a later --expires",
            )
        return found
    first_at = None if composed.starts is None else composed.starts.at(zone)
    cut = [("all", set(mailboxes))]
    if composed.pilot or composed.percents:
        cut = parts(mailboxes, composed.pilot, composed.percents)
    return [
        Wave(label, there, first_at if no == 0 else None) for no, (label, there) in enumerate(cut)
    ]


def why_approval(policy: ApprovalPolicy, kind: Kind, mailboxes: int) -> str:
    """Why somebody else has to look at it first; '' when nobody has."""
    return needs_approval(policy, kind, mailboxes) or ""


def _said(
    said: Sequence[str], parse: Callable[[str], Sequence[T]], settled: Sequence[T]
) -> tuple[T, ...]:
    if not said:
        return tuple(settled)
    if list(said) == [NOTHING]:
        return ()
    return tuple(one for text in said for one in parse(text))


def _reminders(wish: Wish) -> tuple[Reminder, ...]:
    if wish.remind and list(wish.remind) != [NOTHING] and wish.due is None:
        raise HqError("a reminder counts from the due time", hint="say --due as well")
    return () if wish.due is None else _said(wish.remind, parse_rules, wish.kind.remind)


def _escalations(wish: Wish, draft: Draft) -> tuple[Escalation, ...]:
    if wish.escalate and list(wish.escalate) != [NOTHING] and draft.due is None:
        raise HqError("lateness counts from the due time", hint="say --due as well")
    if draft.due is None:
        return ()
    return _said(wish.escalate, lambda text: [parse_escalation(text)], wish.kind.escalate)


def _expires_at(wish: Wish, goes_at: float, zone: str, now: datetime) -> float | None:
    if wish.expires is not None:
        at = to_come(parse_moment(wish.expires, now=now), zone, now)
        if at <= goes_at:
            raise HqError("it would expire before it goes out", hint="write a later --expires")
        return at
    after = wish.kind.expires_after_seconds
    return None if after is None else goes_at + after


def to_come(moment: Moment, zone: str, now: datetime) -> float:
    """When a moment comes at head office, in Unix seconds.

    Raises:
        HqError: It is past there.
    """
    at = moment.at(zone)
    if at <= now.timestamp():
        raise HqError(f"{moment} is past in {zone}", hint=f"write a time to come: {EXAMPLES}")
    return at
