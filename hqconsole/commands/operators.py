"""`operators`: who may do what at head office."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Column, Sheet, narrate
from hqconsole.commands.common import operator
from hqconsole.home import read_hq_settings
from hqconsole.operators import FILE_NAME, PRESETS, RIGHTS, Operator, Operators, load

_EXAMPLE = """\
to say who may what, write {file}:

  [operators.ana]
  display_name = "Ana Li"
  department = "Operations"
  may = "operator"            # or {presets},
                              # or a list of rights: hq operators --rights
  kinds = ["notice", "task"]  # left out: every kind
  regions = ["east"]          # left out: all of the chain
  manages = ["east"]          # escalations there go to her"""


@click.command()
@click.argument("check", required=False, type=click.Choice(["check"]))
@click.option("--rights", is_flag=True, help="Only show which rights there are.")
@home_option("hq")
@json_option
def operators(*, check: str | None, rights: bool, home: Path, as_json: bool) -> int:
    """Show who may do what, as operators.toml in head office's home says; * is you.

    Without that file everyone may do everything. With it, who is not named may only look; and a
    file that cannot be understood lets nobody change anything. You are $STOREBUS_OPERATOR, or the
    user of this machine. It is a rule for honest people, and what hq audit goes by.

    check also says what does not fit: regions that the roster does not have, rights that nobody
    holds, regions without a manager. Exit code 1 then.

    \b
    Examples:
      hq operators
      hq operators check
      hq operators --rights
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    if rights:
        _show_rights(as_json=as_json)
        return 0
    settings = read_hq_settings(home)  # says how to make a home where there is none
    everyone, present = load(home), operator()
    notices = None
    if check:
        from hqconsole import kinds  # noqa: PLC0415 - only this needs them
        from hqconsole.operators_check import misfits  # noqa: PLC0415

        notices = misfits(
            everyone,
            present=present,
            regions=_regions(home),
            kinds=kinds.every(settings),
            policy=settings.approval,
        )
    rows = [_row(one, present) for one in everyone.listed.values()]
    if as_json:
        file = None if everyone.file is None else str(everyone.file)
        shown = {"file": file, "you": present, "operators": rows, "notices": notices}
        Sheet().json(shown)
    else:
        _show(everyone, rows, home)
    for notice in notices or ():
        narrate(f"! {notice}")
    if check and not notices:
        narrate("all of it fits")
    return 1 if notices else 0


def _regions(home: Path) -> Sequence[str]:
    from hqconsole.ledger import store_views  # noqa: PLC0415 - only the check opens the ledger
    from hqconsole.ledger.opening import open_ledger  # noqa: PLC0415

    with open_ledger(home) as ledger, ledger.read() as connection:
        return list(store_views.regions(connection))


def _row(one: Operator, present: str) -> dict[str, Any]:
    return {
        "name": one.name,
        "display_name": one.display_name,
        "department": one.department,
        "may": [right for right in RIGHTS if right in one.rights],
        "kinds": None if one.kinds is None else list(one.kinds),
        "regions": None if one.regions is None else list(one.regions),
        "manages": list(one.manages),
        "email": one.email,
        "phone": one.phone,
        "you": one.name == present,
    }


def _show(everyone: Operators, rows: Sequence[Mapping[str, Any]], home: Path) -> None:
    if everyone.file is None:
        narrate("everyone may do everything: there is no file of operators")
        presets = ", ".join(name for name in PRESETS if name != "operator")
        narrate(_EXAMPLE.format(file=home.absolute() / FILE_NAME, presets=presets))
        return
    columns = [
        Column("you", "", text=lambda you: "*" if you else ""),
        Column("name", "operator"),
        Column("display_name", "name"),
        Column("department", "department"),
        Column("may", "may", text=_rights_words),
        Column("kinds", "kinds", text=_scope_words),
        Column("regions", "regions", text=_scope_words),
        Column("manages", "manages", text=", ".join),
    ]
    Sheet().show(rows, columns, as_json=False, empty="")


def _rights_words(rights: Sequence[str]) -> str:
    if len(rights) == len(RIGHTS):
        return "everything"
    return ", ".join(rights) or "only look"


def _scope_words(names: Sequence[str] | None) -> str:
    return "all" if names is None else ", ".join(names)


def _show_rights(*, as_json: bool) -> None:
    rows = [
        {
            "right": right,
            "meaning": meaning,
            "presets": [name for name, rights in PRESETS.items() if right in rights],
        }
        for right, meaning in RIGHTS.items()
    ]
    columns = [
        Column("right", "right"),
        Column("meaning", "lets somebody"),
        Column("presets", "is in", text=", ".join),
    ]
    Sheet().show(rows, columns, as_json=as_json, empty="")
