"""A damaged ledger: nothing of it that the disk has changed is sent, and people are told."""

import pytest

from buskit.database import DatabaseDamaged
from buswire.cursors import START
from buswire.states import State
from hqconsole.desk import Tick
from hqconsole.ledger.soundness import require_sound
from tests.hq_desk.office import Office
from tests.hq_desk.rollouts import Rollouts

SPOILT = {
    "a letter of a directive": "UPDATE doc SET data = CAST(replace(CAST(data AS TEXT), 'One',"
    " 'Ome') AS BLOB)",
    "a seal": "UPDATE doc SET seal = 'f00d' || substr(seal, 5)",
    "which text an entry has": "UPDATE channel_log SET doc_no = doc_no + 1 WHERE no = 1",
    "the id of an entry": "UPDATE channel_log SET id = randomblob(16) WHERE no = 1",
}


def sent_to_a_newcomer(office: Office) -> None:
    """Publish what is new, and answer a device that has nothing and one that has the set."""
    first = office.hello()
    office.hello(set_version=first.set_version, cursors=dict.fromkeys(first.heads, START))
    office.desk.handle([Tick()], office.now)


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_what_the_disk_has_changed_is_not_sent(office: Office, spoil: str) -> None:
    """Whatever of a record it is; the error names the command that mends it."""
    office.issue("One")
    office.issue("Another")
    sent_to_a_newcomer(office)
    office.ledger.connection.execute(spoil)
    office.issue("Third")
    with pytest.raises(DatabaseDamaged) as caught:
        sent_to_a_newcomer(office)
    assert "hq restore" in str(caught.value.hint)


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE delivery SET state = 4",
        "UPDATE delivery SET open = 0",
        "UPDATE delivery SET arrival_no = 9",
        "UPDATE channel SET name = name || '0'",
    ],
)
def test_what_a_hub_goes_by_is_looked_at_before_it_begins(office: Office, spoil: str) -> None:
    """Where deliveries stand, and the names of the channels."""
    office.issue("One")
    sent_to_a_newcomer(office)
    require_sound(office.ledger)
    office.ledger.connection.execute(spoil)
    with pytest.raises(DatabaseDamaged, match=spoil.split()[1]):
        require_sound(office.ledger)


def test_what_is_written_fits(office: Office) -> None:
    """Issued, sealed and sent: every sum is that of its row."""
    office.issue("One")
    sent_to_a_newcomer(office)
    require_sound(office.ledger, thoroughly=True)


def test_a_text_that_is_yet_to_be_sent_is_what_was_written_down() -> None:
    """What the disk has changed of a draft is never sealed."""
    office = Rollouts()
    office.start(office.write("In parts", starts="in 2 hours"))
    office.ledger.connection.execute(
        "UPDATE doc SET data = CAST(replace(CAST(data AS TEXT), 'parts', 'ports') AS BLOB)"
    )
    with pytest.raises(DatabaseDamaged, match="doc"):
        office.later(7300.0)


def test_a_wave_goes_to_those_who_were_in_the_frozen_audience() -> None:
    """Whoever the disk has put in their place gets nothing."""
    office = Rollouts()
    no = office.out("In parts", pilot=["S1"])
    office.ledger.connection.execute("UPDATE planned SET mailbox_no = mailbox_no + 1")
    with pytest.raises(DatabaseDamaged, match="frozen"):
        office.answer(no, "S1", State.DONE)
