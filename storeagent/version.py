"""Which version of the program this is, for head office's lists."""

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """The version that is installed; empty where it runs from its source."""
    try:
        return version("storebus")
    except PackageNotFoundError:
        return ""
