"""`device`: its verbs by name, and those that deal with one device that is known."""

import time
from pathlib import Path
from typing import Any

import click

from buskit.cli import CommandGroup, home_option, json_option
from buskit.doorbell import ring
from buskit.terminal import Column, Sheet, narrate
from buswire.topics import Identity
from hqconsole.commands.common import (
    TAKES_EFFECT,
    acting_on,
    heard_words,
    narrate_hub,
    online_column,
    operator,
    write_audit,
)
from hqconsole.errors import HqError
from hqconsole.home import HqSettings, read_hq_settings
from hqconsole.ledger import enrolment, store_views
from hqconsole.ledger.opening import open_ledger

_HERE = "hqconsole.commands.device"
_STATES = ("invited", "waiting", "active", "revoked")
_STYLES = {"active": "green", "waiting": "yellow", "revoked": "red"}

device = CommandGroup(
    name="device",
    help=(
        "Let devices in, and shut them out. Nobody is on the bus who was not added here.\n\n"
        "\b\n"
        "Examples:\n"
        "  hq device add S017 till-1 --roles manager,clerk\n"
        "  hq device add --all till-1 --into bundles\n"
        "  hq device list --state waiting\n"
        "  hq device revoke S017.till-1 --why stolen\n"
    ),
    sections={
        "Verbs": {
            "add": (f"{_HERE}_add:add", "Make a bundle for storeagent join."),
            "list": (f"{_HERE}:list_devices", "Who is in, who waits, who is out."),
            "confirm": (f"{_HERE}:confirm", "Let in a key whose fingerprint was compared."),
            "rotate": (f"{_HERE}_add:rotate", "Give a device a new key, or a new machine."),
            "revoke": (f"{_HERE}:revoke", "Shut a device out at once."),
            "allow": (f"{_HERE}:allow", "How much of a device's words is kept."),
        }
    },
)


@click.command("list")
@click.argument("store", required=False, metavar="[STORE]")
@click.option("--state", type=click.Choice(_STATES), help="Only those in this state.")
@home_option("hq")
@json_option
def list_devices(store: str | None, state: str | None, home: Path, as_json: bool) -> None:
    """Show the devices: what each serves, its key, when it was heard, how much of it is kept.

    The key is shown by the beginning of its fingerprint; of one that waits, it is the key that
    asks to be let in.

    \b
    Examples:
      hq device list S017
      hq device list --state waiting
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    now_at = time.time()
    allowed_bytes = read_hq_settings(home).limits.kept_bytes
    with open_ledger(home) as ledger, ledger.read() as connection:
        if store is not None and not store_views.has_store(connection, store):
            raise HqError(f"there is no store {store}", hint="hq roster show lists them")
        found = store_views.enrolled(connection, store=store, state=state)
    for row in found:
        row["allowed_bytes"] = row["allowed_bytes"] or allowed_bytes
    columns = [
        Column("store", "store"),
        Column("device", "device"),
        Column("state", "state", style=lambda row: _STYLES.get(row["state"], "")),
        Column("roles", "serves"),
        Column("shown_key", "key", text=_short_key),
        online_column(),
        Column("last_heard_at", "last heard", text=heard_words(now_at)),
        Column("kept_bytes", "kept", right=True, text=_size),
        Column("machine", "machine"),
    ]
    empty = "no such device: hq device add STORE DEVICE"
    shown = [{**row, "shown_key": row["waiting_key"] or row["key"]} for row in found]
    Sheet().show(found if as_json else shown, columns, as_json=as_json, empty=empty)
    if not as_json:
        _narrate_full(found)


def _short_key(key: str | None) -> str:
    return f"{key[:4]} {key[4:8]}" if key else ""


def _narrate_full(found: list[dict[str, Any]]) -> None:
    for row in found:
        if row["kept_bytes"] >= 0.9 * row["allowed_bytes"]:
            narrate(
                f"! {row['store']}.{row['device']}: {_size(row['kept_bytes'])} of"
                f" {_size(row['allowed_bytes'])} are used up; nothing more is taken of it then:"
                f" hq device allow {row['store']}.{row['device']} --bytes N"
            )


def _size(size_bytes: int) -> str:
    for unit, width in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size_bytes >= width:
            return f"{size_bytes / width:.1f} {unit}"
    return f"{size_bytes} B"


@click.command()
@click.argument("who", metavar="STORE.DEVICE", type=Identity.parse)
@click.argument("fingerprint", nargs=-1, required=True)
@home_option("hq")
def confirm(who: Identity, fingerprint: tuple[str, ...], home: Path) -> None:
    """Let in the key that waits for a device, if this is its fingerprint.

    Have somebody who stands before the device read it out: it shows it while it waits in
    storeagent join. Blanks and letter case do not matter. This is asked for where hq.toml says
    [enrolment] activation = "confirm".

    \b
    Example:
      hq device confirm S017.till-1 3f2a 91c4 77b0 e1d2 5c66 0a4e 9b18 d3f7
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    with open_ledger(home) as ledger:
        acting_on(home, ledger, "devices", [who.store])
        with ledger.write() as connection:
            key = enrolment.confirm(connection, who, " ".join(fingerprint), at=time.time())
            write_audit(connection, "device confirm", device=str(who), key=key.id)
        ring(home)
    narrate(f"{who} is let in; it hears of it when it asks again (storeagent join BUNDLE)")
    narrate_hub(home, TAKES_EFFECT)


@click.command()
@click.argument("who", metavar="STORE.DEVICE", type=Identity.parse)
@click.option("--why", default="", metavar="TEXT", help="Such as stolen; stays in the history.")
@home_option("hq")
def revoke(who: Identity, why: str, home: Path) -> None:
    """Shut a device out, at once and until it is invited again. Bundles for it are void, too.

    What it said stays and stays valid. What went to everyone or to its store before is on its
    disk.

    \b
    Example:
      hq device revoke S017.till-1 --why stolen
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    with open_ledger(home) as ledger:
        acting_on(home, ledger, "devices", [who.store])
        with ledger.write() as connection:
            enrolment.revoke(connection, who, at=time.time(), by=operator(), why=why[:500])
            write_audit(connection, "device revoke", device=str(who), why=why[:500])
        ring(home)
    narrate(f"{who} is shut out")
    if narrate_hub(home, "it is shut out when the hub tells the broker,"):
        narrate("a connection that it has ends within 2 s")


@click.command()
@click.argument("who", metavar="STORE.DEVICE", type=Identity.parse)
@click.option(
    "--bytes",
    "allowed_bytes",
    type=click.IntRange(0),
    metavar="N",
    help="So much in all; 0 as the settings say.",
    required=True,
)
@home_option("hq")
def allow(who: Identity, allowed_bytes: int, home: Path) -> None:
    """Say how much of a device's words is kept before nothing more is taken of it.

    Everybody has the same allowance (kept_bytes in hq.toml, below [limits]), far more than an
    honest device fills. One that reached it is an incident, and waits until it is given more.

    \b
    Example:
      hq device allow S017.till-1 --bytes 4000000000
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    settings: HqSettings = read_hq_settings(home)
    with open_ledger(home) as ledger:
        acting_on(home, ledger, "devices", [who.store])
        with ledger.write() as connection:
            enrolment.allow(connection, who, allowed_bytes or None)
            write_audit(connection, "device allow", device=str(who), bytes=allowed_bytes)
        ring(home)
    narrate(f"{_size(allowed_bytes or settings.limits.kept_bytes)} of {who} are kept at most")
