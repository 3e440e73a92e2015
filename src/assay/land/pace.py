"""Keeps to a vendor's rate, one for all processes of a lake's environment: permits evenly apart, a pause and a lower rate after a refusal."""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from secrets import token_hex
from typing import Protocol
from weakref import WeakKeyDictionary, proxy

import msgspec

from assay import clock as clocks
from assay.ports import Fact, Ledger

FEWEST, MOST = 2, 64  # that ask at once
ALONE = 4  # that ask at once where nothing keeps a pace
RECENT = 0.1  # weight of the newest answer's seconds
NAMED = 16  # who put the newest states
AHEAD = 0.1  # seconds of permits that are taken from a ledger at once
TAKEN = 256  # at most
FRESH = 1.0  # seconds for which what was seen in a ledger is taken to be of that ledger


class State(msgspec.Struct, frozen=True):
    """What all who ask with one key go by, in seconds of one clock.

    Attributes:
        rate: permits a second.
        at: when this was written.
        due: when the next even permit falls due.
        resume: when the vendor may be asked again.
        changed: when the rate was changed last.
        refusals: how many volleys the vendor refused, and each of their requests.
    """

    rate: float
    at: float = 0.0
    due: float = 0.0
    resume: float = 0.0
    changed: float = 0.0
    refusals: int = 0


class Place(Protocol):
    """Where the state of a key lies, and the clock of whoever shares it."""

    @property
    def ahead(self) -> float:
        """Seconds of permits worth taking at once."""
        ...

    def now(self) -> float:
        """Seconds."""
        ...

    def read(self, first: State) -> State:
        """The state, as it is or was `ahead` ago: permits of then may still be used. `first` where there was none."""
        ...

    def change(self, first: State, to: Callable[[State], State]) -> State:
        """What `to` makes of the state, which then is the state; nobody else changed it meanwhile."""
        ...


class Here:
    """In this process alone; `clock` gives seconds that never run backwards."""

    ahead = 0.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.now = clock
        self._state: State | None = None
        self._lock = threading.Lock()

    def read(self, first: State) -> State:
        """See `Place`."""
        return self._state or first

    def change(self, first: State, to: Callable[[State], State]) -> State:
        """See `Place`."""
        with self._lock:
            self._state = to(self._state or first)
            return self._state


@dataclass
class Shared:
    """In a lake's ledger, a fact `rate` a key: for all processes that work on the lake, by the clock of the day."""

    ledger: Ledger
    key: str
    clock: Callable[[], float] = lambda: clocks.now().timestamp()
    ahead: float = AHEAD
    _seen: Fact | None = field(default=None, init=False)
    _looked: float = field(default=-math.inf, init=False)

    def now(self) -> float:
        """See `Place`."""
        return self.clock()

    def read(self, first: State) -> State:
        """See `Place`."""
        self._look(self.ahead)
        return _state(self._seen, first)

    def change(self, first: State, to: Callable[[State], State]) -> State:
        """See `Place`. It is put on top of what was seen last; who was not the newest is told what is, and begins anew on that.

        So it is one call of the ledger where nobody else asks. Of two that put the same version the ledger keeps the first. A
        fact names those who put the newest versions before it too: who finds others there, after an answer that was lost,
        knows whether it was first. What was seen a while ago may be of a ledger that was lost and made anew since, whose versions are
        lower: it is read again.
        """
        self._look(FRESH)
        before = self._seen
        while True:
            found, mine = to(_state(before, first)), token_hex(4)
            version, last = (before.version, before.body["by"]) if before else (0, [])
            body = msgspec.to_builtins(found) | {"by": [*last[1 - NAMED :], mine]}
            put = Fact("rate", "", self.key, clocks.now(), body, version + 1)
            there = self.ledger.record([put])
            before = self._seen = there[0] if there else put
            self._looked = self.clock()
            if mine in before.body["by"]:
                return found

    def _look(self, fresh: float) -> None:
        """See what stands there, unless it was seen less than so many seconds ago."""
        if not 0 <= self.clock() - self._looked < fresh:
            self._seen, self._looked = self.ledger.newest("rate", "", self.key), self.clock()


def _state(fact: Fact | None, first: State) -> State:
    return msgspec.convert(fact.body, State) if fact else first


