"""The frame of the command lines: lazy, in sections, and friendly when something is wrong."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

MAIN = """
import click
from buskit.cli import CommandGroup, home_option, json_option
main = CommandGroup("demo", help="A demonstration.", sections={
    "Daily work": {
        "greet": ("demo_greet:greet", "Say hello."),
        "fail": ("demo_greet:fail", "Fail."),
    },
    "Rare work": {"heavy": ("demo_heavy:heavy", "Needs much.")},
})
"""
GREET = """
import sys
import click
from buskit.cli import home_option, json_option
from buswire.errors import BusError

class Unreachable(BusError):
    exit_code = 3

@click.command()
@json_option
@home_option("agent")
@click.option("--count", type=int, default=1)
def greet(as_json, home, count):
    "Say hello."
    for _ in range(count):
        print("hello", home.name, as_json, "demo_heavy" in sys.modules)

@click.command()
@click.argument("how")
def fail(how):
    "Fail."
    if how == "bus":
        raise Unreachable("no broker at \\x1b[31m", hint="storebus-broker")
    if how == "file":
        open("/nowhere/at/all")
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "bug":
        raise ZeroDivisionError
    if how == "partly":
        return 5
    if how == "usage":
        raise click.UsageError("one of them please")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a small command line in it."""
    (tmp_path / "demo_main.py").write_text(MAIN)
    (tmp_path / "demo_greet.py").write_text(GREET)
    (tmp_path / "demo_heavy.py").write_text("raise RuntimeError('imported without need')")
    return tmp_path


def run(folder: Path, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the small command line."""
    return subprocess.run(
        [sys.executable, "-c", "from demo_main import main; main(prog_name='demo')", *args],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{Path.cwd()}", **more},
    )


def test_help_lists_the_sections_and_imports_nothing(folder: Path) -> None:
    """Sections come in the given order with one line each; broken modules do not matter."""
    done = run(folder, "--help")
    assert done.returncode == 0
    assert done.stdout == textwrap.dedent(
        """\
        Usage: demo [OPTIONS] COMMAND [ARGS]...

          A demonstration.

        Options:
          --help  Show this message and exit.

        Daily work:
          greet  Say hello.
          fail   Fail.

        Rare work:
          heavy  Needs much.
        """
    )


def test_a_command_runs_with_its_common_options(folder: Path) -> None:
    """The home comes from the option, or from the environment, and the flag for JSON arrives."""
    done = run(folder, "greet", "--json", STOREBUS_AGENT_HOME="/x/by-env")
    assert (done.returncode, done.stdout) == (0, "hello by-env True False\n")
    done = run(folder, "greet", "--home", "/x/by-option", STOREBUS_AGENT_HOME="/x/by-env")
    assert (done.returncode, done.stdout) == (0, "hello by-option False False\n")


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("bus", 3, "error: no broker at \\x1b[31m\nhint: storebus-broker\n"),
        ("file", 1, "error: /nowhere/at/all: No such file or directory\n"),
        ("interrupt", 130, "\n"),
        ("partly", 5, ""),
        ("usage", 2, "error: one of them please\nhint: demo fail --help\n"),
        ("fine", 0, ""),
    ],
)
def test_errors_are_a_cause_a_hint_and_an_exit_code(
    folder: Path, how: str, code: int, said: str
) -> None:
    """What a person or the world did wrong is never answered with a stack trace."""
    done = run(folder, "fail", how)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)


def test_a_bug_shows_its_stack_trace(folder: Path) -> None:
    """A mistake of ours is not dressed up as one of the person's."""
    done = run(folder, "fail", "bug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_a_wrong_word_is_answered_with_the_right_one(folder: Path) -> None:
    """Unknown commands and options are usage errors (exit code 2) that help."""
    done = run(folder, "gret")
    assert done.returncode == 2
    assert done.stderr == (
        "error: there is no command 'gret'; did you mean greet?\nhint: demo --help\n"
    )
    done = run(folder, "greet", "--cuont", "3")
    assert done.returncode == 2
    assert done.stderr.startswith("error: No such option")
    assert done.stderr.endswith("hint: demo greet --help\n")
    done = run(folder)
    assert done.returncode == 2
    assert "Daily work:" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="pipes there break differently")
def test_a_reader_that_goes_away_is_no_error(folder: Path) -> None:
    """`demo greet | head -1` ends quietly, as with any other program."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from demo_main import main; main(prog_name='demo')",
            *("greet", "--count", "100000"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{Path.cwd()}"},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith("hello")
    process.stdout.close()
    assert process.wait(20) == 141
    assert process.stderr.read() == ""
    process.stderr.close()
