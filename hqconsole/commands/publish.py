"""`publish`: issue a directive to exactly the right stores."""

import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from buskit.cli import home_option, json_option
from buskit.doorbell import ring
from buskit.terminal import Column, Sheet, narrate
from buswire.messages import DIRECTIVE_BYTES_LIMIT
from buswire.names import ANY_ROLE
from buswire.states import Needs
from hqconsole.audience import Mailbox, Organisation, Selector, cover, digest, left_out, select
from hqconsole.commands.common import by_option, narrate_hub, write_audit
from hqconsole.errors import HqError
from hqconsole.home import hub_state, new_id, read_hq_settings
from hqconsole.ledger import directives, store_views
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.organisation import organisation
from hqconsole.ledger.views import SHORT_ID
from hqconsole.moments import EXAMPLES, Moment, parse_moment
from hqconsole.zones import time_zone

_PRIORITIES = ("low", "normal", "high", "urgent")
_NEEDS_OF_KIND = {"task": Needs.DONE, "recall": Needs.DONE}
_NAMED = 5
_CHANNELS_NAMED = 8
_MANY = 20_000


@click.command()
@click.argument("title")
@click.option("--body", metavar="TEXT", help="The text.")
@click.option("-f", "--file", "body_file", metavar="FILE", help="The text from a file; - is stdin.")
@click.option("--region", "regions", multiple=True, help="Every store of this region.")
@click.option("--store", "stores", multiple=True, help="This store.")
@click.option("--role", "roles", multiple=True, help="For this role; otherwise the whole store.")
@click.option("--tag", "tags", multiple=True, help="Only stores with this tag.")
@click.option("--all", "everyone", is_flag=True, help="Every store.")
@click.option("--kind", default="notice", show_default=True, help="notice, task, recall, ...")
@click.option(
    "--needs",
    type=click.Choice([needs.value for needs in Needs]),
    help="What is asked of them; done for tasks and recalls, otherwise read.",
)
@click.option("--due", metavar="WHEN", help="On each store's own clock, such as 'Friday 18:00'.")
@click.option("--expires", metavar="WHEN", help="When it closes by itself; on head office's clock.")
@click.option("--priority", type=click.Choice(_PRIORITIES), default="normal", show_default=True)
@click.option("--dry-run", is_flag=True, help="Only show whom it would reach, and how.")
@by_option
@home_option("hq")
@json_option
def publish(
    *,
    title: str,
    body: str | None,
    body_file: str | None,
    regions: Sequence[str],
    stores: Sequence[str],
    roles: Sequence[str],
    tags: Sequence[str],
    everyone: bool,
    kind: str,
    needs: str | None,
    due: str | None,
    expires: str | None,
    priority: str,
    dry_run: bool,
    by: str,
    home: Path,
    as_json: bool,
) -> None:
    """Issue a directive. Places add up, tags restrict, roles name who it is for in each store.

    Durable when the command returns; works with the hub down.

    \b
    Examples:
      hq publish 'Golden Week' -f golden.md --region east --role manager \\
          --kind task --due 'Friday 18:00'
      hq publish 'Pull lot 2231' --all --kind recall --priority urgent
      hq publish 'Open late' --store S017 --body 'Until 22:00.' --dry-run
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    settings = read_hq_settings(home)
    now_at = time.time()
    zone = time_zone(settings.timezone)
    now = datetime.fromtimestamp(now_at, ZoneInfo(zone))
    draft = directives.Draft(
        title=_checked(title, "the title", 200),
        body=_body(body, body_file),
        kind=_checked(kind, "the kind", 40),
        needs=Needs(needs) if needs else _NEEDS_OF_KIND.get(kind, Needs.READ),
        priority=priority,
        due=None if due is None else str(parse_moment(due, now=now)),
        expires_at=None if expires is None else _expiry(parse_moment(expires, now=now), zone, now),
        issued_by=by[:500],
    )
    selector = Selector(
        regions=tuple(regions),
        stores=tuple(stores),
        roles=tuple(roles),
        tags=tuple(tags),
        everyone=everyone,
    )
    with open_ledger(home) as ledger:
        if dry_run:
            with ledger.read() as connection:
                there = organisation(connection)
                mailboxes = select(selector, there)
                found = _plan(mailboxes, there)
                unserved = store_views.unserved(connection, mailboxes)
                found["unserved"] = len(unserved)
                found["unserved_mailboxes"] = [str(mailbox) for mailbox in unserved]
        else:
            with ledger.write() as connection:
                there = organisation(connection)
                mailboxes = select(selector, there)
                if len(mailboxes) >= _MANY and sys.stderr.isatty():
                    narrate(f"writing {len(mailboxes):,} deliveries ...")
                issued = directives.issue(
                    connection, draft, mailboxes, there, at=now_at, new_id=new_id
                )
                write_audit(
                    connection,
                    "publish",
                    directive=issued.id,
                    title=draft.title,
                    mailboxes=issued.mailboxes,
                    digest=issued.digest,
                    by=draft.issued_by,
                )
            ring(home)
            found = {
                "id": issued.id,
                "short_id": issued.id[:SHORT_ID],
                **_facts(mailboxes, [str(channel) for channel in issued.channels], issued.digest),
            }
    found |= {
        "needs": draft.needs.value,
        "due": draft.due,
        "expires_at": draft.expires_at,
        "dry_run": dry_run,
    }
    for store_id in left_out(selector, mailboxes):
        narrate(f"! store {store_id} was named and is left out: it lacks that role or tag")
    if as_json:
        found["hub_running"] = hub_state(home).running
        Sheet().json(found)
        return
    _show(found)
    if dry_run:
        narrate("nothing was issued; the same without --dry-run issues it")
    else:
        narrate_hub(home)
        narrate(f"follow it with: hq status {found['short_id']} --watch")


def _plan(mailboxes: set[Mailbox], there: Organisation) -> dict[str, Any]:
    uses = cover(mailboxes, there)
    return _facts(mailboxes, [str(use.channel) for use in uses], digest(mailboxes))


def _facts(mailboxes: set[Mailbox], channels: Sequence[str], fingerprint: str) -> dict[str, Any]:
    return {
        "mailboxes": len(mailboxes),
        "stores": len({mailbox.store for mailbox in mailboxes}),
        "roles": sorted({mailbox.role for mailbox in mailboxes}),
        "channels": list(channels),
        "digest": fingerprint,
    }


def _show(found: dict[str, Any]) -> None:
    roles = [role for role in found["roles"] if role != ANY_ROLE]
    words: dict[str, str] = {}
    if "short_id" in found:
        words["id"] = found["short_id"]
    words["audience"] = (
        f"{found['mailboxes']:,} mailboxes in {found['stores']:,} stores"
        f" ({', '.join(roles) or 'the store as a whole'})"
    )
    channels = found["channels"]
    more = len(channels) - _CHANNELS_NAMED
    words["channels"] = f"{len(channels)}: " + " ".join(channels[:_CHANNELS_NAMED])
    if more > 0:
        words["channels"] += f" and {more} more"
    words["needs"] = found["needs"]
    if found["due"]:
        local = Moment.from_text(found["due"]).is_local
        words["due"] = found["due"] + (" on each store's own clock" if local else "")
    if "unserved" in found:
        names = found["unserved_mailboxes"][:_NAMED]
        more = found["unserved"] - len(names)
        words["unserved"] = "0: a device serves each of them"
        if found["unserved"]:
            words["unserved"] = (
                f"{found['unserved']:,} mailboxes that no device was ever heard to serve: "
                + " ".join(names)
                + (f" and {more:,} more" if more else "")
            )
    Sheet().show_one(words, [Column(key, key) for key in words], as_json=False)


def _checked(text: str, what: str, most: int) -> str:
    text = " ".join(text.split())
    if not text:
        raise click.UsageError(f"{what} is empty")
    if len(text) > most:
        raise click.UsageError(f"{what} has {len(text)} characters, {most} are the most")
    return text


def _body(text: str | None, file: str | None) -> str:
    if text is not None and file is not None:
        raise click.UsageError("--body and --file contradict each other; leave one out")
    if file is None:
        return text or ""
    # One byte more than can ever fit tells that it does not, however long the file is.
    if file == "-":
        data = sys.stdin.buffer.read(DIRECTIVE_BYTES_LIMIT + 1)
    else:
        with Path(file).open("rb") as opened:
            data = opened.read(DIRECTIVE_BYTES_LIMIT + 1)
    if len(data) > DIRECTIVE_BYTES_LIMIT:
        raise HqError(
            f"the text is longer than the {DIRECTIVE_BYTES_LIMIT:,} bytes of a directive",
            hint="shorten it, or say where to find the rest",
        )
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise HqError(
            f"the text is not UTF-8 (byte {error.start})", hint="save it as UTF-8 and try again"
        ) from None


def _expiry(moment: Moment, zone: str, now: datetime) -> float:
    at = moment.at(zone)
    if at <= now.timestamp():
        raise HqError(f"{moment} is past in {zone}", hint=f"write a time to come: {EXAMPLES}")
    return at
