"""`alert`: one verb for each kind of alert, with the kind's fields as its options."""

from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Sheet, narrate
from storeagent.alerts import KINDS, AlertKind
from storeagent.api import Agent
from storeagent.commands.common import by_option, id_option


@click.group(
    help=(
        "Raise an alert, most often from a script. "
        "It is safe on this disk when the command ends.\n\n"
        "\b\n"
        "Examples:\n"
        "  storeagent alert replenishment --sku 6901234 --on-hand 3 --reorder-point 12 \\\n"
        "      --id 2026-05-01-6901234\n"
        "  storeagent alert incident --what 'water in the cellar' --severity high\n"
    ),
)
def alert() -> None:
    """Be a group; the kinds are its commands."""


def _command(kind: AlertKind) -> click.Command:
    def run(key: str | None, note: str, by: str, home: Path, as_json: bool, **fields: Any) -> None:
        with Agent(home) as agent:
            recorded = agent.alert(kind.name, key=key, note=note, by=by, **fields)
        if as_json:
            Sheet().json({"id": recorded.id, "new": recorded.new})
        elif recorded.new:
            narrate("recorded; it goes to head office as soon as there is a connection")
        else:
            narrate("recorded before under the same id; nothing was added")

    command: Any = run
    for decorate in (json_option, home_option("agent"), by_option, id_option):
        command = decorate(command)
    command = click.option("--note", default="", help="Free text.")(command)
    for field in reversed(kind.fields):
        command = click.option(
            "--" + field.name.replace("_", "-"),
            field.name,
            required=field.required,
            type=click.Choice(field.choices) if field.choices else None,
            metavar=None if field.choices else field.type.upper(),
            help=field.help,
        )(command)
    made: click.Command = click.command(name=kind.name, help=kind.help)(command)
    return made


for _kind in KINDS.values():
    alert.add_command(_command(_kind))
