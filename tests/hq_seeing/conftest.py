"""A head office of its own for each test, as the commands' tests have it."""

from tests.hq_console.conftest import field, home, run

__all__ = ["field", "home", "run"]
