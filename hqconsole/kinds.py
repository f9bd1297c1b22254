"""Kinds of directives: what head office settles once for every notice, task, recall, ...

Owns what a kind settles, the kinds that are there without a word in the settings, and the reading
of `[kinds.NAME]` and `[approval]` in hq.toml. Must not know directives, the ledger or commands.

A table in the settings changes what it names of a kind and leaves the rest as it was; a kind that
nobody defined is like a notice.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from buswire.messages import Reason, Reminder
from buswire.names import shown
from buswire.states import Needs
from hqconsole.approval import ApprovalPolicy
from hqconsole.errors import HqError
from hqconsole.reminders import Escalation, parse_escalation, parse_rules, parse_span
from hqconsole.suggestions import close_names

if TYPE_CHECKING:
    from hqconsole.home import HqSettings

PRIORITIES: Final = ("low", "normal", "high", "urgent")
_MOST_REASONS = 50
_MOST_REMINDERS = 10
_MOST_ESCALATIONS = 10
_NAME = re.compile(r"[^\s\x00-\x1f][^\x00-\x1f]{0,39}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*")
_FIELDS = (
    "needs",
    "priority",
    "approval",
    "reasons",
    "remind",
    "escalate",
    "expires_after",
)


class KindError(HqError):
    """The settings say of a kind what cannot be."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Kind:
    """What is settled for every directive of a kind; who writes one may say otherwise.

    Attributes:
        name: As `--kind` has it.
        needs: What is asked of a store.
        priority: One of `PRIORITIES`.
        approval: Whether somebody else than the author has to let it out.
        reasons: What a store that cannot chooses from; none for free text alone.
        remind: When devices remind of what is open; counts from the due time.
        escalate: When somebody else is told of what is late.
        expires_after_seconds: Without an expiry of its own it ends so long after it went out; None
            for never.
    """

    name: str
    needs: Needs = Needs.READ
    priority: str = "normal"
    approval: bool = False
    reasons: tuple[Reason, ...] = ()
    remind: tuple[Reminder, ...] = ()
    escalate: tuple[Escalation, ...] = ()
    expires_after_seconds: float | None = None


def _reason(code: str, text: str, zh: str) -> Reason:
    return Reason(code=code, text=text, texts={"zh": zh})


_NO_STAFF = _reason("no-staff", "Not enough staff", "人手不足")
BUILT_IN: Final[Mapping[str, Kind]] = {
    "notice": Kind("notice"),
    "task": Kind(
        "task",
        needs=Needs.DONE,
        reasons=(
            _NO_STAFF,
            _reason("no-material", "Material or goods are missing", "缺少物料或商品"),
            _reason("equipment", "Equipment is broken", "设备故障"),
            _reason("not-here", "Does not apply to this store", "不适用于本店"),
        ),
        remind=parse_rules("2h before due and every 4h after due, 6 times, 08:00-20:00"),
        escalate=(parse_escalation("24h late: region manager"),),
    ),
    "recall": Kind(
        "recall",
        needs=Needs.DONE,
        priority="urgent",
        reasons=(
            _reason("never-had", "We never had these goods", "本店从未有过该商品"),
            _reason("sold-out", "All of it is sold", "已全部售出"),
            _NO_STAFF,
        ),
        remind=parse_rules("30m before due and every 30m after due, 24 times"),
        escalate=(parse_escalation("2h late: region manager"),),
    ),
}
"""The kinds that are there without a word in the settings."""


def of(settings: "HqSettings", kind: str) -> Kind:
    """What is settled for directives of this kind, whether anybody defined it or not."""
    for one in settings.kinds:
        if one.name == kind:
            return one
    return BUILT_IN.get(kind, Kind(kind))


def every(settings: "HqSettings") -> list[Kind]:
    """Every kind that is defined: those that are always there, then the chain's own."""
    return [of(settings, name) for name in {**BUILT_IN, **{k.name: k for k in settings.kinds}}]


def parse_kinds(tables: Mapping[str, Any]) -> tuple[Kind, ...]:
    """Understand the tables `[kinds.NAME]` of the settings.

    Raises:
        KindError: One says what cannot be; the hint says what to write.
        RuleError: A rule in it cannot be read.
    """
    return tuple(_kind(name, table) for name, table in tables.items())


