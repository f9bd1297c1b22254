"""`tool`: its verbs, for programs of the operators' that listen at the broker."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import click

from buskit.cli import CommandGroup, home_option, json_option
from buskit.doorbell import ring
from buskit.terminal import Column, Sheet, clock, narrate
from buswire.access import TOOL_PREFIX
from hqconsole.commands.common import TAKES_EFFECT, acting, narrate_hub, operator, write_audit
from hqconsole.home import read_hq_settings
from hqconsole.ledger import tools
from hqconsole.ledger.opening import open_ledger

_HERE = "hqconsole.commands.tool"

tool = CommandGroup(
    name="tool",
    help=(
        "Programs of yours that listen at the broker: dashboards, loggers. They say nothing.\n\n"
        "\b\n"
        "Examples:\n"
        "  hq tool add dashboard\n"
        "  hq tool add receipts --reads 'from/+/+'\n"
        "  hq tool list\n"
        "  hq tool revoke dashboard\n"
    ),
    sections={
        "Verbs": {
            "add": (f"{_HERE}:add", "Let a tool listen; prints its token, once."),
            "list": (f"{_HERE}:list_tools", "Which tools there are, and what they hear."),
            "revoke": (f"{_HERE}:revoke", "Shut a tool out."),
        }
    },
)


@click.command()
@click.argument("name")
@click.option(
    "--reads",
    multiple=True,
    metavar="FILTER",
    help="Topics that it may hear, below the root; several add up.  [default: everything]",
)
@home_option("hq")
@json_option
def add(name: str, reads: Sequence[str], home: Path, as_json: bool) -> None:
    """Let a program listen at the broker as tool/NAME. Its token is shown now and never again.

    Said again for the same name, it gets a new token and these filters; the old token is void.

    \b
    Examples:
      hq tool add dashboard
      hq tool add receipts --reads 'from/+/+' --reads hq
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    from buskit.secrets import new_token  # noqa: PLC0415 - only who makes one needs it
    from buswire.access import token_hash  # noqa: PLC0415

    settings = read_hq_settings(home)
    acting(home, "keys")
    filters = [tools.filter_below(text, settings.topics) for text in reads or ("#",)]
    token = new_token()
    with open_ledger(home) as ledger:
        with ledger.write() as connection:
            replaced = tools.add(
                connection,
                name,
                filters,
                token_hash=token_hash(token),
                at=time.time(),
                by=operator(),
            )
            write_audit(connection, "tool add", tool=name, reads=filters, replaced=replaced)
        ring(home)
    user = TOOL_PREFIX + name
    if as_json:
        Sheet().json({"name": name, "user": user, "token": token, "reads": filters})
        return
    words: dict[str, str] = {
        "user name": user,
        "client id": user,
        "password": token,
        "hears": " ".join(filters),
    }
    Sheet().show_one(words, [Column(key, key) for key in words], as_json=False)
    if replaced:
        narrate("the token that it had is void")
    narrate("keep the password now: only its hash is kept here. Try it:")
    narrate("  " + _try_it(home, settings.brokers, user, token, filters))
    narrate_hub(home, TAKES_EFFECT)


def _try_it(
    home: Path, brokers: Sequence[str], user: str, token: str, filters: Sequence[str]
) -> str:
    """A line for a shell that listens with mosquitto's client."""
    from buskit.link_settings import Address  # noqa: PLC0415 - only this line needs it

    addresses = [Address.parse(url) for url in brokers]
    # Its client speaks no WebSocket everywhere.
    address = next((one for one in addresses if one.path is None), addresses[0])
    words = ["mosquitto_sub", "-h", address.host, "-p", str(address.port), "-v"]
    if address.tls:
        words += ["--cafile", str(home.absolute() / "tls" / "ca.pem")]
    words += ["-i", user, "-u", user, "-P", token]
    for one in filters:
        words += ["-t", one]
    return shlex.join(words)


@click.command("list")
@home_option("hq")
@json_option
def list_tools(home: Path, as_json: bool) -> None:
    """Show the tools: what each may hear, who let it in, and whether it was revoked.

    \b
    Example:
      hq tool list --json
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    with open_ledger(home) as ledger, ledger.read() as connection:
        found = tools.tools(connection)
    columns = [
        Column("name", "tool"),
        Column("reads", "may hear"),
        Column("made_at", "since", text=clock),
        Column("made_by", "by"),
        Column("revoked_at", "revoked", text=lambda at: "" if at is None else clock(at)),
    ]
    Sheet().show(found, columns, as_json=as_json, empty="no tools: hq tool add NAME")


@click.command()
@click.argument("name")
@home_option("hq")
def revoke(name: str, home: Path) -> None:
    """Shut a tool out: the broker ends its connection within a second.

    \b
    Example:
      hq tool revoke dashboard
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    acting(home, "keys")
    with open_ledger(home) as ledger:
        with ledger.write() as connection:
            tools.revoke(connection, name, at=time.time())
            write_audit(connection, "tool revoke", tool=name)
        ring(home)
    narrate(f"{TOOL_PREFIX}{name} is shut out")
    narrate_hub(home, TAKES_EFFECT)
