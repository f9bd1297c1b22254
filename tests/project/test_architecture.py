"""What may know what: the rules by which a reader guesses where any line lives."""

import ast
import re
import tomllib
from fnmatch import fnmatch

import pytest

from tests.project.sources import (
    PACKAGES,
    ROOT,
    above,
    imports,
    modules,
    nodes,
    tracked_files,
    tree,
)

MAY_IMPORT = {
    "buswire": set[str](),
    "buskit": {"buswire"},
    "broker": {"buswire", "buskit"},
    "storeagent": {"buswire", "buskit"},
    "hqconsole": {"buswire", "buskit"},
}

SQL_MODULES = (
    "buskit/database*.py",
    "buskit/migrations.py",
    "storeagent/database*.py",
    "storeagent/inbox*.py",
    "storeagent/memory.py",
    "storeagent/outbox.py",
    "hqconsole/ledger/*.py",
)

COMMAND_FILES = ("*/main.py", "*/commands/*.py", "buskit/cli.py")

IMPURE = {
    *("asyncio", "logging", "os", "pathlib", "queue", "random", "secrets", "select"),
    *("selectors", "shutil", "signal", "socket", "sqlite3", "subprocess", "sys", "tempfile"),
    *("threading", "time", "uuid"),
}

POSIX_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
POSIX_NAMES = {
    "os": {
        *("chown", "eventfd", "fchown", "fdatasync", "fork", "forkpty", "fstatvfs", "getegid"),
        *("geteuid", "getgid", "getpgid", "getsid", "getuid", "initgroups", "killpg", "lchown"),
        *("mkfifo", "mknod", "nice", "openpty", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW"),
        *("O_NONBLOCK", "posix_fallocate", "posix_spawn", "pread", "pwrite", "sendfile"),
        *("setegid", "seteuid", "setgid", "setpgid", "setsid", "setuid", "statvfs", "sync"),
        *("sysconf", "uname", "wait3", "wait4", "waitid", "WNOHANG"),
    },
    "signal": {
        *("alarm", "pause", "pthread_kill", "pthread_sigmask", "setitimer", "SIGALRM", "SIGCHLD"),
        *("SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGUSR1", "SIGUSR2"),
        *("siginterrupt", "sigwait"),
    },
    "socket": {"AF_UNIX", "SO_REUSEPORT"},
}
POSIX_GUARDED_IN = {
    "buskit/files.py": "making a new name in a folder durable",
    "buskit/locks.py": "two ways to lock a file",
    "buskit/secrets.py": "whose a file is",
    "storeagent/hooks.py": "ending a hook with all that it started",
    "storeagent/outbox.py": "free space without an expensive import",
    "storeagent/commands/fleet.py": "thousands of sockets in one process",
}
"""The modules of the agent that use what Windows has not, and for what; each use is guarded."""


def _among(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(path, pattern) for pattern in patterns)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package: str) -> None:
    """The contract none of ours, buskit the contract, the rest these two and never one another."""
    forbidden = set(PACKAGES) - MAY_IMPORT[package] - {package}
    found = [
        f"{path}:{one.line} imports {one.module}"
        for path in modules(package)
        for one in imports(path)
        if one.module.partition(".")[0] in forbidden | {"tests", "bench"}
        or one.module.startswith(".")
    ]
    assert not found


def test_the_contract_does_no_io() -> None:
    """No clock, randomness, threads, files, sockets or logs in buswire."""
    found = [
        f"{path}:{one.line} imports {one.module}"
        for path in modules("buswire")
        for one in imports(path)
        if one.module.partition(".")[0] in IMPURE
    ]
    assert not found


def test_amqtt_is_known_in_the_broker_only() -> None:
    """Whoever runs another broker never loads it."""
    found = {
        path.partition("/")[0]
        for path in modules()
        for one in imports(path)
        if one.module.partition(".")[0] == "amqtt"
    }
    assert found == {"broker"}


def test_paho_is_known_in_the_link_only() -> None:
    """The client behind buskit's link, the trie in the broker."""
    users = {
        (path, one.module)
        for path in modules()
        for one in imports(path)
        if one.module.partition(".")[0] == "paho"
    }
    assert any(fnmatch(path, "buskit/link*.py") for path, _ in users)
    for path, module in users:
        if not fnmatch(path, "buskit/link*.py"):
            assert path.startswith("broker/"), f"{path} imports {module}"
            assert module.startswith("paho.mqtt.matcher"), f"{path} imports {module}"


