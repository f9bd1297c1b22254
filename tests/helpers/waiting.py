"""Waiting for something to become true, with a deadline that slow machines can stretch."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

TIME_SCALE = float(os.environ.get("STOREBUS_TEST_TIME_SCALE", "1"))


def wait_until(
    condition: Callable[[], T],
    *,
    seconds: float = 10.0,
    what: str = "the condition",
    poll_seconds: float = 0.02,
) -> T:
    """Return the first true value of `condition`; fail with `what` when the time is over."""
    deadline = time.monotonic() + seconds * TIME_SCALE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds * TIME_SCALE:g} s in vain for {what}")
        time.sleep(poll_seconds)
