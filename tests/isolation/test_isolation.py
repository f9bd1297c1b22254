"""Nobody does or hears on the bus what is not theirs, and the suite that says so can fail."""

import itertools
from collections.abc import Iterator

import pytest

from tests.helpers.waiting import TIME_SCALE
from tests.isolation import engines, table
from tests.isolation.engines import Engine
from tests.isolation.suite import Suite
from tests.isolation.world import access

CATEGORIES = {
    *("connect", "publish", "publish retained", "subscribe", "will", "retained will"),
    *("retained read", "queued read", "takeover", "unsubscribe of others", "change of access"),
}


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Run an engine by name."""
    made = engines.ENGINES[request.param]()
    made.start(access())
    yield made
    made.stop()


@pytest.mark.parametrize("engine", [engines.chosen()], indirect=True)
def test_everyone_can_do_what_is_theirs_and_nothing_else(engine: Engine) -> None:
    """At least 5,000 checks over real connections: no leak, nothing wrongly denied."""
    tally = Suite(engine, patience_seconds=5.0).run()
    tally.print()
    assert not tally.leaks, "\n".join(itertools.chain(*tally.leaks.values()))
    assert not tally.denials, "\n".join(itertools.chain(*tally.denials.values()))
    assert not tally.unproven
    assert set(tally.checks) == CATEGORIES
    assert tally.checks.total() >= 5_000


@pytest.mark.parametrize("engine", ["amqtt"], indirect=True)
def test_the_suite_notices_a_broker_without_rules(engine: Engine) -> None:
    """Plain amqtt leaks in every category; a suite that did not see it would be worth nothing."""
    tally = Suite(engine, patience_seconds=0.3 * TIME_SCALE, every=50).run()
    tally.print()
    blind = CATEGORIES - set(tally.leaks)
    assert not blind
    assert sum(map(len, tally.leaks.values())) > 100


def test_the_page_is_whole() -> None:
    """Every column has topics of its own, every topic of the tree somebody who may speak there."""
    tree = table.rights(table.TOPICS)
    for column in table.COLUMNS:
        assert any("s" in row[column] for row in tree.values()), column
    gone = {f"{table.ROOT}/from/S1/gone"}
    for topic, row in tree.items():
        assert topic in gone or any("p" in letters for letters in row.values()), topic
    for page in (table.LOOK_ALIKES, table.WILDCARDS):
        assert tree.keys().isdisjoint(table.rights(page))
