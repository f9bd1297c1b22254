"""The custody chain: which link is missing, what that means, and what helps."""

import dataclasses
import random
from typing import Any

import click
import pytest

from buswire.states import State
from hqconsole import custody, custody_advice
from hqconsole.commands.main import main
from hqconsole.custody_facts import (
    Delivery,
    DeviceFact,
    Facts,
    Hub,
    Logged,
    Statement,
    Step,
    Wave,
)
from hqconsole.lifecycle import DirectiveState
from storeagent.main import main as agent_main

AT = 1_800_000_000.0
HOUR = 3600.0


def delivery(state: State = State.PENDING, **more: Any) -> Delivery:
    """A delivery, open unless it is done."""
    values: dict[str, Any] = {
        "open": state in {State.PENDING, State.DELIVERED, State.READ, State.IN_PROGRESS},
        "changed_at": AT,
        "arrived_late": False,
        "done_late": False,
        "joined_at": None,
        "before_hq": None,
        "was": None,
    }
    return Delivery(state, **(values | more))


def said(state: str, *, kind: str = "receipt", at: float = AT, **more: Any) -> Statement:
    """A statement of the device, whose clock is right."""
    key = "was" if kind == "withdrawn" else "state"
    values: dict[str, Any] = {"device": "till-1", "received_at": at, "offset_seconds": 0.0}
    data = {key: state, **more.pop("data", {})}
    return Statement(kind=kind, said_at=at, outcome=None, data=data, **(values | more))


ONLINE = DeviceFact("till-1", "active", True, True, AT)
SILENT = dataclasses.replace(ONLINE, online=False, last_heard_at=AT - 50 * HOUR)


def facts(**more: Any) -> Facts:
    """A task for S017 that went out, is there and is waited for."""
    from buswire.states import Needs

    values: dict[str, Any] = {
        "id": "ab" * 16,
        "title": "Set it up",
        "state": DirectiveState.ISSUED,
        "needs": Needs.DONE,
        "issued_at": AT,
        "issued_by": "Ana",
        "store": "S017",
        "store_name": "Seventeen",
        "region": "east",
        "timezone": "Asia/Tokyo",
        "role": "manager",
        "asked": "--region east --role manager",
        "delivery": delivery(),
        "logged": Logged("region/east/manager", 7, "cd" * 16, AT, True),
        "seal_key": "ef" * 16,
        "devices": [ONLINE],
    }
    return Facts(**(values | more))


def judged(**more: Any) -> custody_advice.Verdict:
    """The verdict over these facts."""
    one = facts(**more)
    return custody_advice.judge(one, custody.links(one), AT + HOUR)


def commands(verdict: custody_advice.Verdict) -> str:
    """The commands that it names, in their order."""
    return "; ".join(todo.command for todo in verdict.todo)


