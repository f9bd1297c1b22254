"""Operators: who at head office may do what, from the file `operators.toml` in HQ's home.

Owns the rights there are, the judgement `permit`, and where the file is; `operators_file` owns what
it means. Must not know commands, the ledger, or how somebody proves who they are: the name is what
the machine says.

It is a rule for honest people, and what the audit goes by; whoever can write the ledger can do all.

Invariants:
- Without a file everyone may do everything: a small chain needs none.
- A file that cannot be read or understood allows nothing to anybody, and says where and what.
- Who is not in the file may change nothing. To look is never refused.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from buswire.names import shown
from hqconsole.errors import HqError
from hqconsole.suggestions import close_names

FILE_NAME: Final = "operators.toml"
HINT_CHECK: Final = "nobody may change anything until it is right; look again: hq operators check"

RIGHTS: Final[Mapping[str, str]] = {
    "publish": "write directives, send them, pace their waves; save audiences",
    "approve": "let out, or deny, what somebody else wrote",
    "cancel": "withdraw directives",
    "remind": "remind stores of what is open",
    "escalations": "note that an escalation was seen; who manages the region may that, too",
    "roster": "import the roster; say which roles a device serves",
    "devices": "let devices in, and shut them out",
    "upkeep": "restore the ledger, archive, acknowledge incidents, empty the quarantine",
    "keys": "head office's keys, the certificates of the broker, and who may listen at it",
    "settings": "change head office's settings",
}
"""Every right, and what it lets somebody do."""

PRESETS: Final[Mapping[str, tuple[str, ...]]] = {
    "viewer": (),
    "operator": ("publish", "cancel", "remind", "escalations"),
    "approver": ("approve",),
    "technician": ("roster", "devices", "upkeep"),
    "admin": tuple(RIGHTS),
}
"""Words that stand for several rights."""

_NAMED = 5


class OperatorsError(HqError):
    """The file cannot be read or understood, so that nobody may change anything."""


class NotPermitted(HqError):  # noqa: N818 - what it says is no fault
    """This operator may not do this.

    Attributes:
        operator: Who asked.
        right: Which right it takes.
        kind: Of directive, where that matters.
        regions: Which of the regions are not theirs.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str,
        operator: str,
        right: str,
        kind: str | None = None,
        regions: Sequence[str] = (),
    ) -> None:
        """Keep what the audit says of it."""
        super().__init__(message, hint=hint)
        self.operator = operator
        self.right = right
        self.kind = kind
        self.regions = tuple(regions)


@dataclass(frozen=True, slots=True)
class Operator:
    """One person, or one program, that works at head office.

    Attributes:
        name: As `$STOREBUS_OPERATOR` or the machine has it.
        display_name: What people call them.
        department: Goes into the audit.
        rights: Some of `RIGHTS`.
        kinds: Of directives that the rights are for; None for every kind.
        regions: That the rights are for; None for all of the chain.
        manages: Regions whose manager this is: escalations go to them.
        email: For whoever sends them something; nothing here does.
        phone: Likewise.
    """

    name: str
    display_name: str = ""
    department: str = ""
    rights: frozenset[str] = frozenset()
    kinds: tuple[str, ...] | None = None
    regions: tuple[str, ...] | None = None
    manages: tuple[str, ...] = ()
    email: str = ""
    phone: str = ""

    @property
    def words(self) -> str:
        """The name for people: `Ana Li (ana)`."""
        return f"{self.display_name} ({self.name})" if self.display_name else self.name

    def outside(self, regions: Iterable[str]) -> list[str]:
        """Those of the regions that are not theirs."""
        if self.regions is None:
            return []
        return sorted(set(regions) - set(self.regions))


@dataclass(frozen=True, slots=True)
class Operators:
    """Everyone who is named, or nobody where there is no file.

    Attributes:
        file: Where they stand; None where there is no file and everyone may do everything.
        listed: By name, in the order of the file.
    """

    file: Path | None = None
    listed: Mapping[str, Operator] = field(default_factory=dict)

    def find(self, name: str) -> Operator | None:
        """Who that is; without a file somebody who may do everything."""
        if self.file is None:
            return Operator(name, rights=frozenset(RIGHTS))
        return self.listed.get(unicodedata.normalize("NFC", name))

    def managers(self, region: str) -> list[Operator]:
        """Whom escalations of a region go to."""
        return [one for one in self.listed.values() if region in one.manages]

    def able(
        self,
        right: str,
        *,
        kind: str | None = None,
        regions: Iterable[str] = (),
        author: str | None = None,
    ) -> list[Operator]:
        """Everyone who is named and could do this."""
        wanted = tuple(regions)
        return [
            one
            for one in self.listed.values()
            if _manages(one, right, wanted)
            or (
                right in one.rights
                and _of_kind(one, kind)
                and not one.outside(wanted)
                and not _same(one.name, author)
            )
        ]


