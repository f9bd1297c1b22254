"""The device's end of the protocol: events in, effects out.

Owns: when to say hello, which answer counts, what of a channel may be taken, when records may be
sent, and when to ask again. Must not know: SQLite, MQTT, clocks, threads, or what a record means.
Time comes in as `now` (monotonic seconds), randomness as the two callables.

The caller's duties, in this order:

1. Save all the effects of one call (or of several) in one transaction; `Send`s and `Listen`s wait.
2. After the commit, carry out `Listen` and `Send`.
3. If the commit fails, throw the machine away and make a new one from what is saved.

Rules that were paid for, each with a loss when it is left out:

- A record is taken only where it follows the cursor by number *and* id; anything else is a
  duplicate or a reason to say hello.
- Only the welcome to the latest nonce counts, and it is the only source of the channel set.
- A snapshot is applied whole: set version, cursors at the heads, and open work, in one transaction.
  Its pages are those of one answer: a doubled hello is answered twice, at two moments.
- Records go up only after a welcome, numbered on from HQ's cursor in it (`uplink`).
- An HQ cursor that the outbox does not know means that this database may be an older copy, so its
  other beliefs are not trusted either: the device asks for a snapshot.
"""

from collections.abc import Callable, Sequence

from buswire.cursors import START, Cursor, Misfit, advance, fit
from buswire.device_words import (
    Desk,
    Doubt,
    Effect,
    Learn,
    Listen,
    Process,
    Reset,
    Saved,
    Send,
    Strange,
    Take,
    Timing,
)
from buswire.errors import WireError
from buswire.messages import (
    LOGS,
    UNSURE_LIMIT,
    Ack,
    AnyMessage,
    Backlog,
    Heads,
    Hello,
    Hub,
    Log,
    Nudge,
    Records,
    Snapshot,
    Welcome,
)
from buswire.patience import Patience
from buswire.topics import Channel
from buswire.uplink import Settled, UplinkWriter

__all__ = [
    "Desk",
    "DeviceMachine",
    "Doubt",
    "Effect",
    "Learn",
    "Listen",
    "Process",
    "Reset",
    "Saved",
    "Send",
    "Settled",
    "Strange",
    "Take",
    "Timing",
]


