"""Which language staff read, and that nothing else changes with it."""

# ruff: noqa: RUF001 - Chinese has commas and brackets of its own

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from buskit.terminal import display_width
from buswire.phrases import phrase, phrase_in, phrases
from storeagent.language import Speaker, chosen_language, known_language, say, speaking
from storeagent.main import main
from storeagent.settings import SettingsError, parse_settings
from tests.agent.words import ALL_ANY, Bench
from tests.staff.conftest import Run


@pytest.mark.parametrize(
    ("setting", "environment", "expected"),
    [
        ("", {}, "en"),
        ("", {"LANG": "zh_CN.UTF-8"}, "zh"),
        ("", {"LANG": "zh_TW"}, "zh"),
        ("", {"LANG": "zh-Hant-HK"}, "zh"),
        ("", {"LANG": "fr_FR.UTF-8"}, "en"),
        ("", {"LC_ALL": "C", "LC_MESSAGES": "zh_CN.UTF-8", "LANG": "zh_CN.UTF-8"}, "en"),
        ("", {"LC_ALL": "", "LC_MESSAGES": "zh_CN.UTF-8", "LANG": "en_US.UTF-8"}, "zh"),
        ("zh", {"LC_ALL": "en_US.UTF-8"}, "zh"),
        ("en", {"LC_ALL": "zh_CN.UTF-8"}, "en"),
    ],
)
def test_the_setting_goes_first_and_then_the_locale(
    setting: str, environment: dict[str, str], expected: str
) -> None:
    """LC_ALL, LC_MESSAGES, LANG: the first that is set decides, known or not."""
    assert chosen_language(setting, environment) == expected


def test_a_system_without_a_locale_is_asked() -> None:
    """As Windows has none in its environment; there, what it says of itself counts."""
    assert chosen_language("", {}, system=lambda: "zh_CN") == "zh"
    assert chosen_language("", {}, system=lambda: "Klingon") == "en"
    assert known_language("") is None


def test_a_phrase_is_its_english_text_and_can_be_said_otherwise() -> None:
    """Numbers, meanings of one word, and phrases within phrases."""
    chinese = Speaker("zh")
    many = phrases(
        "{n} piece of work is being asked about at head office",
        "{n} pieces of work are being asked about at head office",
        2,
    )
    assert many == "2 pieces of work are being asked about at head office"
    assert chinese.say(many) == "2 项任务正在向总部核实"
    state = phrase_in("state", "read")
    inner = phrase("{state} by {who}", state=state, who="{odd}")
    assert inner == "read by {odd}"
    assert chinese.say(inner) == "已读（{odd}）"
    assert chinese.say("read") == "read", "only what is ours is looked up"
    assert json.dumps([inner]) == '["read by {odd}"]'


def test_nobody_is_asked_for_the_language_before_the_first_word() -> None:
    """And once only after that; behind the block it is English again."""
    asked: list[str] = []

    def choose() -> str:
        asked.append("asked")
        return "zh"

    with speaking(choose):
        assert not asked
        assert say(phrase("nothing to do")) == "没有待办"
        say(phrase("nothing to do"))
    assert asked == ["asked"]
    assert say(phrase("nothing to do")) == "nothing to do"


def test_the_device_may_name_its_language(run: Run, home: Path) -> None:
    """`language` in its settings; one that is not known is refused with those that are."""
    settings = home / "agent.toml"
    settings.write_text('language = "zh-CN"\n' + settings.read_text())
    assert "没有待办" in run("inbox")[2]
    assert "没有待办" in run("inbox", "--home", str(home))[2]
    assert run("init", "--store", "S017", "--device", "till-1", "--hook", "bell")[0] == 0
    assert "没有待办" in run("inbox")[2], "a later init keeps it"
    assert run("init", "--store", "S017", "--device", "till-1", "--language", "en")[0] == 0
    assert "nothing to do" in run("inbox")[2]
    with pytest.raises(SettingsError) as refused:
        parse_settings({"store": "S", "device": "d", "language": "tlh"})
    assert "en, zh" in str(refused.value.hint)


