"""Fixtures: running brokers. None may be called `broker`, which is the package."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.broker_engine.engines import Ours


@pytest.fixture
def start() -> Iterator[Callable[..., Ours]]:
    """Start embedded brokers with options; they are stopped when the test is over."""
    running: list[Ours] = []

    def starting(**options: Any) -> Ours:
        running.append(Ours(**options))
        return running[-1]

    yield starting
    for engine in running:
        engine.stop()


@pytest.fixture
def engine(start: Callable[..., Ours]) -> Ours:
    """Run an embedded broker with default limits."""
    return start()
