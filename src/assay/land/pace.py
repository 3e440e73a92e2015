"""Keeps to a vendor's rate: permits evenly apart, a pause and a lower rate after every refusal."""

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable

FEWEST, MOST = 2, 64  # that ask at once
ALONE = 4  # that ask at once where nothing keeps a pace
RECENT = 0.1  # weight of the newest answer's seconds


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
        clock: seconds that never run backwards.
        sleep: waits that many seconds of `clock`.
    """

    def __init__(
        self,
        requests: int,
        per: float,
        *,
        burst: float = 0.01,
        jitter: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if requests < 1 or per <= 0:
            raise ValueError(f"{requests} requests in {per} seconds is not a rate")
        self._burst = max(1, int(requests * burst))
        self._full = self._rate = max(1, requests - self._burst) / (per + jitter)
        self._per = per
        self._clock, self._sleep = clock, sleep
        self._due = self._resume = 0.0  # when the next even permit falls due; when the vendor may be asked again
        self._changed = clock()
        self._refusals = 0
        self._seconds: float | None = None  # an answer takes, the newer ones weighing more
        self._lock = threading.Lock()

    @property
    def rate(self) -> float:
        """Permits a second at present."""
        return self._rate

    @property
    def together(self) -> int:
        """How many must ask at once to use the rate: as many as are on their way, a quarter more, and one that waits."""
        if self._seconds is None:
            return FEWEST
        return min(MOST, max(FEWEST, math.ceil(1.25 * self._rate * self._seconds) + 1))

    def took(self, seconds: float) -> None:
        """An answer was complete so long after its request left."""
        with self._lock:
            self._seconds = seconds if self._seconds is None else self._seconds + RECENT * (seconds - self._seconds)

    async def acquire(self) -> None:
        """Return when the next request may leave."""
        while True:
            with self._lock:
                refusals, wait = self._refusals, self._reserve()
            if wait > 0:
                await self._sleep(wait)
            if refusals == self._refusals:
                return
            # The vendor refused somebody while this one waited: its place in the old queue is void.

    def on_429(self, retry_after: float | None = None) -> None:
        """The vendor refused: all wait `retry_after` seconds (a twentieth of `per` if it did not say)."""
        with self._lock:
            now = self._clock()
            if now >= self._resume:  # else one more of the same volley
                self._rate = max(0.3 * self._full, 0.9 * self._rate)
            self._resume = max(self._resume, now + (self._per / 20 if retry_after is None else retry_after))
            self._due = self._changed = self._resume
            self._refusals += 1

    def _reserve(self) -> float:
        """Take the next place; seconds until it is due."""
        now = self._clock()
        if self._rate < self._full and now - self._changed > self._per / 4:
            self._rate = min(self._full, self._rate * 1.01)
            self._changed = now
        step = 1 / self._rate
        due = max(self._due, now)
        self._due = due + step
        return max(due - (self._burst - 1) * step, self._resume) - now


def size(remote: object) -> int:
    """How many may ask a remote at once at present; ALONE where it does not say so by its `together`."""
    return getattr(remote, "together", ALONE)


_shared: dict[tuple[str, int, float], Pace] = {}
_lock = threading.Lock()


def shared(key: str, requests: int, per: float) -> Pace:
    """The one pace of this process for whatever `key` names: an account of a vendor. Not a secret itself."""
    with _lock:
        return _shared.setdefault((key, requests, per), Pace(requests, per))