class Pace:
    """At most `requests` arrivals in any `per` seconds, as the vendor counts them.

    GCRA with multiplicative decrease and slow increase: a burst of 1 % of the requests, and beyond it one
    permit every `(per + jitter) / (requests - burst)` seconds, so that requests which leave in time and arrive up
    to `jitter` seconds late do not crowd a window. Permits are given in the order they were asked for.

    Args:
        requests: permitted in `per` seconds.
        per: seconds.
        burst: share of the requests that may go at once.
        jitter: how unevenly requests may travel, in seconds.
        place: where the key's state lies.
        sleep: waits that many seconds of the place's clock.
    """

    def __init__(
        self,
        requests: int,
        per: float,
        *,
        burst: float = 0.01,
        jitter: float = 1.0,
        place: Place | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if requests < 1 or per <= 0:
            raise ValueError(f"{requests} requests in {per} seconds is not a rate")
        self._place: Place = place or Here()
        self._burst = max(1, int(requests * burst))
        # A permit that was taken ahead may be used so much later.
        self._full = max(1, requests - self._burst) / (per + jitter + self._place.ahead)
        self._per, self._sleep = per, sleep
        self._first = State(self._full, changed=self._place.now())
        self._seen = self._first
        self._taken: deque[float] = deque()  # when permits that were taken ahead fall due
        self._seconds: float | None = None  # an answer takes, the newer ones weighing more
        self._lock = threading.Lock()

    @property
    def rate(self) -> float:
        """Permits a second, as last seen."""
        return self._seen.rate

    @property
    def together(self) -> int:
        """How many must ask at once to use the rate: as many as are on their way, a quarter more, and one that waits."""
        if self._seconds is None:
            return FEWEST
        return min(MOST, max(FEWEST, math.ceil(1.25 * self.rate * self._seconds) + 1))

    def took(self, seconds: float) -> None:
        """An answer was complete so long after its request left."""
        with self._lock:
            self._seconds = seconds if self._seconds is None else self._seconds + RECENT * (seconds - self._seconds)

    async def acquire(self) -> None:
        """Return when the next request may leave."""
        while True:
            with self._lock:
                due, refusals = self._permit(), self._seen.refusals
            wait = due - self._place.now()
            if wait > 0:
                await self._sleep(wait)
            if wait > self._place.ahead:
                with self._lock:
                    self._look()
            if refusals == self._seen.refusals:
                return
            # The vendor refused somebody while this one waited: its place in the old queue is void.

    def _look(self) -> None:
        """See what all go by; permits of before the vendor refused somebody are void."""
        refusals = self._seen.refusals
        self._seen = self._place.read(self._first)
        if refusals != self._seen.refusals:
            self._taken.clear()

    def on_429(self, retry_after: float | None = None) -> None:
        """The vendor refused: all wait `retry_after` seconds (a twentieth of `per` if it did not say)."""
        with self._lock:
            self._taken.clear()
            self._seen = self._place.change(self._first, partial(self._refused, retry_after))

    def _refused(self, retry_after: float | None, was: State) -> State:
        now = self._place.now()
        was = self._of_this_clock(was, now)
        rate = was.rate
        if now >= was.resume:  # else one more of the same volley
            rate = max(0.3 * self._full, 0.9 * rate)
        resume = max(was.resume, now + (self._per / 20 if retry_after is None else retry_after))
        return State(rate, now, due=resume, resume=resume, changed=resume, refusals=was.refusals + 1)

    def _permit(self) -> float:
        """Take the next permit; when it is due."""
        now = self._place.now()
        if now < self._seen.at - self._per:
            self._taken.clear()
        while self._taken and self._taken[0] < now - self._place.ahead:  # used now, it would crowd others
            self._taken.popleft()
        if not self._taken:
            number = min(TAKEN, max(1, int(self.rate * self._place.ahead)))
            self._seen = seen = self._place.change(self._first, partial(self._next, number))
            step = 1 / seen.rate
            for n in range(number, 0, -1):
                self._taken.append(max(seen.due - (n + self._burst - 1) * step, seen.resume))
        return self._taken.popleft()

    def _of_this_clock(self, was: State, now: float) -> State:
        """The state; where the clock was put back since, without the times of before."""
        return State(was.rate, now, changed=now, refusals=was.refusals) if now < was.at - self._per else was

    def _next(self, number: int, was: State) -> State:
        """The state after so many permits more."""
        now = self._place.now()
        was = self._of_this_clock(was, now)
        if was.rate < self._full and now - was.changed > self._per / 4:
            was = msgspec.structs.replace(was, rate=min(self._full, was.rate * 1.01), changed=now)
        return msgspec.structs.replace(was, at=now, due=max(was.due, now) + number / was.rate)


def size(remote: object) -> int:
    """How many may ask a remote at once at present; ALONE where it does not say so by its `together`."""
    return getattr(remote, "together", ALONE)


_alone: dict[tuple[str, int, float], Pace] = {}
_shared: WeakKeyDictionary[Ledger, dict[tuple[str, int, float], Pace]] = WeakKeyDictionary()
_lock = threading.Lock()


def shared(key: str, requests: int, per: float, ledger: Ledger | None = None) -> Pace:
    """The one pace for whatever `key` names: an account of a vendor. Not a secret itself.

    With a ledger all processes that work with it keep the pace together; without one, what asks in this process does.
    """
    name = (key, requests, per)
    with _lock:
        known = _alone if ledger is None else _shared.setdefault(ledger, {})
        if name not in known:
            place = None if ledger is None else Shared(proxy(ledger), f"{key} {requests} {per:g}")
            known[name] = Pace(requests, per, place=place)
        return known[name]
