"""Kinds: what the settings say of them, and which directives need a second pair of eyes."""

import tomllib
from typing import Any

import pytest

from buswire.messages import Directive, encode_data
from buswire.states import Needs
from hqconsole import kinds
from hqconsole.approval import ApprovalPolicy, needs_approval
from hqconsole.errors import HqError
from hqconsole.home import HqSettings, parse_settings
from hqconsole.reminders import words

TEXT = """\
[kinds.recall]
approval = true
reasons = [{ code = "sold-out", text = "All sold", zh = "已售完", pt-BR = "Vendido" }]
expires_after = "30d"

[kinds.promo]
priority = "high"
remind = "2h before due and every 4h after due"
escalate = ["24h late: region manager"]

[approval]
above_mailboxes = 500
kinds = ["promo"]
"""


def settings(text: str) -> HqSettings:
    """The settings in this text."""
    return parse_settings(tomllib.loads(text))


def test_the_settings_change_what_they_name_and_leave_the_rest() -> None:
    """A kind of one's own begins as a notice; one that nobody defined is one."""
    found = settings(TEXT)
    recall, promo = kinds.of(found, "recall"), kinds.of(found, "promo")
    assert (recall.needs, recall.priority, recall.approval) == (Needs.DONE, "urgent", True)
    assert [(one.code, one.texts) for one in recall.reasons] == [
        ("sold-out", {"zh": "已售完", "pt-BR": "Vendido"})
    ]
    assert recall.expires_after_seconds == 30 * 86_400
    assert recall.remind == kinds.BUILT_IN["recall"].remind
    assert (promo.needs, promo.priority, promo.approval) == (Needs.READ, "high", False)
    assert [words(rule) for rule in promo.remind] == ["2h before due", "every 4h after due"]
    assert kinds.of(found, "task") == kinds.BUILT_IN["task"]
    assert kinds.of(found, "else") == kinds.Kind("else")
    assert [kind.name for kind in kinds.every(found)] == ["notice", "task", "recall", "promo"]
    assert kinds.every(HqSettings()) == list(kinds.BUILT_IN.values())


def test_what_is_built_in_fits_a_directive_in_both_languages() -> None:
    """Every reason has a code of its own and a Chinese text; the wire takes it all."""
    for kind in kinds.BUILT_IN.values():
        assert len({one.code for one in kind.reasons}) == len(kind.reasons)
        assert all(one.texts["zh"] for one in kind.reasons)
        directive = Directive(
            id="0" * 32, title="x", reasons=list(kind.reasons), remind=list(kind.remind)
        )
        assert len(encode_data(directive)) < 2000


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("kinds = 3", "kinds must be a table", "[kinds]"),
        ("[kinds]\nrecall = 3", "kinds.recall must be a table", "kinds.recall"),
        ("[kinds.'']", "'' is no name of a kind", "40"),
        ("[kinds.x]\nneed = 'done'", "no setting kinds.x.need", "needs?"),
        ("[kinds.x]\nneeds = 'all'", "kinds.x.needs is 'all'", "delivered, read, done"),
        ("[kinds.x]\nneeds = ['done']", "kinds.x.needs is ['done']", "delivered"),
        ("[kinds.x]\npriority = 'top'", "kinds.x.priority is 'top'", "low, normal"),
        ("[kinds.x]\napproval = 'yes'", "kinds.x.approval is 'yes'", "true or false"),
        ("[kinds.x]\nreasons = ['a']", "must be a list of tables", "code"),
        ("[kinds.x]\nreasons = [{code='a'}]", "kinds.x.reasons: Expected `str`", "code"),
        ("[kinds.x]\nreasons = [{code='A B', text='x'}]", "kinds.x.reasons", "code"),
        ("[kinds.x]\nreasons = [{code='a', text='x', 'z h'='y'}]", "no language", "zh"),
        (
            "[kinds.x]\nreasons = [{code='a',text='x'},{code='a',text='y'}]",
            "has a twice",
            "one code",
        ),
        ("[kinds.x]\nremind = [3]", "kinds.x.remind must be a list of texts", ""),
        ("[kinds.x]\nremind = ['soon']", "'soon' is no rule", "2h before due"),
        (f"[kinds.x]\nremind = {['at due'] * 11}", "kinds.x.remind has 11", "10"),
        ("[kinds.x]\nescalate = 'x'", "'x' is no rule", "24h late"),
        ("[kinds.x]\nexpires_after = 30", "expires_after must be a text", "30d"),
        ("[kinds.x]\nexpires_after = '30'", "'30' is no span", "7d"),
        ("[approval]\nabove = 3", "no setting approval.above", "above_mailboxes?"),
        ("[approval]\nabove_mailboxes = true", "above_mailboxes is True", "50"),
        ("[approval]\nabove_mailboxes = -1", "above_mailboxes is -1", "50"),
        ("[approval]\nkinds = 'recall'", "approval.kinds is 'recall'", "recall"),
    ],
)
def test_what_cannot_be_is_refused(text: str, words: str, hint: str) -> None:
    """Named by where it stands, with what to write."""
    with pytest.raises(HqError) as error:
        settings(text)
    assert words in str(error.value)
    assert hint in (error.value.hint or "")
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("kind", "mailboxes", "why"),
    [
        ("notice", 500, None),
        ("notice", 501, "it is for 501 mailboxes: above 500 needs approval"),
        ("recall", 1, "every recall needs approval"),
        ("promo", 1, "every promo needs approval"),
    ],
)
def test_approval_is_asked_for_by_kind_and_by_size(
    kind: str, mailboxes: int, why: str | None
) -> None:
    """By the word of the kind itself, or of the policy."""
    found = settings(TEXT)
    assert needs_approval(found.approval, kinds.of(found, kind), mailboxes) == why
    nothing: Any = needs_approval(ApprovalPolicy(), kinds.BUILT_IN["recall"], 10**6)
    assert nothing is None