PLANNED: dict[str, Any] = {"delivery": None, "planned": True, "logged": None}
SUBMIT = Step(AT, "submit", "waiting_for_approval", "Ana", "a recall")
MISSING = [
    ({"state": DirectiveState.DRAFT, **PLANNED}, "approved", "hq submit", "draft"),
    (
        {"state": DirectiveState.WAITING, "steps": [SUBMIT], **PLANNED},
        "approved",
        "hq approve",
        "nobody has said yes or no",
    ),
    (
        {
            "state": DirectiveState.DENIED,
            "steps": [SUBMIT, Step(AT, "deny", "denied", "Bo", "too long")],
            **PLANNED,
        },
        "approved",
        "hq revise",
        "too long",
    ),
    ({"delivery": None, "why_not": "it is west"}, "audience", "hq publish", "it is west"),
    (
        {
            "state": DirectiveState.SCHEDULED,
            "wave": Wave(1, 1, "all", AT + HOUR, None, None),
            **PLANNED,
        },
        "wave",
        "hq schedule",
        "goes out on",
    ),
    (
        {
            "state": DirectiveState.PAUSED,
            "paused_why": "4 % cannot",
            "wave": Wave(2, 2, "rest", None, None, None),
            **PLANNED,
        },
        "wave",
        "hq resume",
        "4 % cannot",
    ),
    ({"state": DirectiveState.ROLLING, **PLANNED}, "wave", "hq status", "the wave before it"),
    ({"state": DirectiveState.ISSUED, **PLANNED}, "wave", "hq publish", "stopped"),
    ({"state": DirectiveState.CANCELLED, **PLANNED}, "wave", "hq publish", "cancelled"),
    ({"logged": None, "has_role": False}, "logged", "hq roster import", "no role manager"),
    ({"seal_key": ""}, "sealed", "hq key list", "not sealed"),
    ({"seal_key": "", "hub": Hub(running=False)}, "sealed", "hq up", "hub is not running"),
    (
        {"logged": Logged("all/any", 7, "cd" * 16, AT, False), "hub": Hub(running=False)},
        "sent",
        "hq up",
        "not surely published",
    ),
    ({"devices": []}, "device", "hq device add S017 till-1 --roles manager", "no device"),
    (
        {"devices": [dataclasses.replace(ONLINE, serves=False)]},
        "device",
        "hq roster assign S017 till-1 --role manager",
        "no device",
    ),
    (
        {"devices": [dataclasses.replace(ONLINE, state="invited")]},
        "device",
        "storeagent join",
        "no device",
    ),
    (
        {"devices": [dataclasses.replace(ONLINE, state="waiting")]},
        "device",
        "hq device confirm S017.till-1",
        "no device",
    ),
    ({"devices": [SILENT]}, "saved", "storeagent status", "silent since"),
    ({}, "saved", "hq remind", "although one is online"),
    (
        {"hub": Hub(True, False, AT, "refused")},
        "saved",
        "hq status",
        "no connection to the broker",
    ),
    (
        {
            "delivery": delivery(State.DELIVERED),
            "statements": [said("delivered")],
            "due_at": AT,
            "due_local": "2027-01-15T18:00",
        },
        "read",
        "hq remind",
        "it was due 2027-01-15 18:00 store time",
    ),
    (
        {
            "delivery": delivery(State.READ),
            "statements": [said("delivered"), said("read")],
            "devices": [SILENT],
        },
        "answered",
        "storeagent status",
        "silent since",
    ),
    (
        {
            "state": DirectiveState.CANCELLED,
            "delivery": delivery(State.CANCELLED, before_hq=State.READ),
            "devices": [SILENT],
        },
        "confirmed",
        "storeagent status",
        "took the withdrawal",
    ),
]


@pytest.mark.parametrize(("more", "missing", "command", "words"), MISSING)
def test_the_first_missing_link_is_named_with_what_helps(
    more: dict[str, Any], missing: str, command: str, words: str
) -> None:
    """Each way in which a directive can be stuck has its words and its command."""
    verdict = judged(**more)
    assert verdict.missing == missing
    assert command in commands(verdict)
    assert words in verdict.words


def test_every_command_that_is_advised_exists() -> None:
    """Nobody is sent to a verb that is not there."""
    context = click.Context(main)
    for more, *_ in MISSING:
        for todo in judged(**more).todo:
            program, verb, *rest = todo.command.split()
            group = main if program == "hq" else agent_main
            found = group.get_command(context, verb)
            assert found is not None, todo.command
            if isinstance(found, click.Group):
                assert found.get_command(context, rest[0]) is not None, todo.command
            named = {option for one in found.params for option in one.opts}
            if not isinstance(found, click.Group):
                assert {word for word in rest if word.startswith("--")} <= named, todo.command