def permit(
    operators: Operators,
    name: str,
    right: str,
    *,
    kind: str | None = None,
    regions: Iterable[str] = (),
    author: str | None = None,
) -> Operator:
    """Judge whether this operator may do this; changes nothing.

    Args:
        operators: As `load` gave them.
        name: Who asks.
        right: One of `RIGHTS`.
        kind: Of the directive, where it is about one.
        regions: Every region that it touches; none where it is about no region.
        author: With `approve`: who wrote it, who may not be the one that approves. That holds
            without a file, too.

    Returns:
        Who asked.

    Raises:
        NotPermitted: Says who, which right, for what it is lacking, and who could.
        ValueError: There is no such right.
    """
    if right not in RIGHTS:
        raise ValueError(f"there is no right {right}")
    wanted = tuple(regions)
    found = operators.find(name)
    outside: list[str] = []
    if found is not None and _manages(found, right, wanted):
        return found
    if found is None:
        message = f"{shown(name)} is not in {operators.file} and may change nothing"
    elif right not in found.rights:
        message = f"{found.words} does not have the right {right}: {RIGHTS[right]}"
    elif not _of_kind(found, kind):
        message = f"{found.words} has the right {right}, but not for the kind {kind}"
        message += _only(found.kinds)
    elif outside := found.outside(wanted):
        message = f"{found.words} has the right {right}, but not in {_listed(outside[:_NAMED])}"
        message += _rest(outside) + _only(found.regions)
    elif _same(name, author):
        message = f"{found.words} wrote it: somebody else has to approve it"
    else:
        return found
    raise NotPermitted(
        message,
        hint=_who_could(
            operators, name, right, operators.able(right, kind=kind, regions=wanted, author=author)
        ),
        operator=name,
        right=right,
        kind=kind,
        regions=outside,
    )


def _manages(one: Operator, right: str, regions: Sequence[str]) -> bool:
    """Whether it is an escalation of their own regions, which takes no right."""
    return right == "escalations" and bool(regions) and set(regions) <= set(one.manages)


def _of_kind(one: Operator, kind: str | None) -> bool:
    return kind is None or one.kinds is None or kind in one.kinds


def _same(name: str, author: str | None) -> bool:
    """Whether two names are one person's; letter case does not make two of one."""
    return author is not None and folded(name) == folded(author)


def folded(name: str) -> str:
    """The name as names are compared: two that are the same here are one person's."""
    return unicodedata.normalize("NFC", name).casefold()


def _only(names: Sequence[str] | None) -> str:
    return f" (only {_listed(names[:_NAMED])}{_rest(names)})" if names else ""


def _rest(names: Sequence[object]) -> str:
    return f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""


def _who_could(operators: Operators, name: str, right: str, able: Sequence[Operator]) -> str:
    if operators.file is None:
        return "somebody else has to, as themselves: STOREBUS_OPERATOR says who works here"
    near = close_names(name, operators.listed)
    if operators.find(name) is None and near:
        return f"did you mean {' or '.join(near)}? say who works here: STOREBUS_OPERATOR={near[0]}"
    if not able:
        return f'nobody in {operators.file} could: give somebody the right "{right}" there'
    return "who could: " + ", ".join(one.words for one in able[:_NAMED]) + _rest(able)


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def load(home: Path) -> Operators:
    """Read the operators of a home.

    Raises:
        OperatorsError: There is a file, and it cannot be read or understood; names the line.
    """
    path = home / FILE_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        if not path.is_symlink():  # one that leads nowhere is a file that was lost
            return Operators()
        raise OperatorsError(f"{path} leads to a file that is gone", hint=HINT_CHECK) from None
    except OSError as error:
        raise OperatorsError(
            f"{path} cannot be read: {error.strerror or error}", hint=HINT_CHECK
        ) from error
    from hqconsole.operators_file import parse  # noqa: PLC0415 - most homes have no such file

    return Operators(path, parse(content, str(path)))
