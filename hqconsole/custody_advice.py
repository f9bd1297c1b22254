"""What a delivery waits for, in a sentence, and what an operator does about it. Pure.

Owns the advice for each link of the chain (`custody`) that can be missing. Every piece of advice
names a command; what is to be done in a shop, by telephone, names the one that shows whether it
helped.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from buskit.terminal import ago, clock
from buswire.states import CLOSED_BY_HQ, State
from hqconsole.custody import Link, missing
from hqconsole.custody_facts import DeviceFact, Facts
from hqconsole.lifecycle import UNSENT, DirectiveState


class Todo(NamedTuple):
    """Something to do: why or what, and the command."""

    text: str
    command: str


class Verdict(NamedTuple):
    """The judgement of a chain.

    Attributes:
        missing: The name of the first link that is missing; "" where none is.
        words: In a sentence.
        todo: What helps, the likeliest first.
    """

    missing: str
    words: str
    todo: tuple[Todo, ...] = ()


def judge(facts: Facts, chain: Sequence[Link], now_at: float) -> Verdict:
    """Say what a delivery waits for, and what to do about it."""
    link = missing(chain)
    if link is None:
        return Verdict("", _nothing_missing(facts))
    words, todo = _ADVICE[link.name](facts, link, now_at)
    if facts.delivery is not None and link.name in _NEEDS_THE_HUB:
        words, todo = _with_the_hub(facts, words, todo)
    return Verdict(link.name, words, tuple(todo))


_Advice = tuple[str, list[Todo]]


def _nothing_missing(facts: Facts) -> str:
    delivery = facts.delivery
    if delivery is None:
        return "nothing is missing"
    if delivery.state in CLOSED_BY_HQ:
        return "nothing is missing: head office closed it"
    if delivery.state is State.CANNOT:
        return "nothing is missing: the store says that it cannot"
    return f"nothing is missing: it is {delivery.state.value.replace('_', ' ')}"


_NEEDS_THE_HUB = frozenset({"sealed", "sent", "device", "saved", "read", "answered", "confirmed"})


def _with_the_hub(facts: Facts, words: str, todo: list[Todo]) -> _Advice:
    hub = facts.hub
    if not hub.running:
        first = Todo("the hub is not running: nothing leaves, and nothing comes in", "hq up")
        return f"the hub is not running; {words}", [first, *todo]
    if hub.connected is False:
        since = "" if hub.since_at is None else f" since {clock(hub.since_at)}"
        why = f" ({hub.failure})" if hub.failure else ""
        first = Todo(f"see that the broker runs and that this machine reaches it{why}", "hq status")
        return f"the hub has had no connection to the broker{since}; {words}", [first, *todo]
    return words, todo


def _approved(facts: Facts, link: Link, _now_at: float) -> _Advice:
    one = facts.short_id
    if facts.state is DirectiveState.WAITING:
        todo = [
            Todo("somebody else than its author looks at it", f"hq approve {one}"),
            Todo("or says no", f"hq deny {one}"),
        ]
    elif facts.state is DirectiveState.DENIED:
        todo = [Todo("its author reads why, and takes it back to mend it", f"hq revise {one}")]
    else:
        todo = [
            Todo("let it go", f"hq submit {one}"),
            Todo("or drop it", f"hq cancel {one}"),
        ]
    return link.words, todo


def _audience(facts: Facts, link: Link, _now_at: float) -> _Advice:
    role = "" if facts.role == "any" else f" --role {facts.role}"
    if facts.store_closed_at is not None:
        back = Todo("if it is open, it belongs on the list of stores", "hq roster import FILE")
        return link.words, [back]
    todo = []
    if not facts.has_role:
        todo.append(
            Todo(f"if it has a {facts.role}, the list of stores says so", "hq roster import FILE")
        )
    again = f"hq publish TITLE --store {facts.store}{role}"
    todo.append(Todo("a frozen audience stays; issue it again for this store", again))
    return link.words, todo


def _wave(facts: Facts, link: Link, _now_at: float) -> _Advice:
    one = facts.short_id
    if facts.state is DirectiveState.PAUSED:
        return link.words, [
            Todo("see who cannot, and why", f"hq cannot {one}"),
            Todo("let the rest go out", f"hq resume {one}"),
            Todo("or leave it at that", f"hq stop {one}"),
        ]
    if facts.state is DirectiveState.SCHEDULED:
        return link.words, [
            Todo("nothing; or give it another time", f"hq schedule {one} WHEN"),
            Todo("or withdraw it", f"hq cancel {one}"),
        ]
    if facts.state in UNSENT:
        return link.words, [Todo("see how it stands", f"hq status {one}")]
    if facts.state is DirectiveState.ROLLING:
        todo = [Todo("see what the waves show", f"hq status {one}")]
        if not facts.hub.running:
            todo.insert(0, Todo("the hub is not running: no wave goes out", "hq up"))
        return link.words, todo
    role = "" if facts.role == "any" else f" --role {facts.role}"
    again = f"hq publish TITLE --store {facts.store}{role}"
    return link.words, [Todo("if it is still wanted there, issue it again", again)]


def _logged(_facts: Facts, link: Link, _now_at: float) -> _Advice:
    text = "if that is wrong, the list of stores says so; it gets its work when it is back"
    return link.words, [Todo(text, "hq roster import FILE")]


def _sealed(_facts: Facts, link: Link, _now_at: float) -> _Advice:
    return link.words, [
        Todo("the hub seals at once; if this stays, it lacks its key", "hq key list"),
        Todo("or something is wrong with it", "hq incidents"),
    ]


def _sent(_facts: Facts, link: Link, _now_at: float) -> _Advice:
    return link.words, [
        Todo("it goes out within moments; if it does not, see what is wrong", "hq incidents")
    ]


def _device(facts: Facts, link: Link, _now_at: float) -> _Advice:
    return link.words, _let_one_in(facts)


def _let_one_in(facts: Facts) -> list[Todo]:
    todo = []
    wanted = [one for one in facts.devices if one.serves and one.state in {"invited", "waiting"}]
    for one in wanted:
        name = f"{facts.store}.{one.name}"
        if one.state == "waiting":
            text = f"{name} has asked to join: compare its fingerprint"
            todo.append(Todo(text, f"hq device confirm {name} FINGERPRINT"))
        else:
            text = f"{name} was invited and has not joined: at the device, with its bundle"
            todo.append(Todo(text, "storeagent join BUNDLE"))
    if wanted:
        return todo
    for one in facts.devices:
        if one.state == "active" and not one.serves:
            text = f"{one.name} of {facts.store} serves other roles; it can serve this one, too"
            command = f"hq roster assign {facts.store} {one.name} --role {facts.role}"
            return [Todo(f"{text} (name all its roles)", command)]
    roles = "" if facts.role == "any" else f" --roles {facts.role}"
    name = _free_name({one.name for one in facts.devices})
    return [
        Todo("make a bundle for a device there", f"hq device add {facts.store} {name}{roles}"),
    ]


def _free_name(taken: set[str]) -> str:
    return next(name for n in range(1, len(taken) + 2) if (name := f"till-{n}") not in taken)


def _saved(facts: Facts, link: Link, now_at: float) -> _Advice:
    if not facts.serving:
        return link.words, _let_one_in(facts)
    if any(one.online for one in facts.serving):
        return f"{link.words}, although one is online", [
            Todo("the hub sends it again by itself; to nudge all that are open", _remind(facts)),
            Todo("a device that cannot use it says so", "hq incidents"),
            Todo("what nobody could use is kept aside", "hq quarantine"),
        ]
    return _silent(facts, link, now_at)


def _silent(facts: Facts, link: Link, now_at: float) -> _Advice:
    heard = [one for one in facts.serving if one.last_heard_at is not None]
    if not heard:
        words = f"{link.words}: {_names(facts.serving)} was let in and never heard"
    else:
        last = max(heard, key=lambda one: one.last_heard_at or 0.0)
        since = last.last_heard_at or 0.0
        words = (
            f"{link.words}: {_names(facts.serving)} is silent since {clock(since)},"
            f" {ago(max(0.0, now_at - since))}"
        )
    return words, [
        Todo(
            "on that device; call the store: is it switched on, with power and network?",
            "storeagent status",
        ),
        Todo(
            "see whether others near it are silent, too",
            f"hq stores --region {facts.region} --offline",
        ),
    ]


def _names(devices: Sequence[DeviceFact]) -> str:
    return ", ".join(one.name for one in devices)


def _person(facts: Facts, link: Link, now_at: float) -> _Advice:
    words = link.words
    if facts.due_at is not None:
        due = (facts.due_local or clock(facts.due_at)).replace("T", " ")
        words += f"; it {'was' if facts.due_at <= now_at else 'is'} due {due} store time"
    if facts.serving and not any(one.online for one in facts.serving):
        words, todo = _silent(facts, Link(link.name, False, words), now_at)
        return words, todo
    if not facts.serving:
        return words, _let_one_in(facts)
    return words, [Todo("remind everyone who has not, or call the store", _remind(facts))]


def _remind(facts: Facts) -> str:
    return f"hq remind {facts.short_id}"


def _confirmed(facts: Facts, link: Link, now_at: float) -> _Advice:
    if not facts.serving:
        return f"{link.words}, and none is left that serves it", _let_one_in(facts)
    if any(one.online for one in facts.serving):
        text = "one is online and is told again by itself; if it stays silent, see what is wrong"
        return link.words, [Todo(text, "hq incidents")]
    return _silent(facts, link, now_at)


_ADVICE: Mapping[str, Callable[[Facts, Link, float], _Advice]] = {
    "approved": _approved,
    "audience": _audience,
    "wave": _wave,
    "logged": _logged,
    "sealed": _sealed,
    "sent": _sent,
    "device": _device,
    "saved": _saved,
    "read": _person,
    "answered": _person,
    "confirmed": _confirmed,
}
"""The advice for each link that can be missing."""
