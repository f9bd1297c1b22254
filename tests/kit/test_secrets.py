"""Secrets: random, never readable by others, and not used when others could have read them."""

import base64
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from buskit import files
from buskit.secrets import (
    SecretError,
    SecretMissing,
    new_seed,
    new_token,
    private_key_pem,
    read_secret,
    write_secret,
)

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such rights")


def test_tokens_have_256_bits_and_no_two_are_alike() -> None:
    """43 characters of base64url that stand for 32 bytes, different each time; seeds likewise."""
    drawn = {new_token() for _ in range(1000)}
    assert len(drawn) == 1000
    for token in drawn:
        assert len(base64.b64decode(token + "=", altchars=b"-_", validate=True)) == 32
    assert {len(new_seed()) for _ in range(10)} == {32}
    assert len({new_seed() for _ in range(1000)}) == 1000


def test_a_secret_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """Any bytes, also after another secret; nothing else is left in the folder."""
    path = tmp_path / "token"
    for content in (b"", b"first\r\n\x00\xff\x1a", new_seed()):
        write_secret(path, content)
        assert read_secret(path) == content
    assert [one.name for one in tmp_path.iterdir()] == ["token"]


@posix_only
def test_nobody_else_can_read_it_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first byte on, under any umask, and also where the file replaced was open to all."""
    path = tmp_path / "token"
    path.write_bytes(b"old")
    path.chmod(0o666)
    seen: list[int] = []
    really = os.fsync

    def watched(descriptor: int) -> None:
        seen.append(os.fstat(descriptor).st_mode & 0o777)
        really(descriptor)

    monkeypatch.setattr(files.os, "fsync", watched)
    before = os.umask(0)
    try:
        write_secret(path, b"new")
    finally:
        os.umask(before)
    assert seen[0] == 0o600
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_secret(path) == b"new"


@posix_only
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o777, 0o610])
def test_what_others_may_read_is_refused_with_the_command_that_closes_it(
    tmp_path: Path, mode: int
) -> None:
    """The error names file, mode and a command; after that very command it is read."""
    path = tmp_path / "it's a key"
    write_secret(path, b"secret")
    path.chmod(mode)
    with pytest.raises(SecretError) as caught:
        read_secret(path)
    assert str(path) in str(caught.value)
    assert f"{mode:03o}" in str(caught.value)
    assert "secret" not in str(caught.value).replace(str(path), "")
    assert caught.value.hint is not None
    subprocess.run(caught.value.hint, shell=True, check=True)
    assert read_secret(path) == b"secret"


@posix_only
def test_what_belongs_to_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns a file can give himself any right to it."""
    path = tmp_path / "token"
    write_secret(path, b"secret")
    us = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: us + 1)
    with pytest.raises(SecretError, match="belongs to another user") as caught:
        read_secret(path)
    assert f"sudo chown {us + 1}" in str(caught.value.hint)


def test_what_is_no_secret_file_is_an_error_in_words(tmp_path: Path) -> None:
    """Missing, a folder, below a file, far too long: each a deliberate error."""
    with pytest.raises(SecretMissing, match="there is no"):
        read_secret(tmp_path / "none")
    with pytest.raises(SecretError):
        read_secret(tmp_path)
    (tmp_path / "file").touch(0o600)
    with pytest.raises(SecretError):
        read_secret(tmp_path / "file" / "below")
    with pytest.raises(SecretError, match="cannot be written"):
        write_secret(tmp_path / "none" / "token", b"")
    with (tmp_path / "long").open("wb") as long:
        long.truncate(1 << 30)
    (tmp_path / "long").chmod(0o600)
    with pytest.raises(SecretError, match="no secret of ours"):
        read_secret(tmp_path / "long")


@posix_only
def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    """Reading ends at once, whoever put it there."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    errors: list[Exception] = []

    def read() -> None:
        try:
            read_secret(tmp_path / "pipe")
        except SecretError as error:
            errors.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(20)
    assert [str(error) for error in errors] == [f"{tmp_path / 'pipe'} is no file"]


def test_a_failed_write_leaves_the_old_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a full disk the old one is still there, and no half of the new one beside it."""
    path = tmp_path / "token"
    write_secret(path, b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(SecretError, match="No space left"):
            write_secret(path, b"new")
    assert read_secret(path) == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["token"]


def test_a_key_as_pem_is_the_key_of_its_seed() -> None:
    """Another implementation reads it and finds the same key."""
    seed = new_seed()
    key = load_pem_private_key(private_key_pem(seed), None)
    assert isinstance(key, Ed25519PrivateKey)
    assert key.private_bytes_raw() == seed
    with pytest.raises(ValueError, match="32 bytes"):
        private_key_pem(seed[1:])


def test_its_import_is_cheap() -> None:
    """A script that raises one alert loads no cryptography for it."""
    code = (
        "import sys, buskit.secrets\n"
        "print([m for m in ('ssl', 'cryptography', 'secrets', 'random', 'hashlib') "
        "if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"
