"""An office with two stores, a device in each, and its link up."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hqconsole.desk import Linked
from tests.hq_desk.office import Office


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """An office with two stores and its link up."""
    office = Office(tmp_path)
    office.desk.handle([Linked()], office.now)
    yield office
    office.ledger.close()
