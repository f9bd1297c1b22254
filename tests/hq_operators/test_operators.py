"""Operators: what their file means, and whom it lets do what."""

from pathlib import Path

import pytest

from hqconsole.approval import ApprovalPolicy
from hqconsole.kinds import BUILT_IN
from hqconsole.operators import (
    FILE_NAME,
    PRESETS,
    RIGHTS,
    NotPermitted,
    Operators,
    OperatorsError,
    load,
    permit,
)
from hqconsole.operators_check import misfits
from hqconsole.operators_file import parse

FILE = """\
[operators.ana]
display_name = "Ana Li"
department = "Operations"
may = "operator"
kinds = ["notice", "task"]
regions = ["east", "north"]
manages = ["east"]
email = "ana@example.com"

[operators.bo]
may = ["approver", "remind"]

[operators."李娜"]
may = "admin"
"""


@pytest.fixture
def everyone() -> Operators:
    """The three of the file."""
    return Operators(Path(FILE_NAME), parse(FILE.encode()))


def refusal(everyone: Operators, *words: str, **more: object) -> tuple[str, str]:
    """The message and the hint with which somebody is refused."""
    with pytest.raises(NotPermitted) as refused:
        permit(everyone, *words, **more)  # type: ignore[arg-type]
    return str(refused.value), refused.value.hint or ""


def test_the_file_says_who_may_what_where(everyone: Operators) -> None:
    """Presets and rights add up; what is left out is everything; other scripts are names."""
    ana, bo = everyone.listed["ana"], everyone.listed["bo"]
    assert ana.rights == set(PRESETS["operator"])
    assert (ana.kinds, ana.regions, ana.manages) == (
        ("notice", "task"),
        ("east", "north"),
        ("east",),
    )
    assert (ana.words, ana.department, ana.email) == ("Ana Li (ana)", "Operations", ana.email)
    assert bo.rights == {"approve", "remind"}
    assert (bo.kinds, bo.regions) == (None, None)
    assert everyone.listed["李娜"].rights == set(RIGHTS)
    assert everyone.managers("east") == [ana]


def test_each_refusal_says_what_is_lacking_and_who_could(everyone: Operators) -> None:
    """The right, the kind, the regions that are not theirs; and whom to ask."""
    assert permit(everyone, "ana", "publish", kind="task", regions=["east"]).name == "ana"
    message, hint = refusal(everyone, "ana", "keys")
    assert "Ana Li (ana) does not have the right keys" in message
    assert hint == "who could: 李娜"
    message, _ = refusal(everyone, "ana", "publish", kind="recall", regions=["east"])
    assert "not for the kind recall (only notice and task)" in message
    message, _ = refusal(everyone, "ana", "publish", kind="task", regions=["east", "west", "south"])
    assert "not in south and west (only east and north)" in message
    message, hint = refusal(everyone, "an", "publish")
    assert "'an' is not in operators.toml" in message
    assert "STOREBUS_OPERATOR=ana" in hint
    alone = Operators(everyone.file, {"bo": everyone.listed["bo"]})
    assert "nobody in operators.toml could" in refusal(alone, "bo", "keys")[1]


def test_nobody_approves_what_they_wrote(everyone: Operators) -> None:
    """Not in other letters, not as an admin, and not where there is no file either."""
    assert permit(everyone, "bo", "approve", author="ana").name == "bo"
    message, hint = refusal(everyone, "李娜", "approve", author="李娜")
    assert "wrote it" in message
    assert hint == "who could: bo"
    assert "wrote it" in refusal(Operators(), "Ana", "approve", author="ana")[0]
    assert permit(Operators(), "bo", "approve", author="ana").name == "bo"


def test_an_escalation_is_seen_by_the_manager_of_its_region(everyone: Operators) -> None:
    """Without the right; elsewhere it takes the right."""
    bare = parse(b'[operators.m]\nmay = "viewer"\nmanages = ["east"]\n')
    managers = Operators(everyone.file, {**everyone.listed, **bare})
    assert permit(managers, "m", "escalations", regions=["east"]).name == "m"
    refusal(managers, "m", "escalations", regions=["east", "west"])
    refusal(managers, "m", "escalations")