def test_sql_is_in_database_modules_only() -> None:
    """No statement is run or written anywhere else."""
    statement = re.compile(
        r"\s*(SELECT\s|INSERT\s+(OR\s|INTO\s)|UPDATE\s+\w+\s+SET\s|DELETE\s+FROM\s"
        r"|CREATE\s+(TABLE|INDEX|UNIQUE)|ALTER\s+TABLE|PRAGMA\s+\w)"
    )
    found = []
    users = set()
    for path in modules():
        for node in nodes(path):
            runs = (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in {"execute", "executemany", "executescript"}
            )
            says = (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and statement.match(node.value) is not None
            )
            if (runs or says) and _among(path, SQL_MODULES):
                users.add(path)
            elif runs or says:
                found.append(f"{path}:{getattr(node, 'lineno', 0)}")
    assert not found
    for pattern in SQL_MODULES:
        assert any(fnmatch(path, pattern) for path in users), f"{pattern} names nothing"


def test_click_is_in_command_files_only() -> None:
    """What a command does can be called without a command line."""
    found = [
        f"{path}:{one.line}"
        for path in modules()
        for one in imports(path)
        if one.module.partition(".")[0] == "click" and not _among(path, COMMAND_FILES)
    ]
    assert not found


def test_costly_imports_are_made_where_they_are_needed() -> None:
    """A script that raises one alert does not pay for tables, links or migrations."""
    costly = {"rich", "sqlite_utils", "platformdirs", "asyncio", "paho", "amqtt"}
    found = [
        f"{path}:{one.line} imports {one.module}"
        for path in modules("buswire", "buskit", "storeagent", "hqconsole")
        for one in imports(path)
        if one.at_import
        and one.module.partition(".")[0] in costly
        and not fnmatch(path, "buskit/link*.py")
    ]
    assert not found


def _is_guard(node: ast.AST) -> bool:
    """Whether what stands in it may be missing on this system."""
    if isinstance(node, ast.If | ast.IfExp):
        test = ast.unparse(node.test)
        return "sys.platform" in test or "hasattr(" in test or "os.name" in test
    if isinstance(node, ast.Try):
        return any("ImportError" in ast.unparse(h.type) for h in node.handlers if h.type)
    if isinstance(node, ast.With):
        return "suppress(ImportError" in ast.unparse(node.items[0])
    return False


def _posix_uses(path: str) -> list[tuple[str, bool]]:
    """What a module uses that Windows has not, and whether each use is guarded."""
    uses: list[tuple[str, bool]] = []
    for node in nodes(path):
        names: set[str] = set()
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names} & POSIX_MODULES
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = {module} & POSIX_MODULES
            names |= {alias.name for alias in node.names} & POSIX_NAMES.get(module, set())
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = {node.attr} & POSIX_NAMES.get(node.value.id, set())
        guarded = any(_is_guard(outer) for outer in above(path, node)) if names else False
        uses += [(f"{path}:{getattr(node, 'lineno', 0)} {name}", guarded) for name in names]
    return uses


def test_the_agent_needs_no_posix() -> None:
    """Store computers run Windows: what it has not stands in named modules, behind a guard."""
    for path in modules("storeagent", "buskit", "buswire"):
        uses = _posix_uses(path)
        assert not uses or path in POSIX_GUARDED_IN, uses
        assert not [use for use, guarded in uses if not guarded]
    assert all(_posix_uses(path) for path in POSIX_GUARDED_IN), "a module listed for nothing"


@pytest.mark.parametrize("folder", [*PACKAGES, "tests", "bench"])
def test_every_module_says_what_it_owns(folder: str) -> None:
    """A docstring of at least a sentence."""
    for path in modules(folder):
        text = ast.get_docstring(tree(path)) or ""
        assert len(text) >= 15, f"{path} has no docstring"
        assert text.split("\n")[0].rstrip()[-1] in ".:?!", f"{path}: its first line is a sentence"


def test_every_test_says_the_truth_it_proves() -> None:
    """One line at least, in each test of the suite."""
    for path in modules("tests"):
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
                "test_"
            ):
                assert ast.get_docstring(node), f"{path}:{node.lineno} {node.name}"


def test_the_distribution_holds_every_package() -> None:
    """The list in pyproject.toml is that of the folders."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = settings["tool"]["setuptools"]["packages"]
    folders = {path.rpartition("/")[0].replace("/", ".") for path in modules()}
    assert sorted(listed) == sorted(folders)
    for target in settings["project"]["scripts"].values():
        module = target.partition(":")[0].replace(".", "/")
        assert (ROOT / f"{module}.py").is_file(), target


def test_no_test_folder_is_named_after_a_package() -> None:
    """`import broker` must find the broker from everywhere."""
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
    assert not folders & {*PACKAGES, "amqtt", "paho", "click", "rich"}


def test_no_file_names_a_place_of_one_machine() -> None:
    """Whoever clones it finds no path that only its authors have."""
    slash = "/"
    places = re.compile(
        rf"(?<![\w.}}])({slash}work/|{slash}root/|{slash}tmp/brief|{slash}Users/\w|{slash}home/\w)"
    )
    found = []
    for name in tracked_files():
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [
            f"{name}:{number}"
            for number, line in enumerate(text.splitlines(), 1)
            if places.search(line)
        ]
    assert not found
