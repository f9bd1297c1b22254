"""`cannot`: why stores cannot, put together by what they say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Column, Sheet, narrate
from hqconsole.commands.archive_option import archive_option, find_here, reading
from hqconsole.ledger import breakdowns, views
from hqconsole.reason_clusters import clusters

_STORES_NAMED = 6
_GROUPS_NAMED = 5


@click.command()
@click.argument("directive", metavar="ID")
@click.option(
    "--by",
    "grouping",
    type=click.Choice(["region", "role"]),
    default="region",
    show_default=True,
    help="How the counts are split.",
)
@archive_option
@home_option("hq")
@json_option
def cannot(
    directive: str, grouping: str, archive_file: Path | None, home: Path, as_json: bool
) -> None:
    """Say why the stores that cannot do it cannot: the same reason once, with how many give it.

    Reasons are put together by head office's code, then by their words: letter case and
    punctuation do not matter, nor what is said around the same words.

    \b
    Examples:
      hq cannot 3f2a
      hq cannot 3f2a --by role
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    with reading(home, archive_file) as connection:
        no = find_here(connection, directive, f"hq cannot {directive}")
        said = breakdowns.cannot(connection, no, grouping)
        offered = _offered(views.document_of(connection, no))
        short_id = views.directive_id(connection, no)[: views.SHORT_ID]
        names = breakdowns.group_names(connection, no, grouping)
    found = [
        {
            "code": cluster.code,
            "text": offered.get(cluster.code, ""),
            "count": cluster.count,
            "by": dict(cluster.groups),
            "stores": list(cluster.stores),
            "wordings": [
                {
                    "text": one.text,
                    "count": one.count,
                    "by": dict(one.groups),
                    "stores": list(one.stores),
                }
                for one in cluster.wordings
            ],
        }
        for cluster in clusters(said)
    ]
    sheet = Sheet()
    if as_json:
        sheet.json(found)
        return
    columns = [
        Column("count", "mailboxes", right=True),
        Column("reason", "reason", style=lambda row: "" if row["inner"] else "bold"),
        Column("by", f"by {grouping}", text=lambda by: _counts(by, names)),
        Column("stores", "stores", text=_some),
    ]
    sheet.show(_rows(found), columns, as_json=False, empty="nobody says that they cannot")
    if found:
        narrate(f"{len(said):,} cannot; each of them: hq who {short_id} --state cannot")


def _offered(document: Mapping[str, Any]) -> dict[str, str]:
    """The reasons that the directive offers, by their codes."""
    reasons = document.get("reasons") or []
    return {
        str(one.get("code")): str(one.get("text", "")) for one in reasons if isinstance(one, dict)
    }


def _rows(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each code, and its wordings below; without codes the wordings alone."""
    rows = []
    for cluster in found:
        coded = bool(cluster["code"])
        if coded or not cluster["wordings"]:
            title = cluster["text"] or cluster["code"] or "(no reason given)"
            rows.append({**cluster, "reason": title, "inner": False})
        for wording in cluster["wordings"]:
            reason = f"  {wording['text']}" if coded else wording["text"]
            rows.append({**wording, "reason": reason, "inner": coded})
        worded = sum(wording["count"] for wording in cluster["wordings"])
        if not coded and cluster["wordings"] and worded < cluster["count"]:
            rest = {"count": cluster["count"] - worded, "by": {}, "stores": []}
            rows.append({**rest, "reason": "(no reason given)", "inner": False})
    return rows


def _counts(by: Mapping[str, int], names: Mapping[str, str]) -> str:
    shown = [f"{names.get(group) or group} {count:,}" for group, count in by.items()]
    more = len(shown) - _GROUPS_NAMED
    return ", ".join(shown[:_GROUPS_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _some(stores: list[str]) -> str:
    more = len(stores) - _STORES_NAMED
    return " ".join(stores[:_STORES_NAMED]) + (f" and {more:,} more" if more > 0 else "")
