"""Approval: which directives somebody else than their author has to look at first.

Owns the policy that stands in hq.toml below `[approval]`, and the judgement. Must not know
operators (who may approve is `hqconsole.operators`' business), the ledger or commands.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hqconsole.kinds import Kind


@dataclass(frozen=True, slots=True)
class ApprovalPolicy:
    """What needs a second pair of eyes; without any rule nothing does, but what its kind says.

    Attributes:
        above_mailboxes: More of them than this do; None where the number does not matter.
        kinds: Of directives that always do.
    """

    above_mailboxes: int | None = None
    kinds: tuple[str, ...] = ()


def needs_approval(policy: ApprovalPolicy, kind: "Kind", mailboxes: int) -> str | None:
    """Return why a directive needs approval, for people, or None when it needs none.

    Args:
        policy: As the settings have it.
        kind: The directive's.
        mailboxes: How many it is for.
    """
    if kind.approval or kind.name in policy.kinds:
        return f"every {kind.name} needs approval"
    if policy.above_mailboxes is not None and mailboxes > policy.above_mailboxes:
        return f"it is for {mailboxes:,} mailboxes: above {policy.above_mailboxes:,} needs approval"
    return None