class DeviceMachine:
    """One device's side of the protocol, for the life of one process."""

    def __init__(
        self,
        saved: Saved,
        desk: Desk,
        *,
        process: Process,
        hq_key: Callable[[], str] = lambda: "",
        draw: Callable[[], float],
        new_id: Callable[[], str],
        wall_clock: Callable[[], float],
        roles: Sequence[str] = (),
        version: str = "",
        timing: Timing | None = None,
    ) -> None:
        """Begin unconnected, from what is saved.

        Args:
            saved: What the database remembers.
            desk: The window on the database.
            process: The process of the device; one for all machines that it makes.
            hq_key: The id of the newest key of HQ's that is trusted at the moment.
            draw: A random number in [0, 1).
            new_id: A random 128-bit id in hex.
            wall_clock: Unix time as this device believes it; only told to HQ, never relied upon.
            roles: What the device was set up to serve.
            version: The agent's version, for HQ's lists.
            timing: The waits.
        """
        self._desk = desk
        self._process = process
        self._hq_key = hq_key
        self._draw = draw
        self._new_id = new_id
        self._wall_clock = wall_clock
        self._roles = list(roles)
        self._version = version
        self._timing = timing or Timing()
        self._patience = Patience(self._timing, draw)
        self._install = saved.install
        self.set_version = saved.set_version
        self.cursors: dict[Channel, Cursor] = dict(saved.cursors)
        self.region = saved.region
        self.writers: dict[Log, UplinkWriter] = {
            log: UplinkWriter(
                log, *saved.acked.get(log, (START, 0)), window=8 if log == "act" else 2
            )
            for log in LOGS
        }
        self.run: str | None = None
        """The hub run that answered last."""
        self.welcomed = False
        """Whether HQ has answered on this connection, so that records may go up."""
        self.last_welcome_at: float | None = None
        """When HQ last answered, by the monotonic clock of the caller."""
        self._linked = False
        self._heard_run: str | None = None
        self._nonce: str | None = None
        self._asking = False
        self._ask_at: float | None = None
        self._reason = ""
        self._challenge = ""
        self._said_at = -1e18
        self._progress = False
        self._again = False
        self._distrust = bool(saved.cursors) and saved.set_version == START
        self._through: dict[Channel, Cursor] | None = None
        self._more = False
        self._welcome: Welcome | None = None
        self._pages: dict[tuple[str, int], Snapshot] = {}
        self._ack_by: float | None = None
        self._unsure_at: float | None = None
        self._unsure_asks = 0

    # --- events ----------------------------------------------------------------------------------

    def linked(self, now: float) -> list[Effect]:
        """The link is up: subscribe, and say hello."""
        self._linked = True
        self._forget_link()
        self._ask(now, self._timing.connect_jitter_seconds, "connected")
        return [Listen(self.region, tuple(self.cursors))]

    def unlinked(self) -> None:
        """The link is gone; nothing is sent until it is back."""
        self._linked = False
        self._forget_link()
        self._ask_at = None
        self._unsure_at = None

    def heard(self, message: AnyMessage, now: float) -> list[Effect]:
        """Take one message of HQ's; what is due after it, records included, is in the effects."""
        match message:
            case Records():
                effects = self._take(message, now)
            case Welcome():
                effects = self._on_welcome(message, now)
            case Snapshot():
                effects = self._on_page(message, now)
            case Ack():
                effects = self._on_ack(message, now)
            case Heads():
                effects = self._on_heads(message, now)
            case Hub():
                effects = self._on_hub(message, now)
            case Nudge():
                self._on_nudge(message, now)
                effects = []
            case _:
                effects = [Strange(f"a {type(message).__name__} on a topic of HQ's")]
        return effects + self.tick(now)

    def tick(self, now: float) -> list[Effect]:
        """Do what is due: a hello, records, a question about unsure work.

        Call it also when the outbox has something new, and at `next_at`.
        """
        if not self._linked:
            return []
        effects: list[Effect] = []
        if self.welcomed:
            self._pump(effects, now)
            if self._ack_by is not None and now >= self._ack_by:
                self._ack_by = now + self._timing.ack_seconds
                self._ask(now, self._timing.gap_jitter_seconds, "records unacknowledged")
            if self._unsure_at is not None and now >= self._unsure_at:
                self._ask_about_unsure(now)
        if self._ask_at is not None and now >= self._ask_at:
            effects.append(self._hello(now))
        return effects

    def next_at(self) -> float | None:
        """When `tick` has something to do again, if nothing else happens; None without a link."""
        times = [self._ask_at, self._ack_by, self._unsure_at if self.welcomed else None]
        return min((at for at in times if at is not None), default=None)

    @property
    def nonce(self) -> str | None:
        """The nonce of the latest hello, as long as its answer counts."""
        return self._nonce

    def wonder(self, now: float, reason: str) -> None:
        """Plan a hello, because of something that only the machine's owner has noticed."""
        self._ask(now, self._timing.heads_jitter_seconds, reason)

    # --- asking ----------------------------------------------------------------------------------

    def _forget_link(self) -> None:
        self.welcomed = False
        self._asking = False
        self._nonce = None
        self._patience.begin()
        self._welcome = None
        self._pages = {}
        self._through = None
        self._again = False
        self._ack_by = None
        self._heard_run = None

    def _ask(self, now: float, jitter_seconds: float, reason: str) -> None:
        """Plan a hello; while one is under way, plan to check again after its answer."""
        if not self._linked:
            return
        if self._asking:
            self._again = True
            return
        at = now + self._draw() * jitter_seconds
        if not self._progress:
            at = max(at, self._said_at + self._timing.spacing_seconds)
        if self._ask_at is None or at < self._ask_at:
            self._ask_at = at
            self._reason = reason

    def _hello(self, now: float) -> Send:
        self._ask_at = now + self._patience.ask(self._nonce)
        self._asking = True
        self._progress = False
        self._said_at = now
        self._process.hellos += 1
        self._nonce = self._new_id()
        self._welcome = None
        self._pages = {}
        self._through = None
        return Send(
            Hello(
                nonce=self._nonce,
                run=self._process.run,
                install=self._install,
                start=self._process.start,
                number=self._process.hellos,
                machine=self._process.machine,
                challenge=self._challenge,
                hq_key=self._hq_key(),
                reason=self._reason,
                version=self._version,
                clock_at=self._wall_clock(),
                roles=self._roles,
                set_version=START if self._distrust else self.set_version,
                cursors={str(channel): cursor for channel, cursor in self.cursors.items()},
                unsure=list(self._desk.unsure(UNSURE_LIMIT)),
                uplink={
                    log: Backlog(acked=writer.acked, pending=writer.pending(self._desk))
                    for log, writer in self.writers.items()
                },
            )
        )

    def _answered(self, now: float, *, more: bool = False) -> None:
        """The latest hello is answered in full."""
        self._asking = False
        self._patience.begin()
        self._nonce = None
        self._welcome = None
        self._pages = {}
        self._through = None
        self._ask_at = now + self._timing.beat_seconds * (0.8 + 0.4 * self._draw())
        self._reason = "beat"
        again, self._again = self._again, False
        if more:
            self._progress = True
            self._ask(now, 0.0, "more to come")
        elif again:
            self._ask(now, self._timing.gap_jitter_seconds, "a gap while asking")
        elif self._heard_run not in {None, self.run}:
            self._heard_run = None  # one hello settles it, whichever of the two runs is the older
            self._ask(now, self._timing.gap_jitter_seconds, "a new run of HQ")
        if self._unsure_at is None:
            self._unsure_asks = 0
            self._unsure_at = now + self._timing.unsure_first_seconds * (0.5 + self._draw())

    def _ask_about_unsure(self, now: float) -> None:
        if not self._desk.unsure(1):
            self._unsure_at = None
            self._unsure_asks = 0
            return
        wait = min(
            self._timing.unsure_most_seconds,
            self._timing.unsure_first_seconds * 2**self._unsure_asks,
        )
        self._unsure_asks = min(self._unsure_asks + 1, 30)
        self._unsure_at = now + wait * (0.5 + self._draw())
        self._ask(now, 0.0, "unsure work")

    # --- HQ's answers ----------------------------------------------------------------------------

    def _on_welcome(self, message: Welcome, now: float) -> list[Effect]:
        self._wait_for_later_answers(message.nonce, 0, now)
        if message.nonce != self._nonce or self._welcome is not None:
            return []
        self._challenge = ""
        if message.mode == "later":
            self._nonce = None
            self._patience.renew()
            self._ask_at = now + max(message.later_seconds, 1.0) * (1.0 + self._draw())
            return []
        # To be put off is no news: who is put off for ever is to notice.
        self.last_welcome_at = now
        try:
            channels = {Channel.parse(text): head for text, head in message.heads.items()}
            through = {Channel.parse(text): to for text, to in message.through.items()}
        except WireError as error:
            return [Strange(f"a welcome with {error}")]
        self._welcome = message
        self.run = message.run
        effects: list[Effect] = []
        stranger = False
        for log, writer in self.writers.items():
            settled, known = writer.rebase(message.uplink.get(log, START), self._desk)
            effects.append(settled)
            stranger = stranger or not known
        if stranger and not self._distrust:
            self._distrust = True
            effects.append(Doubt())
        self._ack_by = None
        self.welcomed = True
        effects.append(
            Learn(message.answers, message.want, message.store, message.lost, message.forgot)
        )
        if message.mode == "snapshot":
            self._ask_at = now + self._patience.rest()
            effects += self._finish_snapshot(now)
            return effects
        if channels.keys() != self.cursors.keys() or message.set_version != self.set_version:
            self._distrust = True
        if self._distrust:
            self._answered(now, more=True)
            return effects
        self._through = through
        self._more = any(
            through.get(channel, head).seq < head.seq for channel, head in channels.items()
        )
        self._check_replay(now)
        return effects

    def _on_nudge(self, message: Nudge, now: float) -> None:
        if message.challenge:
            # The hello that is under way will not be answered before this is said again.
            self._challenge = message.challenge
            self._asking = False
        self._ask(now, self._timing.connect_jitter_seconds, message.reason or "nudged")

    def _on_hub(self, message: Hub, now: float) -> list[Effect]:
        """HQ is there, perhaps another run of it; that it goes changes nothing."""
        if message.up:
            self._heard_run = message.run
            if self._asking and self._ask_at is not None:
                if self._patience.is_tried:
                    # HQ says this when it comes: what was asked before was asked of nobody.
                    wait = self._patience.renewed() + self._draw() * message.spread_seconds
                    self._ask_at = min(self._ask_at, now + wait)
            elif message.run != self.run:
                self._ask(now, message.spread_seconds, "a new run of HQ")
        return []

    def _wait_for_later_answers(self, nonce: str, part: int, now: float) -> None:
        if self._patience.is_under_way(nonce, part) and self._asking and self._ask_at is not None:
            self._ask_at = max(self._ask_at, now + self._patience.rest())

    def _check_replay(self, now: float) -> None:
        if self._through is None:
            return
        behind = any(
            self.cursors.get(channel, START).seq < to.seq for channel, to in self._through.items()
        )
        if behind:
            self._ask_at = now + self._patience.rest()
        else:
            self._answered(now, more=self._more)

    def _on_page(self, message: Snapshot, now: float) -> list[Effect]:
        self._wait_for_later_answers(message.nonce, message.page, now)
        if message.nonce != self._nonce:
            return []
        self._pages[message.answer, message.page] = message
        self._ask_at = now + self._patience.rest()
        return self._finish_snapshot(now)

    def _finish_snapshot(self, now: float) -> list[Effect]:
        welcome = self._welcome
        if welcome is None or welcome.mode != "snapshot":
            return []
        wanted = [(welcome.answer, page) for page in range(1, welcome.pages + 1)]
        if any(page not in self._pages for page in wanted):
            return []
        items = [item for page in wanted for item in self._pages[page].items]
        before = (self.region, frozenset(self.cursors))
        self.set_version = welcome.set_version
        self.cursors = {Channel.parse(text): head for text, head in welcome.heads.items()}
        self.region = welcome.store.region
        self._distrust = False
        self._unsure_at = now + self._timing.unsure_first_seconds * self._draw()
        self._unsure_asks = 0
        effects: list[Effect] = [Reset(self.set_version, dict(self.cursors), items, welcome.store)]
        self._answered(now)
        if (self.region, frozenset(self.cursors)) != before:
            # What was published between the snapshot and the new subscriptions is asked for again.
            effects.append(Listen(self.region, tuple(self.cursors)))
            self._ask(now, self._timing.gap_jitter_seconds, "new channels")
        return effects

    def _on_ack(self, message: Ack, now: float) -> list[Effect]:
        if not self.welcomed or message.run != self.run:
            return []
        outcome = self.writers[message.log].acknowledge(message.cursor, self._desk)
        if isinstance(outcome, Settled):
            self._ack_by = (
                None
                if all(writer.idle for writer in self.writers.values())
                else now + self._timing.ack_seconds
            )
            return [outcome]
        if not outcome:
            self._ask(now, self._timing.gap_jitter_seconds, "an acknowledgement that does not fit")
        return []

    # --- records ---------------------------------------------------------------------------------

    def _take(self, message: Records, now: float) -> list[Effect]:
        try:
            channel = Channel.parse(message.log)
        except WireError as error:
            return [Strange(str(error))]
        cursor = self.cursors.get(channel)
        if cursor is None or self._distrust:
            return []
        ids = [record.id for record in message.records]
        outcome = fit(cursor, message.after, ids)
        if outcome is Misfit.DUPLICATE:
            return []
        if outcome is Misfit.GAP:
            self._ask(now, self._timing.gap_jitter_seconds, f"a gap in {channel}")
            return []
        tail = message.records[outcome:]
        if not tail:
            return []
        lagging = self._through is not None and cursor.seq < self._through.get(channel, START).seq
        self.cursors[channel] = advance(message.after, ids)
        if lagging:  # what is new on other channels must not put off asking again for a lost replay
            self._check_replay(now)
        return [Take(channel, tail, self.cursors[channel])]

    def _on_heads(self, message: Heads, now: float) -> list[Effect]:
        if self.run is not None and message.run != self.run:
            self._ask(now, self._timing.heads_jitter_seconds, "a new run of HQ")
            return []
        for text, head in message.heads.items():
            try:
                mine = self.cursors.get(Channel.parse(text))
            except WireError as error:
                return [Strange(str(error))]
            if mine is not None and mine != head:
                self._ask(now, self._timing.heads_jitter_seconds, f"behind in {text}")
                break
        return []

    def _pump(self, effects: list[Effect], now: float) -> None:
        """Send what the windows admit; figures wait until nothing of `act` is left to send."""
        for log in LOGS:
            writer = self.writers[log]
            while (message := writer.next(self._desk)) is not None:
                effects.append(Send(message))
                if self._ack_by is None:
                    self._ack_by = now + self._timing.ack_seconds
            if writer.has_more(self._desk):
                break
