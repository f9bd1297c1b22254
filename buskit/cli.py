"""What all command lines share: lazy commands in sections, errors with hints, common options.

Owns how a command is found and how its failures look. Must not know any command, nor in which
language its group speaks: a group that speaks several says so by `words`.

Invariants:
- The module of a command is imported when that command runs, and not for the list of commands.
- A deliberate error (`BusError`), a wrong use or a refused file is one line with its cause, and a
  hint if there is one, on standard error; never a stack trace. A bug shows its stack trace.
- Exit codes: 0 done, 1 failed, 2 wrong use, others as the error says; 130 interrupted; 141 when the
  reader of a pipe has gone away, as other programs do.
"""

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from buskit.terminal import printable
from buswire.errors import BusError
from buswire.phrases import phrase

F = TypeVar("F", bound=Callable[..., Any])

Sections = Mapping[str, Mapping[str, tuple[str, str]]]
"""Section title -> command name -> ("package.module:attribute", one line of help)."""


class _ReaderGoneError(Exception):
    """Whoever read our standard output has closed it."""


class CommandGroup(click.Group):
    """A group whose commands are named in sections and imported only when they run."""

    def __init__(self, *args: Any, sections: Sections | None = None, **more: Any) -> None:
        """Take `sections` besides what `click.Group` takes; they are listed in the given order."""
        super().__init__(*args, **more)
        self.sections: Sections = sections or {}
        self._targets = {
            name: target
            for commands in self.sections.values()
            for name, (target, _) in commands.items()
        }

    def words(self, text: str) -> str:
        """Return `text`, which is ours, in the reader's language, where a group has one.

        Asked before click puts its own words together, too.
        """
        return text

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands in the order of the sections."""
        return [*self._targets, *(n for n in super().list_commands(ctx) if n not in self._targets)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, importing its module if need be."""
        target = self._targets.get(cmd_name)
        if target is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{target} is not a command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one is answered with the nearest names."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            import difflib  # noqa: PLC0415 - only a typing error pays for it

            near = difflib.get_close_matches(name, self.list_commands(ctx))
            said = phrase("there is no command {name!r}", name=name)
            if near:
                said = phrase(
                    "there is no command {name!r}; did you mean {near}?",
                    name=name,
                    near=self.words(phrase(" or ")).join(near),
                )
            raise click.UsageError(self.words(said), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections, without importing what is in them."""
        for title, commands in self.sections.items():
            if commands:
                with formatter.section(self.words(title)):
                    formatter.write_dl(
                        [(name, self.words(line)) for name, (_, line) in commands.items()]
                    )
        if any(name not in self._targets for name in self.commands):
            super().format_commands(ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # which click would answer with an exit code of its own
            raise _ReaderGoneError from error

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **more: Any
    ) -> NoReturn:
        """Run the command line and exit; errors are shown as the invariants above say."""
        sys.exit(self.run(args, prog_name, **more))

    def run(
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **more: Any
    ) -> int:
        """Run the command line and return its exit code, which a command may return as an int."""
        more.pop("standalone_mode", None)
        for stream in (sys.stdout, sys.stderr):
            # A letter that the terminal does not know must not stop a command half-way.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        try:
            code = super().main(args, prog_name, standalone_mode=False, **more)
            sys.stdout.flush()
        except (BrokenPipeError, _ReaderGoneError):
            _silence_stdout()
            return 141
        except (KeyboardInterrupt, click.Abort):
            return 130
        except click.UsageError as error:
            self.words("")  # what click says of it is put together below
            if type(error).__name__ == "NoArgsIsHelpError":  # click 8.2 and later: it is the help
                error.show()
                return error.exit_code
            path = error.ctx.command_path if error.ctx is not None else self.name
            said = error.format_message().rstrip(".\u3002")
            show_error(said, f"{path} --help", words=self.words)
            return error.exit_code
        except click.ClickException as error:
            show_error(error.format_message(), words=self.words)
            return error.exit_code
        except BusError as error:
            show_error(_cause(error), error.hint, words=self.words)
            return error.exit_code
        except OSError as error:
            # With a file name it is about something the person named; without, it is our bug.
            if error.filename is None:
                raise
            show_error(f"{error.filename}: {error.strerror}", words=self.words)
            return 1
        except Exception as error:
            if type(error).__module__ != "sqlite3":
                raise
            from buskit.database_errors import DatabaseError, explained  # noqa: PLC0415 - seldom

            cause = explained(error, "the database")
            if not isinstance(cause, DatabaseError):
                raise
            show_error(_cause(cause), cause.hint, words=self.words)
            return cause.exit_code
        return code if isinstance(code, int) else 0


def _silence_stdout() -> None:
    """Let the interpreter flush its output at exit without complaining about the closed pipe."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _cause(error: BusError) -> str:
    """The error's message as it was given; `str` would make a phrase plain text."""
    return error.args[0] if error.args and isinstance(error.args[0], str) else str(error)


def show_error(
    message: str, hint: str | None = None, *, words: Callable[[str], str] = lambda text: text
) -> None:
    """Write an error, and what to do about it, to standard error.

    Args:
        message: The cause.
        hint: What mends it.
        words: Puts what is ours into the reader's language.
    """
    label = words(phrase("error: "))
    lines = [printable(words(message), keep_newlines=True)]
    if hint:
        lines.append(words(phrase("hint: ")) + printable(words(hint), keep_newlines=True))
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        label = click.style(label, fg="red", bold=True)
    click.echo(label + "\n".join(lines), err=True)


def json_option(command: F) -> F:
    """Add `--json` (parameter `as_json`) to a command that reads."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")(
        command
    )


def home_option(name: str) -> Callable[[F], F]:
    """Return a decorator that adds `--home` (parameter `home`, a Path).

    Args:
        name: "hq" or "agent"; decides the environment variable and the default place.
    """

    def default() -> Path:
        from buskit.homes import default_home  # noqa: PLC0415 - unneeded where --home is given

        return default_home(name)

    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        default=default,
        show_default=f"$STOREBUS_{name.upper()}_HOME, or this user's data folder",
        help="The folder with the database and the settings.",
    )
