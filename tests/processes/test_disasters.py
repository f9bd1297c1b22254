"""Disks that die, images and backups put back, programs started twice: with real processes."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.processes import status, tool
from tests.helpers.waiting import wait_until
from tests.processes.chain import Chain, Daemon, Till, running


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain of two stores, for the tests after which it is as good as before."""
    with Chain(tmp_path_factory.mktemp("chain"), ("S001", "S002")) as chain:
        yield chain


@pytest.fixture
def one_store(tmp_path: Path) -> Iterator[Chain]:
    """A chain of one store, for one test."""
    with Chain(tmp_path, ("S001",)) as chain:
        yield chain


@pytest.fixture
def three_stores(tmp_path: Path) -> Iterator[Chain]:
    """A chain of three stores, for one test."""
    with Chain(tmp_path, ("S001", "S002", "S003")) as chain:
        yield chain


def _work(till: Till, directive: str, role: str = "any") -> dict[str, object]:
    return next(
        item for item in till.inbox() if (item["directive"], item["role"]) == (directive, role)
    )


def test_a_wiped_device_gets_its_work_back_and_hq_counts_what_died(
    one_store: Chain,
) -> None:
    """A disk dies with entries on it that HQ had heard of: HQ says how many, to both sides."""
    chain = one_store
    till = chain.till("S001")
    finished, to_do = chain.publish(), chain.publish("S001", role="manager")
    chain.wait_state(to_do, "delivered")
    chain.wait_state(finished, "delivered")
    chain.say(till, _work(till, finished), "done")
    chain.wait_settled()
    till.stop()
    with till.program() as program:  # a backlog that takes a while to go up
        program.report("stock", [{"sku": str(n), "text": "x" * 440} for n in range(30_000)])
    till.start()
    standing = "SELECT heard_head, seq FROM uplink JOIN device ON device.no = device_no"
    standing += " JOIN store ON store.no = store_no WHERE store.id = 'S001' AND log = 'bulk'"
    wait_until(
        lambda: any(head > seq for head, seq in chain.rows(standing)),
        seconds=20,
        what="HQ to hear of the backlog",
        poll_seconds=0.002,
    )
    till.kill()
    # The will comes behind all that the device had sent.
    gone = "SELECT online FROM device JOIN store ON store.no = store_no WHERE store.id = 'S001'"
    wait_until(lambda: chain.rows(gone) == [(0,)], what="HQ to see it go")
    ((head, seq),) = chain.rows(standing)
    assert head > seq, "the backlog went up before the disk could die"

    till.wipe()
    till.join(chain.bundle(till.name))
    till.start()

    wait_until(lambda: len(till.inbox()) == 1, what="its open work")
    (item,) = till.inbox()
    assert (item["directive"], item["role"]) == (to_do, "manager")
    lost = wait_until(lambda: chain.incidents("entries may be lost"), what="the incident")
    assert [(one["store"], one["detail"]) for one in lost] == [
        ("S001", {"log": "bulk", "entries": head - seq})
    ]
    assert [one["store"] for one in chain.incidents("device set up anew")] == ["S001"]
    notices = wait_until(lambda: status(till.home)["notices"], what="the notice at the store")
    assert any(str(head - seq) in notice for notice in notices)
    chain.say(till, item, "done")
    chain.wait_state(to_do, "done")
    chain.wait_arrived("S001", chain.alert(till))
    # Said once: the same loss is not counted again when the new device says hello again.
    till.stop()
    till.start()
    chain.wait_arrived("S001", chain.alert(till))
    assert len(chain.incidents("entries may be lost")) == 1
    assert set(chain.states(finished).values()) == {"done"}


def test_a_device_put_back_from_an_image_goes_on_as_if_it_had_slept(
    one_store: Chain, tmp_path: Path
) -> None:
    """What it said after the image is not said twice, what it heard comes again."""
    chain = one_store
    till = chain.till("S001")
    before = chain.publish()
    chain.wait_state(before, "delivered")
    chain.alert(till)
    chain.wait_settled()
    till.stop()
    image = tmp_path / "image"
    shutil.copytree(till.home, image)
    till.start()

    after, withdrawn = chain.publish("S001", role="manager"), chain.publish()
    for directive in (after, withdrawn):
        chain.wait_state(directive, "delivered")
    chain.say(till, _work(till, before), "done")
    chain.say(till, _work(till, after, "manager"), "read")
    chain.reply(till, _work(till, after, "manager"))
    for _ in range(5):
        chain.alert(till)
    chain.report(till, 500)
    chain.cancel(withdrawn)
    chain.wait_settled()

    till.kill()
    till.wipe()
    shutil.copytree(image, till.home)
    till.start()

    wait_until(lambda: len(till.inbox()) >= 2, what="the work it had forgotten")
    wait_until(lambda: not _work(till, before)["open"], what="HQ's word that it is done")
    chain.say(till, _work(till, after, "manager"), "done")
    chain.reply(till, _work(till, after, "manager"))
    for _ in range(3):
        chain.alert(till)
    chain.wait_state(after, "done")
    wait_until(lambda: not till.unacknowledged(), what="all to go up")
    account = chain.account()
    # A withdrawn directive is nobody's work: the device need not know that it ever was.
    assert [one for one in account.lost if withdrawn not in one] == []
    assert account.twice == []
    assert _work(till, before)["state"] == "done"


