"""What the soak looks at would be seen if it grew; the soak itself runs when it is asked for."""

from tests.faults.soak import judge_samples


def test_what_is_flat_is_right() -> None:
    """Noise and pools are no leak."""
    flat = [30.0, 34.0, 31.0, 40.0, 38.0, 39.0]
    assert judge_samples({"hub": flat}, {"hub": [13, 14, 13, 15, 13, 14]}, {"ledger": flat}) == []


def test_what_grows_is_named() -> None:
    """Memory, descriptors and a write-ahead log."""
    grows = [30.0, 60.0, 90.0, 120.0]
    found = judge_samples({"hub": grows}, {"agent": grows}, {"ledger": grows})
    assert [one.partition(":")[0] for one in found] == ["hub", "agent", "ledger"]