def parse_approval(table: Mapping[str, Any]) -> ApprovalPolicy:
    """Understand the table `[approval]` of the settings.

    Raises:
        KindError: It says what cannot be.
    """
    _refuse_unknown(table, ("above_mailboxes", "kinds"), "approval")
    above = table.get("above_mailboxes")
    whole = isinstance(above, int) and not isinstance(above, bool)
    if above is not None and (not whole or above < 0):
        raise KindError(f"approval.above_mailboxes is {above!r}", hint="a whole number, such as 50")
    kinds = table.get("kinds", [])
    if not isinstance(kinds, list) or not all(isinstance(one, str) for one in kinds):
        raise KindError(f"approval.kinds is {kinds!r}", hint='a list, such as ["recall"]')
    return ApprovalPolicy(above_mailboxes=above, kinds=tuple(kinds))


def _kind(name: str, table: Any) -> Kind:
    where = f"kinds.{name}"
    if _NAME.fullmatch(name) is None:
        raise KindError(f"{shown(name)} is no name of a kind", hint="1 to 40 characters")
    if not isinstance(table, Mapping):
        raise KindError(f"{where} must be a table", hint=f"write it below a line [{where}]")
    _refuse_unknown(table, _FIELDS, where)
    changed: dict[str, Any] = {}
    if "needs" in table:
        changed["needs"] = Needs(_one_of(table, "needs", [one.value for one in Needs], where))
    if "priority" in table:
        changed["priority"] = _one_of(table, "priority", PRIORITIES, where)
    if "approval" in table:
        if not isinstance(table["approval"], bool):
            raise KindError(f"{where}.approval is {table['approval']!r}", hint="true or false")
        changed["approval"] = table["approval"]
    if "reasons" in table:
        changed["reasons"] = _reasons(table["reasons"], where)
    if "remind" in table:
        lines = _lines(table, "remind", where)
        rules = tuple(rule for line in lines for rule in parse_rules(line))
        changed["remind"] = _bounded(rules, _MOST_REMINDERS, f"{where}.remind")
    if "escalate" in table:
        late = tuple(map(parse_escalation, _lines(table, "escalate", where)))
        changed["escalate"] = _bounded(late, _MOST_ESCALATIONS, f"{where}.escalate")
    if "expires_after" in table:
        if not isinstance(table["expires_after"], str):
            raise KindError(f"{where}.expires_after must be a text", hint='such as "30d"')
        changed["expires_after_seconds"] = parse_span(table["expires_after"])
    return replace(BUILT_IN.get(name, Kind(name)), **changed)


def _reasons(found: Any, where: str) -> tuple[Reason, ...]:
    hint = 'such as reasons = [{ code = "no-staff", text = "Not enough staff", zh = "人手不足" }]'
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise KindError(f"{where}.reasons must be a list of tables", hint=hint)
    reasons = []
    for one in found:
        texts = {key: value for key, value in one.items() if key not in {"code", "text"}}
        for language in texts:
            if _LANGUAGE.fullmatch(language) is None:
                raise KindError(
                    f"{where}.reasons: {shown(language)} is no field and no language",
                    hint=f"code, text, and languages such as zh; {hint}",
                )
        whole = {"code": one.get("code"), "text": one.get("text"), "texts": texts}
        try:
            reasons.append(msgspec.convert(whole, Reason))
        except msgspec.ValidationError as error:
            raise KindError(f"{where}.reasons: {error}", hint=hint) from None
    codes = [one.code for one in reasons]
    if twice := sorted({code for code in codes if codes.count(code) > 1}):
        raise KindError(f"{where}.reasons has {twice[0]} twice", hint="one code for one reason")
    return _bounded(tuple(reasons), _MOST_REASONS, f"{where}.reasons")


def _bounded(found: tuple[Any, ...], most: int, where: str) -> tuple[Any, ...]:
    if len(found) > most:
        raise KindError(f"{where} has {len(found)}", hint=f"{most} are the most")
    return found


def _lines(table: Mapping[str, Any], name: str, where: str) -> list[str]:
    found = [table[name]] if isinstance(table[name], str) else table[name]
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise KindError(f"{where}.{name} must be a list of texts")
    return found


def _one_of(table: Mapping[str, Any], name: str, known: Sequence[str], where: str) -> str:
    found = table[name]
    if found not in known:
        raise KindError(f"{where}.{name} is {found!r}", hint=f"one of {', '.join(known)}")
    return str(found)


def _refuse_unknown(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for name in table:
        if name not in known:
            near = close_names(name, known)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise KindError(f"there is no setting {where}.{name}", hint=hint)
