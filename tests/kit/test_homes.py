"""Homes and settings: found where the person expects, private, and read back as written."""

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buskit.files import write_atomically
from buskit.homes import HomeError, default_home, make_home, read_settings, write_settings


def test_the_environment_names_the_home(tmp_path: Path) -> None:
    """The variable decides; without it the home is in this user's data folder."""
    assert default_home("hq", {"STOREBUS_HQ_HOME": str(tmp_path)}) == tmp_path
    assert default_home("agent", {"STOREBUS_HQ_HOME": str(tmp_path)}) != tmp_path
    assert default_home("agent", {"STOREBUS_AGENT_HOME": ""}).parts[-2:] == ("storebus", "agent")


def test_a_new_home_is_there_after_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of each folder that is made is durable in the one above it."""
    synced: list[Path] = []
    monkeypatch.setattr("buskit.files.sync_folder", synced.append)
    make_home(tmp_path / "chain" / "store" / "home")
    assert synced == [tmp_path, tmp_path / "chain", tmp_path / "chain" / "store"]
    make_home(tmp_path / "chain" / "store" / "home")  # one that a killed process has left
    assert synced[3:] == [tmp_path / "chain" / "store"]


def test_a_home_is_private_and_made_once(tmp_path: Path) -> None:
    """The folders above are made too; making it again changes nothing; a file is refused."""
    home = make_home(tmp_path / "a" / "b" / "home")
    if sys.platform != "win32":
        assert home.stat().st_mode & 0o777 == 0o700
    assert make_home(home) == home
    (tmp_path / "file").touch()
    with pytest.raises(HomeError, match="cannot be made"):
        make_home(tmp_path / "file")
    with pytest.raises(HomeError, match="cannot be made"):
        make_home(tmp_path / "file" / "below")


SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=4))
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TABLES = st.dictionaries(KEYS, VALUES, max_size=4)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, st.one_of(VALUES, TABLES), max_size=5))
def test_settings_are_read_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    """Any text, number, list and table survives the way through the file, types included."""
    path = tmp_path_factory.getbasetemp() / "settings.toml"
    write_settings(path, values)
    assert repr(read_settings(path)) == repr(
        {k: v for k, v in values.items() if not isinstance(v, dict)}
        | {k: v for k, v in values.items() if isinstance(v, dict)}
    )


def test_wrong_settings_are_named_with_their_line(tmp_path: Path) -> None:
    """Missing, binary or mistyped settings give an error that says where to look."""
    path = tmp_path / "settings.toml"
    with pytest.raises(HomeError, match="no settings at") as caught:
        read_settings(path, hint_create="storeagent init")
    assert caught.value.hint == "storeagent init"
    path.write_text("a = 1\nb = = 2\n")
    with pytest.raises(HomeError, match="line 2"):
        read_settings(path)
    path.write_bytes(b"a = '\xff'\n")
    with pytest.raises(HomeError, match="not UTF-8 text"):
        read_settings(path)
    with pytest.raises(HomeError, match="cannot be read"):
        read_settings(tmp_path)
    with pytest.raises(HomeError, match="cannot be written"):
        write_settings(tmp_path / "no" / "settings.toml", {})
    with pytest.raises(TypeError, match="NoneType"):
        write_settings(path, {"a": None})


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """A write that fails leaves the old content, and no half-written file beside it."""
    path = tmp_path / "f"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    if sys.platform != "win32":
        assert path.stat().st_mode & 0o777 == 0o600
