"""`docs/directives.md` says of both machines what the code does."""

import re

import click

from buswire.states import CLOSED_BY_HQ, MACHINE, STORE_RANK, Moves, Needs, State, is_open
from hqconsole import lifecycle
from hqconsole.commands.main import main
from hqconsole.lifecycle import Action, DirectiveState
from hqconsole.timing import DeskTiming
from tests.contract.markdown import ROOT, sections, words

PAGE = "docs/directives.md"
CHAPTERS = sections(PAGE, 2)


def test_the_machine_of_a_directive_is_the_code() -> None:
    """Every state and every move, with a meaning, and no other."""
    states, moves, actions = CHAPTERS["A directive"].tables()
    assert [words(name)[0] for name, _ in states[1:]] == [state.value for state in DirectiveState]
    assert [words(name)[0] for name, _ in actions[1:]] == [action.value for action in Action]
    assert all(meaning for _, meaning in states + actions)
    said = {}
    for state, cell in moves[1:]:
        pairs = re.findall(r"`(\w+)` → `(\w+)`", cell)
        said[DirectiveState(words(state)[0])] = {
            Action(action): DirectiveState(to) for action, to in pairs
        }
    assert said == lifecycle.MACHINE


def test_the_machine_of_a_delivery_is_the_code() -> None:
    """The same tables as those of the wire contract."""
    states, moves = CHAPTERS["A delivery"].tables()
    for cell, said_by, rank, needs, meaning in states[1:]:
        state = State(words(cell)[0])
        assert (said_by == "HQ") is (state in CLOSED_BY_HQ)
        assert rank == str(STORE_RANK.get(state, ""))
        assert words(needs) == [need.value for need in Needs if is_open(state, need)]
        assert meaning
    said = {
        State(words(state)[0]): Moves(*(frozenset(map(State, words(cell))) for cell in cells))
        for state, *cells in moves[1:]
    }
    assert said == MACHINE


def test_what_it_names_is_there() -> None:
    """Commands, their options, and the numbers in words."""
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    context = click.Context(main)
    commands = {name: main.get_command(context, name) for name in main.list_commands(context)}
    assert set(re.findall(r"`?hq (\w+)", text)) <= commands.keys()
    options = {
        option
        for command in commands.values()
        if command is not None
        for param in command.params
        for option in param.opts
    }
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= options
    assert DeskTiming().settling_seconds == 300
    listed = re.findall(r"^- \[(.+)\]\(#", text, re.MULTILINE)
    assert listed == list(CHAPTERS)
