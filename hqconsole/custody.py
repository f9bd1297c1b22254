"""The custody chain of one delivery: every link from who wrote it to what the store said. Pure.

Owns what the links are, in which order, and when one counts as being there. Must not know the
ledger, which gathers the `Facts`, nor what is to be done about a missing link (`custody_advice`).

Rules:
- A link is there when something proves it. What comes later proves what must have come before: who
  said *done* has read it, and what a device saved was sent.
- What is not asked for (approval where none was wanted, *done* where reading is enough) is no link,
  unless it happened.
- Once head office has closed a delivery, nothing that the store has not said is missing any more.
- Times are head office's; where a device said when, its clock's time stands beside, with how wrong
  it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from buskit.terminal import clock
from buswire.states import CLOSED_BY_HQ, STORE_RANK, Needs, State
from hqconsole.custody_facts import Delivery, DeviceFact, Facts, Statement, Step
from hqconsole.lifecycle import UNSENT, Action, DirectiveState, words

_NOT_WORTH_SAYING_SECONDS = 60
"""Clocks that are wrong by less are called right."""
_REMIND = "remind"
"""What the history calls a reminder by hand; it moves nothing."""


@dataclass(frozen=True, slots=True)
class Link:
    """One link of the chain.

    Attributes:
        name: `written`, `approved`, `audience`, `wave`, `logged`, `sealed`, `sent`, `device`,
            `saved`, `read`, `started`, `answered`, `closed`, `confirmed`; also `reminded`, `reply`
            and `no effect`, which hold nothing up.
        there: Whether it is; the first that is not is what the delivery waits for.
        words: In a sentence.
        at: When, by head office's clock.
        by: Who.
        device: On which device.
        said_at: When, by that device's clock.
        offset_seconds: How far head office's clock was ahead of it.
    """

    name: str
    there: bool
    words: str
    at: float | None = None
    by: str = ""
    device: str = ""
    said_at: float | None = None
    offset_seconds: float | None = None


def links(facts: Facts) -> list[Link]:
    """The chain up to the first link that is missing, and what happened beyond it."""
    chain = [*_at_head_office(facts)]
    if facts.delivery is not None:
        chain += _on_the_way(facts)
        chain += _in_the_store(facts)
        chain += _closing(facts, facts.delivery)
        chain += _beside(facts)
    found: list[Link] = []
    missing = False
    for link in chain:
        if link.there or not missing:
            found.append(link)
        missing = missing or not link.there
    return found


def missing(chain: Sequence[Link]) -> Link | None:
    """The first link that is missing."""
    return next((link for link in chain if not link.there), None)


def _at_head_office(facts: Facts) -> list[Link]:
    chain = [_written(facts)]
    if approval := _approved(facts):
        chain.append(approval)
    chain.append(_audience(facts))
    if wave := _wave(facts):
        chain.append(wave)
    return chain


def _written(facts: Facts) -> Link:
    if facts.adopted_at is not None:
        text = "head office had forgotten it; it came back from a store that kept it"
        return Link("written", True, text, at=facts.issued_at, by=facts.issued_by)
    at = facts.issued_at if facts.written_at is None else facts.written_at
    return Link("written", True, "written", at=at, by=facts.author or facts.issued_by)


def _approved(facts: Facts) -> Link | None:
    submitted = [n for n, step in enumerate(facts.steps) if step.action == Action.SUBMIT]
    if not submitted:
        if facts.state is DirectiveState.DRAFT:
            return Link("approved", False, "it is a draft: nobody has been asked for anything yet")
        return None
    asked, after = facts.steps[submitted[-1]], facts.steps[submitted[-1] + 1 :]
    who = f"{asked.by or 'head office'} asked for approval on {clock(asked.at)}"
    who += f" ({asked.note})" if asked.note else ""
    if facts.state is DirectiveState.DRAFT:
        return Link("approved", False, "it was taken back to be worked on", at=asked.at)
    if facts.state is DirectiveState.WAITING:
        return Link("approved", False, f"{who}; nobody has said yes or no")
    if not after:
        return Link("approved", True, who, at=asked.at)
    answer = after[0]
    note = f": {answer.note}" if answer.note else ""
    if answer.action == Action.DENY:
        return Link("approved", False, f"{who}; denied{note}", at=answer.at, by=answer.by)
    if answer.action == Action.CANCEL:
        return Link("approved", False, f"{who}; it was withdrawn before", at=answer.at)
    return Link("approved", True, f"approved{note}", at=answer.at, by=answer.by)


def _audience(facts: Facts) -> Link:
    asked = f" of {facts.asked}" if facts.asked else ""
    if facts.delivery is not None and facts.delivery.joined_at is not None:
        text = f"taken in later: the directive goes on taking in whoever becomes part{asked}"
        return Link("audience", True, text, at=facts.delivery.joined_at)
    if facts.delivery is None and not facts.planned:
        return Link("audience", False, facts.why_not or "it is not in the audience")
    where = f"{facts.store} is in region {facts.region}"
    text = f"in the frozen audience{asked}; {where}"
    if facts.store_closed_at is not None:
        text += f"; it closed on {clock(facts.store_closed_at)}"
    return Link("audience", True, text)


def _wave(facts: Facts) -> Link | None:
    wave = facts.wave
    name = (
        "" if wave is None or wave.of < 2 else f" with wave {wave.no} of {wave.of} ({wave.label})"
    )
    if not facts.planned:
        if not name or wave is None:
            return None
        return Link("wave", True, f"went out{name}", at=wave.sent_at or wave.began_at)
    if facts.state in UNSENT and facts.state is not DirectiveState.SCHEDULED:
        text = f"it is {words(facts.state)}: it goes out{name} when that is settled"
    elif facts.state is DirectiveState.PAUSED:
        text = f"it is paused and was to go out{name}"
        text += f": {facts.paused_why}" if facts.paused_why else ""
    elif facts.state not in UNSENT | {DirectiveState.ROLLING}:
        text = f"it was to go out{name}; before that it was {_ended(facts)}"
    elif wave is not None and wave.not_before is not None:
        text = f"it goes out{name} on {clock(wave.not_before)} of head office's time"
    elif wave is not None and wave.began_at is not None:
        text = f"it goes out{name}, which began on {clock(wave.began_at)}, a part at a time"
    else:
        text = f"it goes out{name} when the wave before it has shown what it is to show"
        if wave is not None and facts.state is DirectiveState.SCHEDULED:
            text += f"; the first goes out on {clock(wave.first_at)}"
    return Link("wave", False, text, at=None if wave is None else wave.not_before)


def _ended(facts: Facts) -> str:
    stopped = facts.state in {DirectiveState.ISSUED, DirectiveState.COMPLETED}
    return "stopped" if stopped else words(facts.state)


def _on_the_way(facts: Facts) -> list[Link]:
    heard = bool(facts.statements) or facts.reached is not State.PENDING
    chain = []
    if facts.logged is not None:
        logged = facts.logged
        text = f"record {logged.number:,} of channel {logged.channel}, {logged.id}"
        chain.append(Link("logged", True, text, at=logged.at))
    elif not heard and (facts.store_closed_at is not None or not facts.has_role):
        gone = "is closed" if facts.store_closed_at is not None else f"has no role {facts.role}"
        text = f"{facts.store} {gone}: no channel reaches it"
        chain.append(Link("logged", False, text))
    else:
        text = "on no channel of this store: a device gets it as open work when it says hello"
        chain.append(Link("logged", True, text))
    if facts.seal_key:
        chain.append(Link("sealed", True, f"by head office's key {facts.seal_key}"))
    elif not heard:
        text = "head office's hub has not sealed it: nothing leaves without its signature"
        chain.append(Link("sealed", False, text))
    if facts.logged is not None:
        sent = facts.logged.published or heard
        text = "the hub has published it" if sent else "the hub has not surely published it"
        chain.append(Link("sent", sent, text))
    chain.append(_device(facts, heard=heard))
    return chain


def _device(facts: Facts, *, heard: bool) -> Link:
    if facts.serving:
        text = ", ".join(
            f"{one.name} ({_presence(one)})"
            for one in sorted(facts.serving, key=lambda one: (not one.online, one.name))
        )
        return Link("device", True, f"served by {text}")
    whom = f"{facts.store}" if facts.role == "any" else f"role {facts.role} of {facts.store}"
    return Link("device", heard, f"no device that was let in serves {whom}")


def _presence(device: DeviceFact) -> str:
    if device.online:
        return "online"
    if device.last_heard_at is None:
        return "never heard"
    return f"silent since {clock(device.last_heard_at)}"


_IN_THE_STORE = (
    ("saved", State.DELIVERED, Needs.DELIVERED, "no device has said that it saved it"),
    ("read", State.READ, Needs.READ, "nobody there has opened it"),
    ("started", State.IN_PROGRESS, None, ""),
)


def _in_the_store(facts: Facts) -> list[Link]:
    rank = STORE_RANK[facts.reached]
    closed = facts.delivery is not None and not facts.delivery.open
    chain = []
    for name, state, _, missing_words in _IN_THE_STORE:
        said = _first_said(facts, state)
        if said is not None:
            chain.append(_said(name, said, ""))
        elif rank > STORE_RANK[state] and name != "started":
            later = "not said by itself: what it said later shows it"
            chain.append(Link(name, True, later))
        elif rank == STORE_RANK[state]:
            chain.append(Link(name, True, "the ledger says so; the receipt is not here"))
        elif missing_words and not closed and _asked_for(facts, state):
            chain.append(Link(name, False, missing_words))
    return [*chain, *_answer(facts, closed=closed)]


def _asked_for(facts: Facts, state: State) -> bool:
    need = {Needs.DELIVERED: 1, Needs.READ: 2, Needs.DONE: 5}[facts.needs]
    return STORE_RANK[state] <= need


def _answer(facts: Facts, *, closed: bool) -> list[Link]:
    chain = []
    for state in (State.CANNOT, State.DONE):
        said = _first_said(facts, state)
        if said is None:
            if facts.reached is state:
                text = f"{state.value}: the ledger says so; the receipt is not here"
                chain.append(Link("answered", True, text))
            continue
        text = state.value
        if state is State.CANNOT:
            why = (said.data.get("code"), said.data.get("reason"), said.data.get("note"))
            text += "".join(f": {one}" for one in why if one)
        elif said.data.get("note"):
            text += f": {said.data['note']}"
        if state is State.DONE and facts.delivery is not None:
            if facts.delivery.done_late and facts.due_local:
                text += f", late: it was due {facts.due_local.replace('T', ' ')} store time"
            if facts.delivery.arrived_late:
                text += ", in time, and heard after head office had closed it"
        chain.append(_said("answered", said, text))
    if not chain and not closed and facts.needs is Needs.DONE:
        chain.append(Link("answered", False, "it has not said done, nor that it cannot"))
    return chain


def _first_said(facts: Facts, state: State) -> Statement | None:
    return next(
        (
            one
            for one in facts.statements
            if one.kind == "receipt" and one.state is state and one.outcome is None
        ),
        None,
    )


def _said(name: str, said: Statement, text: str) -> Link:
    what = text or {"saved": "saved on the device", "read": "read", "started": "started"}[name]
    return Link(
        name,
        True,
        what + _clock_words(said),
        at=said.at,
        by=str(said.data.get("by") or ""),
        device=said.device,
        said_at=said.said_at,
        offset_seconds=said.offset_seconds,
    )


def _clock_words(said: Statement) -> str:
    offset = said.offset_seconds
    if offset is None or abs(offset) < _NOT_WORTH_SAYING_SECONDS:
        return ""
    wrong = f"{span(abs(offset))} {'behind' if offset > 0 else 'ahead'}"
    return f"; by its clock {clock(said.said_at)}, which was {wrong}"


def span(seconds: float) -> str:
    """A span of time in one unit, such as "3 min"."""
    for unit_seconds, unit in ((86_400 * 365, "years"), (86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit_seconds or (seconds >= unit_seconds and unit != "years"):
            return f"{int(seconds // unit_seconds)} {unit}"
    return f"{int(seconds)} s"


def _closing(facts: Facts, delivery: Delivery) -> list[Link]:
    if delivery.state not in CLOSED_BY_HQ:
        return []
    before = delivery.before_hq or State.PENDING
    text = {
        State.EXPIRED: "expired: its time was over",
        State.REMOVED: "counted no longer: the store closed, or was never meant",
        State.CANCELLED: "withdrawn",
    }[delivery.state]
    if delivery.state is State.CANCELLED:
        if facts.superseded_by:
            text = f"withdrawn: {facts.superseded_by[:8]} stands in for it"
        text += f": {facts.withdrawn_why}" if facts.withdrawn_why else ""
    text += f"; until then it was {before.value.replace('_', ' ')}"
    by = facts.withdrawn_by if delivery.state is State.CANCELLED else ""
    chain = [Link("closed", True, text, at=delivery.changed_at, by=by)]
    if delivery.state is State.CANCELLED:
        chain.append(_confirmed(facts, delivery))
    return chain


def _confirmed(facts: Facts, delivery: Delivery) -> Link:
    if delivery.was is None:
        return Link("confirmed", False, "no device has said that it took the withdrawal")
    how_far = "nobody there had seen it" if delivery.was is State.PENDING else ""
    text = how_far or f"it was {delivery.was.value.replace('_', ' ')} there"
    said = next((one for one in facts.statements if one.kind == "withdrawn"), None)
    if said is None:
        return Link("confirmed", True, f"a device took the withdrawal: {text}")
    return _said("confirmed", said, f"the device took the withdrawal: {text}")


def _beside(facts: Facts) -> list[Link]:
    chain = [_reminded(step) for step in facts.steps if _was_reminded(facts, step)]
    for one in facts.statements:
        if one.kind == "reply":
            chain.append(_said("reply", one, f"reply: {one.data.get('text', '')}"))
        elif one.outcome is not None:
            state = one.data.get("state") or one.data.get("was") or "something"
            chain.append(_said("no effect", one, f"said {state}, without effect: {one.outcome}"))
    return chain


def _was_reminded(facts: Facts, step: Step) -> bool:
    """Whether that step reminded this mailbox: only those that are open are."""
    delivery = facts.delivery
    if step.action != _REMIND or delivery is None:
        return False
    return delivery.open or (delivery.changed_at or 0.0) > step.at


def _reminded(step: Step) -> Link:
    text = f"head office reminded of it, with others: {step.note}"
    return Link("reminded", True, text, at=step.at, by=step.by)
