"""`kinds`: what is settled for each kind of directive."""

from pathlib import Path
from typing import Any

import click
import msgspec

from buskit.cli import home_option, json_option
from buskit.terminal import Column, Sheet, narrate
from hqconsole import kinds as known
from hqconsole.approval import ApprovalPolicy
from hqconsole.home import SETTINGS_NAME, read_hq_settings
from hqconsole.kinds import Kind
from hqconsole.reminders import escalation_words, span_words, words


@click.command()
@home_option("hq")
@json_option
def kinds(home: Path, as_json: bool) -> None:
    """Show what is settled for each kind of directive; hq publish can say otherwise of one.

    notice, task and recall are there by themselves. Change them, and add your own, in hq.toml:

    \b
      [kinds.display]
      needs = "done"
      priority = "high"
      approval = true
      reasons = [{ code = "no-poster", text = "The poster is missing", zh = "海报缺失" }]
      remind = ["2h before due", "every 4h after due, 6 times, 08:00-20:00"]
      escalate = ["24h late: region manager"]
      expires_after = "30d"

    \b
      [approval]
      above_mailboxes = 500
      kinds = ["recall"]

    \b
    Examples:
      hq kinds
      hq kinds --json
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    settings = read_hq_settings(home)
    rows = [_row(kind, settings.approval) for kind in known.every(settings)]
    above = settings.approval.above_mailboxes
    if as_json:
        Sheet().json({"approval_above_mailboxes": above, "kinds": rows})
        return
    columns = [
        Column("kind", "kind"),
        Column("needs", "asks for"),
        Column("priority", "priority"),
        Column("approval", "approval"),
        Column("expires_after_seconds", "ends after", text=_span),
        Column("reasons", "reasons", text=_codes),
        Column("remind", "reminds", text="; ".join),
        Column("escalate", "escalates", text="; ".join),
    ]
    Sheet().show(rows, columns, as_json=False, empty="")
    if above is not None:
        narrate(f"what is for more than {above:,} mailboxes needs approval, whatever its kind")
    narrate(f"to change it: {home.absolute() / SETTINGS_NAME}, below [kinds.NAME]")


def _row(kind: Kind, policy: ApprovalPolicy) -> dict[str, Any]:
    return {
        "kind": kind.name,
        "needs": kind.needs.value,
        "priority": kind.priority,
        "approval": kind.approval or kind.name in policy.kinds,
        "expires_after_seconds": kind.expires_after_seconds,
        "reasons": [{"texts": {}, **msgspec.to_builtins(one)} for one in kind.reasons],
        "remind": [words(rule) for rule in kind.remind],
        "escalate": [escalation_words(rule) for rule in kind.escalate],
    }


def _span(seconds: float | None) -> str:
    return "" if seconds is None else span_words(seconds)


def _codes(reasons: list[dict[str, Any]]) -> str:
    return ", ".join(one["code"] for one in reasons)
