"""Hellos: which are answered, which are dropped, and who has to prove first that it is there.

Owns the bounds on how often a device may ask and how much it is sent, and the challenges. The rule
by which a hello is of now is `runs`; the answer itself is made by `answering`.

What is only remembered here (allowances, challenges) may be lost with the process: the next hello
makes up for it.
"""

from collections.abc import Callable

from buswire.cursors import Cursor
from buswire.messages import Hello, Nudge, Welcome
from buswire.topics import Identity
from hqconsole.answering import Answering
from hqconsole.batch import Batch
from hqconsole.bounds import Allowance
from hqconsole.ledger import device_runs
from hqconsole.ledger.devices import Device
from hqconsole.ledger.troubles import record_standing_incident
from hqconsole.notary import Notary
from hqconsole.runs import Ruling, Run, Verdict, alternates_with, judge_run
from hqconsole.timekeeping import Timekeeping
from hqconsole.timing import DeskTiming, HubLimits

CLONED = "cloned device"
"""The kind of the incident that two machines have one identity."""
OLD_KEYS = "HQ's keys are older than those that devices know"
"""The kind of the incident that the folder of keys is an older copy: what is announced next with it
no device would follow. A recovery is followed: `hq key recover`."""
_REPEATS_BEFORE_PROOF = 3
"""So many hellos in a row that seem to be repeats: the machine may have been put back whole."""
_CHALLENGES_PER_DEVICE = 4
_TOO_MANY_SECONDS = 60.0
_UNPROVED_SECONDS = 2.0


class Hellos:
    """Takes the hellos of devices that may speak."""

    def __init__(
        self,
        notary: Notary,
        *,
        run: str,
        new_id: Callable[[], str],
        timing: DeskTiming,
        limits: HubLimits,
        timekeeping: Timekeeping,
    ) -> None:
        """Begin with everybody having their full share.

        Args:
            notary: Knows HQ's chain of keys.
            run: This hub process.
            new_id: A random 128-bit id in hex.
            timing: Waits and bounds of the protocol.
            limits: What one device may take.
            timekeeping: Hears what time devices have.
        """
        self.told: dict[Identity, Cursor] = {}
        """The version of the channel set that each device was told last."""
        self._notary = notary
        self._run = run
        self._new_id = new_id
        self._timing = timing
        self._timekeeping = timekeeping
        self._often = Allowance(limits.hellos_per_minute)
        self._doubtful = Allowance(limits.hellos_per_minute)
        self._much = Allowance(limits.replay_bytes_per_minute)
        self._challenges: dict[int, dict[str, str]] = {}
        self._repeats: dict[int, int] = {}

    def hear(self, batch: Batch, device: Device, hello: Hello) -> None:
        """Answer a hello, or do what is right instead."""
        known = device_runs.of_device(batch.reading, device.no)
        challenge = self._challenges.get(device.no, {}).get(hello.run)
        proved = challenge is not None and hello.challenge == challenge
        ruling = judge_run(hello, known, device.run, proved=proved)
        if ruling.verdict is not Verdict.TAKE:
            # Whoever carries messages can say these as often as he likes: they have an allowance
            # of their own, so that they use up nobody's.
            if not self._doubtful.wait_seconds(device.no, 1, batch.now):
                self._doubtful.spend(device.no, 1, batch.now)
                self._doubt(batch, device, hello, ruling.verdict)
            return
        if not self._may_ask(batch, device, hello):
            return
        self._note_run(batch, device, hello, known, ruling)
        if hello.hq_key and not self._notary.is_own(hello.hq_key):
            record_standing_incident(
                batch.connection,
                OLD_KEYS,
                at=batch.at,
                device_no=None,
                told_by=str(device.identity),
                key=hello.hq_key,
            )
        if wait_seconds := self._much.wait_seconds(device.no, 1, batch.now):
            self._later(batch, device, hello, wait_seconds)
            return
        self.told[device.identity] = device.place.set_version
        measures_clock = self._timekeeping.hear(device, hello, batch.now)
        answering = Answering(
            batch.connection,
            device,
            hello,
            run=self._run,
            at=batch.at,
            new_id=self._new_id,
            timing=self._timing,
            keys=self._notary.chain_after(hello.hq_key),
            measures_clock=measures_clock,
        )
        sent = len(batch.out)
        for message in answering.messages():
            batch.tell(device.identity, message)
        # The welcome itself is free: it is what the device needs to go on sending.
        size_bytes = sum(len(one.payload) for one in batch.out[sent + 1 :])
        self._much.spend(device.no, size_bytes, batch.now)

    def _may_ask(self, batch: Batch, device: Device, hello: Hello) -> bool:
        """Whether the hello is to be looked at; who says too many is told once, then ignored."""
        if self._often.wait_seconds(device.no, 1, batch.now):
            if self._often.left(device.no, batch.now) >= 0:
                self._often.spend(device.no, 1, batch.now)
                self._later(batch, device, hello, _TOO_MANY_SECONDS)
            return False
        self._often.spend(device.no, 1, batch.now)
        batch.hellos += 1
        over = batch.hellos - self._timing.hellos_per_batch
        if over > 0:
            self._later(batch, device, hello, 1.0 + over / self._timing.hellos_per_second)
            return False
        return True

    def _doubt(self, batch: Batch, device: Device, hello: Hello, verdict: Verdict) -> None:
        """Drop a repeat; make the device prove that it is there where it may be one."""
        if verdict is Verdict.REPEAT:
            repeats = self._repeats[device.no] = self._repeats.get(device.no, 0) + 1
            if repeats % _REPEATS_BEFORE_PROOF:
                return
        challenges = self._challenges.setdefault(device.no, {})
        if hello.run not in challenges:
            while len(challenges) >= _CHALLENGES_PER_DEVICE:
                del challenges[next(iter(challenges))]
            challenges[hello.run] = self._new_id()
        challenge = challenges[hello.run]
        if self._notary.chain_after(hello.hq_key):
            # Its keys may be too old for it to believe the nudge; only a welcome brings new ones.
            self._later(batch, device, hello, _UNPROVED_SECONDS)
        batch.tell(device.identity, Nudge(reason="prove that you are there", challenge=challenge))

    def _note_run(
        self, batch: Batch, device: Device, hello: Hello, known: dict[str, Run], ruling: Ruling
    ) -> None:
        self._repeats.pop(device.no, None)
        if device.no in self._challenges:
            self._challenges[device.no].pop(hello.run, None)
        device_runs.note(
            batch.connection,
            device.no,
            hello,
            at=batch.at,
            new=hello.run not in known,
            came_back=ruling.came_back,
        )
        other = alternates_with(known, device.run, ruling)
        if other is not None:
            record_standing_incident(
                batch.connection,
                CLONED,
                at=batch.at,
                device_no=device.no,
                runs=[
                    {"run": other.run, "machine": other.machine, "heard_at": other.last_at},
                    {"run": hello.run, "machine": hello.machine, "heard_at": batch.at},
                ],
            )

    def _later(self, batch: Batch, device: Device, hello: Hello, seconds: float) -> None:
        message = Welcome(
            nonce=hello.nonce,
            run=self._run,
            at=batch.at,
            mode="later",
            later_seconds=round(seconds, 1),
            keys=self._notary.chain_after(hello.hq_key),
        )
        batch.tell(device.identity, message)
