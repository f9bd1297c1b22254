"""What this program and this machine call themselves, for head office's lists."""

import platform

_MACHINE_CHARACTERS = 100


def own_version() -> str:
    """The version that is installed; empty where it runs from its source."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - 20 ms

    try:
        return version("storebus")
    except PackageNotFoundError:
        return ""


def own_machine() -> str:
    """The machine's name in its network, as text that any message can carry."""
    name = platform.node()[:_MACHINE_CHARACTERS]
    return name.encode("utf-8", "replace").decode()  # the system may give bytes that are no text
