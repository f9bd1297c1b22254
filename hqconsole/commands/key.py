"""`key`: its verbs, for head office's own keys."""

import shlex
import time
from pathlib import Path
from typing import Any

import click

from buskit.cli import CommandGroup, home_option, json_option
from buskit.doorbell import ring
from buskit.terminal import Column, Sheet, clock, narrate
from hqconsole.commands.common import TAKES_EFFECT, acting, narrate_hub, span_seconds, write_audit
from hqconsole.home import read_hq_settings
from hqconsole.ledger.opening import open_ledger

_HERE = "hqconsole.commands.key"

key = CommandGroup(
    name="key",
    help=(
        "Head office's own keys: the one that signs, those before it, and the recovery key.\n\n"
        "The recovery key mends a lost or a stolen signing key without anybody going to a store. "
        "Keep it offline.\n\n"
        "\b\n"
        "Examples:\n"
        "  hq key list\n"
        "  hq key rotate --overlap 24h\n"
        "  hq key recover --recovery-key /media/usb/recovery.key --stolen\n"
    ),
    sections={
        "Verbs": {
            "list": (f"{_HERE}:list_keys", "The keys, and what each is good for."),
            "rotate": (f"{_HERE}:rotate", "Announce a new key; it signs after an overlap."),
            "recover": (f"{_HERE}:recover", "Replace a lost or stolen key at once."),
            "export": (f"{_HERE}:export", "What a device pins when it joins, as text."),
        }
    },
)


@click.command("list")
@home_option("hq")
@json_option
def list_keys(home: Path, as_json: bool) -> None:
    """Show head office's keys in the order in which they were announced.

    The fingerprint is what two people read to each other; devices show the one that they trust in
    storeagent status.

    \b
    Example:
      hq key list
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    from buswire.signing import PublicKey, fingerprint  # noqa: PLC0415 - cryptography
    from hqconsole import keyring as rings  # noqa: PLC0415

    read_hq_settings(home)  # says how to make a home where there is none
    keyring = rings.Keyring.load(home)
    signing = keyring.signing(time.time())
    trusted = keyring.trusted().keys
    rows: list[dict[str, Any]] = [
        {
            "epoch": one.entry.epoch,
            "number": one.entry.number,
            "id": one.public.id,
            "fingerprint": fingerprint(one.public),
            "announced_by": "recovery" if one.entry.number == 1 else "rotation",
            "signs_at": one.signs_at,
            "stolen_at": one.stolen_at,
            "trusted": one.entry.key in trusted,
            "signs": one.public.id == signing.id,
            "private_here": one.public.id in keyring.here,
        }
        for one in keyring.keys
    ]
    recovery = PublicKey.parse(keyring.recovery)
    at_home = home / rings.FOLDER_NAME / rings.RECOVERY_NAME
    if as_json:
        shown = {
            "keys": rows,
            "recovery_key": keyring.recovery,
            "recovery_fingerprint": fingerprint(recovery),
            "recovery_key_here": at_home.exists(),
        }
        Sheet().json(shown)
        return
    for row in rows:
        row["place"] = f"{row['epoch']}.{row['number']}"
        row["words"] = _words(row)
    columns = [
        Column("place", "key"),
        Column("fingerprint", "fingerprint"),
        Column("announced_by", "announced by"),
        Column("signs_at", "signs from", text=clock),
        Column("words", "is", style=lambda row: "green" if row["signs"] else ""),
    ]
    Sheet().show(rows, columns, as_json=False, empty="")
    narrate(f"recovery key  {fingerprint(recovery)}")
    _narrate_recovery(at_home)


def _words(row: dict[str, Any]) -> str:
    if row["stolen_at"] is not None:
        return "declared stolen: counts for nothing"
    if row["signs"]:
        return "signs"
    if row["trusted"] and row["signs_at"] > time.time():
        return "announced, will sign"
    return "trusted while the next takes over" if row["trusted"] else "replaced"


def _narrate_recovery(path: Path) -> None:
    if path.exists():
        narrate(
            f"! the recovery key lies in {path.absolute()}: move it to a safe place offline"
            " (two copies in two places), and delete it here"
        )


@click.command()
@click.option(
    "--overlap",
    type=span_seconds,
    default="24h",
    show_default=True,
    metavar="SPAN",
    help="How long the new key is announced before it signs.",
)
@home_option("hq")
def rotate(overlap: float, home: Path) -> None:
    """Make a new key that takes over from the present one after the overlap.

    Devices learn of it in their next welcome, signed by the present key; one that was asleep for
    several rotations follows them all. Do it once a year, and when somebody leaves who had access.

    \b
    Examples:
      hq key rotate
      hq key rotate --overlap 7d
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    from buswire.signing import fingerprint  # noqa: PLC0415 - cryptography
    from hqconsole import keyring as rings  # noqa: PLC0415

    acting(home, "keys")
    now_at = time.time()
    with open_ledger(home) as ledger:
        with ledger.write() as connection:
            new = rings.rotate(home, overlap, now_at).keys[-1]
            write_audit(
                connection, "key rotate", key=new.public.id, signs_at=new.signs_at, overlap=overlap
            )
        ring(home)
    narrate(f"the new key {fingerprint(new.public)} signs from {clock(new.signs_at)} on")
    narrate("back up the keys folder now, apart from backups of the ledger")
    narrate_hub(home, TAKES_EFFECT)


@click.command()
@click.option(
    "--recovery-key",
    "file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The recovery key, from where it is kept.",
)
@click.option(
    "--stolen",
    is_flag=True,
    help="Somebody else may have the keys of before: nothing that they sealed counts any more.",
)
@home_option("hq")
def recover(file: Path, stolen: bool, home: Path) -> None:
    """Replace every key by a new one at once, by the word of the recovery key.

    Devices learn in their next welcome that only the new key counts. Without --stolen, what was
    sealed before stays genuine; with it, the hub seals anew what it knows to be ours.

    \b
    Examples:
      hq key recover --recovery-key /media/usb/recovery.key              the disk died
      hq key recover --recovery-key /media/usb/recovery.key --stolen     somebody has it
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    from buswire.signing import fingerprint  # noqa: PLC0415 - cryptography
    from hqconsole import keyring as rings  # noqa: PLC0415

    acting(home, "keys")
    with open_ledger(home) as ledger:
        with ledger.write() as connection:
            new = rings.recover(home, file, stolen=stolen, at=time.time()).keys[-1]
            write_audit(
                connection,
                "key recover",
                key=new.public.id,
                epoch=new.entry.epoch,
                stolen=stolen,
            )
        ring(home)
    narrate(f"the new key {fingerprint(new.public)} signs from now on, and it alone is trusted")
    if stolen:
        narrate("every key of before counts for nothing from now on")
    narrate(f"take the recovery key away again: {shlex.quote(str(file))}")
    narrate_hub(home, TAKES_EFFECT)


@click.command()
@home_option("hq")
def export(home: Path) -> None:
    """Write what a device pins when it joins, as one line of JSON: recovery key and trusted keys.

    It is public. Bundles carry it; this is for programs that make device files by themselves, and
    for whoever checks evidence: "recovery" is what hq evidence --check --recovery-key takes.

    \b
    Example:
      hq key export > trust.json
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    import msgspec  # noqa: PLC0415 - only this verb needs it

    from hqconsole.keyring import Keyring  # noqa: PLC0415 - cryptography

    read_hq_settings(home)
    Sheet().text(msgspec.json.encode(Keyring.load(home).trusted()).decode())