def test_a_whole_chain_says_who_and_when_and_by_which_clock() -> None:
    """A clock that was three minutes behind stands beside head office's time."""
    step = [SUBMIT, Step(AT + 5, "approve", "waiting_for_approval", "Bo", "")]
    one = facts(
        steps=step,
        author="Ana",
        written_at=AT - 60,
        wave=Wave(1, 3, "pilot", None, AT, AT),
        delivery=delivery(State.DONE, done_late=True),
        due_local="2027-01-15T18:00",
        statements=[
            said("delivered", at=AT - 180, offset_seconds=180.0, received_at=AT + 1),
            said("done", data={"by": "Rui", "note": "all of it"}),
            said("", kind="reply", data={"text": "which aisle?", "by": "Rui"}),
            dataclasses.replace(said("read"), outcome="too late"),
        ],
    )
    chain = {link.name: link for link in custody.links(one)}
    assert all(link.there for link in chain.values())
    assert (chain["written"].by, chain["written"].at) == ("Ana", AT - 60)
    assert (chain["approved"].by, chain["approved"].at) == ("Bo", AT + 5)
    assert "wave 1 of 3 (pilot)" in chain["wave"].words
    assert "region/east/manager" in chain["logged"].words
    assert chain["saved"].at == AT
    assert "which was 3 min behind" in chain["saved"].words
    assert "what it said later shows it" in chain["read"].words
    assert chain["answered"].by == "Rui"
    assert "all of it, late: it was due 2027-01-15 18:00 store time" in chain["answered"].words
    assert "which aisle?" in chain["reply"].words
    assert "too late" in chain["no effect"].words
    assert judged(**{f.name: getattr(one, f.name) for f in dataclasses.fields(one)}).missing == ""


def test_a_clock_of_1970_is_called_wrong_by_years() -> None:
    """The time is head office's all the same."""
    one = facts(
        delivery=delivery(State.DELIVERED),
        statements=[said("delivered", at=60.0, offset_seconds=AT - 60, received_at=AT)],
    )
    (saved,) = [link for link in custody.links(one) if link.name == "saved"]
    assert saved.at == AT
    assert "which was 57 years behind" in saved.words


def test_what_head_office_closed_waits_for_nothing_but_the_proof_of_a_withdrawal() -> None:
    """An expired delivery misses no link; a cancelled one misses the device's word."""
    expired = judged(state=DirectiveState.EXPIRED, delivery=delivery(State.EXPIRED))
    assert (expired.missing, expired.todo) == ("", ())
    closed = {"state": DirectiveState.SUPERSEDED, "superseded_by": "99" * 16}
    was = judged(
        **closed,
        delivery=delivery(State.CANCELLED, before_hq=State.READ, was=State.IN_PROGRESS),
        statements=[said("in_progress", kind="withdrawn")],
    )
    assert was.missing == ""
    one = facts(**closed, delivery=delivery(State.CANCELLED, was=State.PENDING))
    chain = {link.name: link.words for link in custody.links(one)}
    assert "nobody there had seen it" in chain["confirmed"]
    assert "99999999 stands in for it" in chain["closed"]


def test_any_facts_give_one_chain_and_one_verdict() -> None:
    """Whatever combination the ledger holds, a link is missing or nothing is, and advice is had."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(600):
        state = rng.choice(list(State))
        sent = rng.random() < 0.7
        one = facts(
            state=rng.choice(list(DirectiveState)),
            delivery=delivery(
                state,
                before_hq=rng.choice([None, State.READ]),
                was=rng.choice([None, State.PENDING, State.DONE]),
                joined_at=rng.choice([None, AT]),
                done_late=rng.random() < 0.5,
            )
            if sent
            else None,
            planned=not sent and rng.random() < 0.7,
            wave=rng.choice([None, Wave(2, 3, "rest", rng.choice([None, AT]), None, None)]),
            logged=rng.choice([None, facts().logged]),
            seal_key=rng.choice(["", "ef"]),
            devices=rng.choice(
                [[], [ONLINE], [SILENT], [dataclasses.replace(SILENT, serves=False)]]
            ),
            statements=[
                said(
                    rng.choice(["delivered", "read", "done", "odd"]), kind=kind, data={"text": "x"}
                )
                for kind in rng.choices(["receipt", "withdrawn", "reply"], k=rng.randrange(4))
            ],
            steps=rng.choice([[], [SUBMIT], [SUBMIT, Step(AT, "issue", "issued", "Bo", "")]]),
            store_closed_at=rng.choice([None, AT]),
            has_role=rng.random() < 0.8,
            hub=rng.choice([Hub(False), Hub(True), Hub(True, False, AT)]),
            due_at=rng.choice([None, AT]),
        )
        chain = custody.links(one)
        assert sum(not link.there for link in chain) <= 1
        verdict = custody_advice.judge(one, chain, AT + HOUR)
        assert verdict.words
        assert bool(verdict.missing) == bool(verdict.todo)
