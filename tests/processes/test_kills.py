"""The broker goes, the hub goes: whoever stays finds back by itself.

Kills by the hundred are in `tests.faults.kills`.
"""

from pathlib import Path

from tests.processes.chain import Chain


def test_agents_and_hub_come_back_by_themselves(tmp_path: Path) -> None:
    """Only the broker is started again: the others find it, and nobody touched them."""
    with Chain(tmp_path, ("S001", "S002")) as chain:
        starts = [daemon.starts for daemon in (chain.hub, *chain.tills.values())]
        for _ in range(3):
            chain.bus.kill()
            numbers = [(till, chain.alert(till)) for till in chain.tills.values()]
            directive = chain.issue()
            chain.bus.start()
            for till, number in numbers:
                chain.wait_arrived(till.store, number)
            chain.wait_state(directive, "delivered")
        chain.hub.kill()
        numbers = [(till, chain.alert(till)) for till in chain.tills.values()]
        directive = chain.publish()
        chain.hub.start()
        for till, number in numbers:
            chain.wait_arrived(till.store, number)
        chain.wait_state(directive, "delivered")
        chain.wait_settled()
        assert chain.account().twice == []
        assert [one.starts for one in (chain.hub, *chain.tills.values())] == [
            starts[0] + 1,
            *starts[1:],
        ]