def test_without_a_file_everyone_may_everything(tmp_path: Path) -> None:
    """A small chain needs none."""
    everyone = load(tmp_path)
    assert everyone.file is None
    for right in RIGHTS:
        assert permit(everyone, "somebody", right, kind="x", regions=["y"]).name == "somebody"


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("", "it names no operator", "[operators.NAME]"),
        ("# all gone\n", "it names no operator", "[operators.NAME]"),
        ("x = 1", "line 1: there is no 'x' here", "[operators.NAME]"),
        ("operators = 3", "line 1: it names no operator", "[operators.NAME]"),
        ('[operators]\nana = "x"', "line 2: 'ana' is no table", "[operators.ana]"),
        ("[operators.ana]\n\nregions='*'", "line 1: it is not said what ana may", "viewer"),
        ("[operators.a]\nmay='admin'\nregion='x'", "line 3: a has no 'region'", "mean regions?"),
        ("[operators.a]\nmay='admin'\nzzz=1", "line 3: a has no 'zzz'", "known are display_name"),
        ("[operators.a]\n\nmay=['publsh']", "line 3: a may 'publsh'", "mean publish?"),
        ("[operators.a]\nmay='*'", "line 2: a may '*'", "there are viewer"),
        ("[operators.a]\nmay=1", "line 2: may of a must be a list", "may ="),
        ("[operators.a]\nmay='admin'\nregions=['*','x']", "line 3: regions of a", "leave"),
        ("[operators.a]\nmay='admin'\nkinds=['']", "line 3: kinds of a must", "kinds ="),
        ("[operators.a]\nmay='admin'\nemail=['x']", "line 3: email of a must be a line", "email"),
        ('[operators.a]\nmay="admin"\nphone="\\n"', "line 3: phone of a must be a line", "phone"),
        ("[operators.a]\nmay='admin'\n[operators.A]\nmay='admin'", "line 3: A and a are", "one"),
        ("[operators.' ']\nmay='admin'", "line 1: ' ' is no name", "characters"),
        (
            "[operators.a]\nmay =\n",
            "not valid TOML: Invalid value (at line 2",
            "hq operators check",
        ),
        ("[operators.a]\nmay='admin'\n# \udcff", "line 3: this is not UTF-8", "hq operators check"),
    ],
)
def test_a_slip_in_the_file_is_named_by_its_line(text: str, words: str, hint: str) -> None:
    """With what to write instead; nothing of the file counts then."""
    with pytest.raises(OperatorsError) as error:
        parse(text.encode("utf-8", "surrogateescape"))
    assert words in str(error.value)
    assert hint in (error.value.hint or "")
    assert "nobody may change anything" in (error.value.hint or "")


def test_a_file_that_cannot_be_read_allows_nothing(tmp_path: Path) -> None:
    """Neither a folder of that name, nor a link to a file that is gone, is no file."""
    (tmp_path / "a" / FILE_NAME).mkdir(parents=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / FILE_NAME).symlink_to(tmp_path / "gone")
    for home, words in (("a", "cannot be read"), ("b", "leads to a file that is gone")):
        with pytest.raises(OperatorsError, match=words):
            load(tmp_path / home)


def test_what_does_not_fit_is_said(everyone: Operators) -> None:
    """Names that the roster and the settings do not know, rights that nobody holds, gaps."""
    policy = ApprovalPolicy(kinds=("recall",))

    def said(operators: Operators, present: str = "ana", **more: object) -> list[str]:
        known = {"regions": ["east", "north"], "kinds": BUILT_IN.values(), "policy": policy}
        return misfits(operators, present=present, **{**known, **more})  # type: ignore[arg-type]

    assert said(Operators()) == []
    assert said(everyone) == ["nobody manages north: escalations go to no one there"]
    assert said(everyone, regions=["east", "nord"])[0] == (
        "ana: the roster has no region north; did you mean nord?"
    )
    assert said(everyone, "zoe", regions=["east", "north"])[0].startswith("you are zoe")
    alone = Operators(everyone.file, parse(b'[operators.a]\nmay = ["publish", "approve"]\n'))
    found = said(alone, "a")
    assert "only a may approve: what a writes nobody lets out" in found
    assert "nobody may keys: " + RIGHTS["keys"] in found
    assert not [one for one in said(alone, "a", policy=ApprovalPolicy()) if "approve" in one]