def test_an_output_that_cannot_show_it_gets_english(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather a foreign language than escapes."""
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert "没有待办" in run("inbox")[2]
    latin = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", latin)
    assert "nothing to do" in run("inbox")[2]


def test_json_and_exit_codes_are_the_same_in_every_language(
    run: Run, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what people read changes."""
    bench.take(ALL_ANY, bench.words.issue(1, due="2020-01-01T09:00"))
    calls = [
        ("inbox", "--json"),
        ("show", "1", "--json"),
        ("show", "9"),
        ("cannot", "1"),
        ("dine",),
    ]
    english = [run(*words)[:2] for words in calls]
    status = json.loads(run("status", "--json")[1])
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert [run(*words)[:2] for words in calls] == english
    assert json.loads(run("status", "--json")[1])["notices"] == status["notices"]
    assert "后台程序没有运行" in run("status")[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "99"), "错误：本店没有编号为 '99' 的任务\n提示：编号请看：storeagent inbox"),
        (("done",), "错误：缺少参数 'NUMBER...'\n提示：storeagent done --help"),
        (("done", "1", "--odd"), "错误：没有选项 '--odd'"),
        (("dine",), "错误：没有命令 'dine'；是不是想输入 done？"),
        (("cannot", "1"), "错误：需要写明原因\n提示：请写一行原因：--reason TEXT"),
        (("reply", "1", " "), "错误：回复内容为空"),
        (("inbox", "--home", "/nowhere/at/all"), "本设备的数据库还不存在（/nowhere/at/all"),
        (("done", "1", "--by", "x" * 501), "办理人姓名有 501 个字符，最多 500 个"),
    ],
)
def test_slips_are_told_in_chinese(
    *,
    run: Run,
    bench: Bench,
    words: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cause and the hint, ours and click's, with the same exit codes."""
    bench.take(ALL_ANY, bench.words.issue(1))
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    code, out, err = run(*words)
    assert code in {1, 2}
    assert out == ""
    assert said in err
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert run(*words)[2].startswith("error: "), "nothing of it stays behind"


def test_every_help_of_staff_is_in_chinese_and_fits(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No English sentence is left in it, and no paragraph runs over the edge."""
    monkeypatch.setenv("LC_ALL", "zh_TW.UTF-8")
    for words in [(), *((name,) for name in sorted(main.staff))]:
        code, out, _ = run(*words, "--help")
        assert code == 0
        assert out.startswith("用法：")
        for line in out.splitlines():
            assert " the " not in line
            if not line.lstrip().startswith("-"):
                assert display_width(line) <= 80, line
    assert "LANGUAGE" not in os.environ


def test_a_chinese_list_lines_up(run: Run, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The titles of all lines begin in one column of the terminal, though letters are wide."""
    bench.take(ALL_ANY, bench.words.issue(1, title="§ 冷藏柜清洁", priority="urgent"))
    bench.take(ALL_ANY, bench.words.issue(2, title="§ Labels", due="2020-01-01T09:00"))
    bench.statements.start(bench.row(2).directive, "any", by="王芳")
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    code, out, err = run("inbox")
    assert code == 0
    assert err.splitlines()[-1] == "待办 2 项：1 项逾期，1 项紧急"
    columns = {display_width(line[: line.index("§")]) for line in out.splitlines()[1:]}
    assert len(columns) == 1
    assert "进行中（王芳）" in out


def test_a_real_process_speaks_the_language_of_its_locale(home: Path, bench: Bench) -> None:
    """As on a till, whether the system has that locale installed or not."""
    bench.take(ALL_ANY, bench.words.issue(1, title="冷藏柜清洁"))
    bench.database.close()
    environment = {**os.environ, "LC_ALL": "zh_CN.UTF-8", "PYTHONUTF8": ""}
    found = subprocess.run(
        [Path(sys.executable).parent / "storeagent", "inbox"],
        env=environment,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert "冷藏柜清洁" in found.stdout.decode()
    assert "待办 1 项：1 项未读" in found.stderr.decode()


def test_an_alert_pays_for_no_catalogue(home: Path) -> None:
    """A script that raises one in a Chinese store loads neither the catalogue nor its reader."""
    code = (
        "import sys, gettext\n"
        "real, asked = gettext.find, []\n"
        "gettext.find = lambda domain, *more, **last: asked.append(domain) or real(domain, *more)\n"
        "from storeagent.main import main\n"
        "code = main.run(['alert', 'incident', '--what', 'x'])\n"
        "print(code, 'storeagent' in asked, 'storeagent.wording' in sys.modules)\n"
        "main.run(['status', '--help'])\n"
        "print('storeagent' in asked)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "STOREBUS_AGENT_HOME": str(home), "LC_ALL": "zh_CN.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "0 False False"
    assert lines[-1] == "True", "that it would show"
