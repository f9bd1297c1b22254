"""The whole chain over TLS, with real processes and with clocks that are wrong."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from tests.helpers.waiting import wait_until
from tests.processes.chain import Chain


@pytest.mark.parametrize("kind", ["tls", "mutual"])
def test_work_goes_down_and_answers_come_up(kind: Literal["tls", "mutual"], tmp_path: Path) -> None:
    """`hq tls init`, bundles, joining, work and answers; the broker dies and comes back."""
    with Chain(tmp_path, ("S001",), tls=kind) as chain:
        till = chain.till("S001")
        assert (till.home / "ca.pem").exists()
        assert (till.home / "client.pem").exists() == (kind == "mutual")
        first = chain.publish()
        chain.wait_state(first, "delivered")
        chain.say(till, till.inbox()[0], "done")
        chain.bus.kill()
        number = chain.alert(till)
        chain.bus.start()
        chain.wait_arrived("S001", number)
        chain.wait_settled()
        account = chain.account()
        assert account.lost == account.twice == []


def test_a_till_whose_clock_says_1970_joins_and_works(tmp_path: Path) -> None:
    """By its clock the broker's certificate is not valid yet: it pins the CA and asks for no date.

    Its clock cannot be set here, so the certificate is the one that is out of time.
    """
    with Chain(tmp_path, ("S001",), tls="tls") as chain:
        _valid_only_from(chain.home / "tls", datetime(2090, 1, 1, tzinfo=UTC))
        chain.bus.kill()
        chain.bus.start()
        chain.wait_arrived("S001", chain.alert(chain.till("S001")))
        late = chain.add_till("S001", "till-2")
        late.start()
        number = chain.alert(late)
        chain.wait_arrived("S001", number)
        directive = chain.issue("S001")
        for till in chain.tills.values():
            wait_until(
                lambda till=till: any(one["directive"] == directive for one in till.inbox()),
                what=f"the work at {till.name}",
            )


def _valid_only_from(folder: Path, begin: datetime) -> None:
    """Make the broker another certificate of the same CA and key, for some time far ahead."""
    old = x509.load_pem_x509_certificate((folder / "broker.pem").read_bytes())
    key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
    builder = (
        x509.CertificateBuilder(old.issuer, old.subject, old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin.replace(year=begin.year + 1))
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    made = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]
    (folder / "broker.pem").write_bytes(made.public_bytes(Encoding.PEM))
