"""What does not fit between the operators, the roster, the kinds and the approval policy.

Owns the sentences that `hq operators check` says. Pure: it is given what the others know.
"""

from collections.abc import Collection, Iterable

from hqconsole.approval import ApprovalPolicy
from hqconsole.kinds import Kind
from hqconsole.operators import RIGHTS, Operators
from hqconsole.suggestions import close_names

_NAMED = 5


def misfits(
    operators: Operators,
    *,
    present: str,
    regions: Collection[str],
    kinds: Iterable[Kind],
    policy: ApprovalPolicy,
) -> list[str]:
    """Return what somebody should look at, a sentence each; none when all fits.

    Args:
        operators: As they stand in the file.
        present: Who works at this command line.
        regions: Those of the roster.
        kinds: Every kind that is defined.
        policy: Of approval.
    """
    if operators.file is None:
        return []
    defined = {kind.name: kind for kind in kinds}
    approval = _approval_matters(defined.values(), policy)
    return [
        *_about_present(operators, present),
        *_about_names(operators, regions, defined),
        *_about_rights(operators, approval=approval),
        *_about_managers(operators, regions),
    ]


def _approval_matters(kinds: Iterable[Kind], policy: ApprovalPolicy) -> bool:
    return (
        bool(policy.kinds)
        or policy.above_mailboxes is not None
        or any(kind.approval for kind in kinds)
    )


def _about_present(operators: Operators, present: str) -> list[str]:
    if operators.find(present) is not None:
        return []
    return [f"you are {present}, who is not in the file: STOREBUS_OPERATOR says who works here"]


def _about_names(
    operators: Operators, regions: Collection[str], kinds: Collection[str]
) -> list[str]:
    found: list[str] = []
    for one in operators.listed.values():
        no_regions = sorted({*(one.regions or ()), *one.manages} - set(regions))
        no_kinds = sorted(set(one.kinds or ()) - set(kinds))
        found += [
            *(f"{one.name}: the roster has no region {x}{_near(x, regions)}" for x in no_regions),
            *(f"{one.name}: no kind is called {x}{_near(x, kinds)}" for x in no_kinds),
        ]
    return found


def _near(name: str, known: Collection[str]) -> str:
    near = close_names(name, known)
    return f"; did you mean {near[0]}?" if near else ""


def _about_rights(operators: Operators, *, approval: bool) -> list[str]:
    found = [
        f"nobody may {right}: {meaning}"
        for right, meaning in RIGHTS.items()
        if (right != "approve" or approval) and not operators.able(right)
    ]
    approvers = operators.able("approve")
    if approval and len(approvers) == 1 and "publish" in approvers[0].rights:
        found.append(
            f"only {approvers[0].name} may approve: what {approvers[0].name} writes nobody lets out"
        )
    return found


def _about_managers(operators: Operators, regions: Collection[str]) -> list[str]:
    """A chain that names managers has one for every region."""
    if not any(one.manages for one in operators.listed.values()):
        return []
    without = sorted(region for region in regions if not operators.managers(region))
    if not without:
        return []
    rest = f" and {len(without) - _NAMED} more" if len(without) > _NAMED else ""
    return [f"nobody manages {', '.join(without[:_NAMED])}{rest}: escalations go to no one there"]