def test_an_older_ledger_put_back_is_healed_by_the_stores(
    three_stores: Chain, tmp_path: Path
) -> None:
    """Directives, withdrawals, receipts, alerts and reports since the backup are there again."""
    chain = three_stores
    old = chain.publish()
    chain.wait_state(old, "delivered")
    chain.alert(chain.till("S001"))
    chain.wait_settled()
    copy = tmp_path / "ledger-copy.db"
    chain.hq("backup", str(copy))

    everywhere, withdrawn = chain.publish(), chain.publish()
    narrow = chain.publish("S002", role="manager")
    for directive in (everywhere, withdrawn, narrow):
        chain.wait_state(directive, "delivered")
    for till in chain.tills.values():
        chain.say(till, _work(till, old), "done")
        chain.say(till, _work(till, everywhere), "read")
        chain.reply(till, _work(till, everywhere))
        chain.alert(till)
    chain.report(chain.till("S003"), 1500)
    chain.wait_settled()
    chain.cancel(withdrawn)
    wait_until(
        lambda: all(
            _work(till, withdrawn)["state"] == "cancelled" for till in chain.tills.values()
        ),
        what="the withdrawal everywhere",
    )

    refused = chain.hq("restore", str(copy), "--yes", code=1)
    assert f"the hub is running (process {chain.hub.pid})" in refused
    chain.hub.stop()
    chain.hq("restore", str(copy), "--yes")
    assert len(chain.rows("SELECT id FROM directive")) == 1
    chain.hub.start()
    newer = chain.publish()  # the new history begins before the old one is back

    chain.wait_settled(seconds=60)
    account = chain.account()
    assert account.lost == []
    assert account.twice == []
    assert set(chain.states(withdrawn).values()) == {"cancelled"}
    said = chain.hq_json("status")
    assert said["asking"]["directives"] == []
    assert said["asking"]["adopted"] == 3
    assert said["asking"]["restored_at"] is not None
    assert {one["id"] for one in said["directives"]} == {
        *(old, everywhere, withdrawn, narrow, newer)
    }
    assert "3 directives came back from the stores" in chain.hq_process("status").stderr


def _fingerprint(home: Path, name: str) -> str:
    content = b"".join(
        path.read_bytes() for path in (home / name, home / f"{name}-wal") if path.exists()
    )
    return hashlib.sha256(content).hexdigest()


def test_a_second_hub_on_one_ledger_is_refused_and_writes_nothing(chain: Chain) -> None:
    """One ledger, one hub: the second names the first, and no byte of the ledger changes."""
    chain.wait_settled()
    chain.hub.freeze()  # so that whatever changes would be the second one's doing
    before = _fingerprint(chain.home, "ledger.db")
    refused = chain.hq("hub", code=1)
    assert f"a hub is running for {chain.home} already (process {chain.hub.pid})" in refused
    assert "stop that one first" in refused
    assert "Traceback" not in refused
    assert _fingerprint(chain.home, "ledger.db") == before
    chain.hub.thaw()
    chain.wait_arrived("S001", chain.alert(chain.till("S001")))
    chain.wait_state(chain.publish(), "delivered")


def test_a_second_agent_on_one_home_is_refused_and_writes_nothing(chain: Chain) -> None:
    """One home, one daemon: the second names the first, and no byte of the database changes."""
    till = chain.till("S001")
    chain.wait_settled()
    till.freeze()
    before = _fingerprint(till.home, "agent.db")
    refused = tool("run", home=till.home)
    assert refused.returncode == 1
    assert f"an agent is running for {till.home} already (process {till.pid})" in refused.stderr
    assert "two devices need two homes" in refused.stderr
    assert _fingerprint(till.home, "agent.db") == before
    till.thaw()
    chain.wait_arrived("S001", chain.alert(till))


def test_of_two_hubs_on_one_broker_the_newer_one_steps_down(chain: Chain, tmp_path: Path) -> None:
    """A copied home started by mistake: it says why and ends, and the first one works on."""
    chain.wait_state(chain.publish(), "delivered")
    twin_home = tmp_path / "twin"
    twin_home.mkdir()
    chain.hq("backup", str(twin_home / "ledger.db"))
    for name in ("hq.toml", "hub.key"):
        shutil.copy(chain.home / name, twin_home)
    shutil.copytree(chain.home / "keys", twin_home / "keys")
    twin: Daemon = chain.make_hub("twin", twin_home)
    with running(twin):
        # For a moment both hear the stores, and what the twin acknowledged must come to HQ too.
        def went_on() -> bool:
            for till in chain.tills.values():
                chain.alert(till)
            return twin.returncode is not None

        wait_until(went_on, seconds=30, what="the newer hub to step down")
        assert twin.returncode == 1
    assert "another hub, older than this one, is at work on this broker" in twin.said()
    assert "Traceback" not in twin.said()
    assert chain.hub.returncode is None
    for till in chain.tills.values():
        chain.wait_arrived(till.store, chain.alert(till))
    chain.wait_state(chain.publish(), "delivered")
    chain.wait_settled()
    assert chain.account().twice == []
    assert json.loads(chain.hq("stores", "--json"))
