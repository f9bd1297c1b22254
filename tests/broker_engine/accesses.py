"""Access files for tests, and connecting by them. Everybody's token is `token of <name>`."""

import os
from pathlib import Path
from typing import Any

from buswire.access import (
    AccessFile,
    DeviceAccess,
    HubAccess,
    JoinAccess,
    ToolAccess,
    encode_access,
    token_hash,
)
from tests.broker_engine.raw import Client

ROOT = "storebus/v1"


def token(name: str) -> str:
    """Tell a client's token."""
    return f"token of {name}"


def hashes(name: str) -> list[str]:
    """Tell what the access file says of it."""
    return [token_hash(token(name))]


def device(name: str, region: str = "east", roles: tuple[str, ...] = ("clerk",)) -> DeviceAccess:
    """Make a device's entry."""
    return DeviceAccess(tokens=hashes(name), region=region, roles=list(roles))


def access(version: int = 1, **parts: Any) -> AccessFile:
    """Make a small chain; `parts` replaces whole fields."""
    fields: dict[str, Any] = {
        "hubs": {"hub/main": HubAccess(tokens=hashes("hub/main"))},
        "devices": {
            "S1.till": device("S1.till", "east", ("clerk", "manager")),
            "S1.back": device("S1.back", "east", ("warehouse",)),
            "S2.till": device("S2.till", "west", ("clerk",)),
            "S3.till": device("S3.till", "", ("clerk",)),
        },
        "tools": {
            "tool/board": ToolAccess(tokens=hashes("tool/board"), reads=[f"{ROOT}/from/+/+"]),
        },
        "joins": {"join/b1": JoinAccess(tokens=hashes("join/b1"))},
    }
    return AccessFile(version=version, root=ROOT, **(fields | parts))


def write(path: Path, content: AccessFile | bytes) -> None:
    """Put the file in place as the hub does: whole."""
    new = path.with_suffix(".new")
    new.write_bytes(content if isinstance(content, bytes) else encode_access(content))
    os.replace(new, path)  # noqa: PTH105  # in one step


def connect(client: Client, name: str, **options: Any) -> int:
    """Say CONNECT as this identity; return the code of CONNACK."""
    client_id = f"{name}/run1" if name.startswith("hub/") else name
    options = {
        "client_id": client_id,
        "username": name,
        "password": token(name).encode(),
    } | options
    code, _ = client.connect(options.pop("client_id"), **options)
    return code


def member(port: int, name: str, **options: Any) -> Client:
    """Connect as this identity, which must be let in; close it yourself."""
    client = Client(port)
    assert connect(client, name, **options) == 0
    return client
