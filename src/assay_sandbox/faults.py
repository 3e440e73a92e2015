"""What can go wrong on the vendor's side, by script or by seed."""

import hashlib
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

LIMIT = "Limit Reach . Please upgrade your plan or visit our documentation for more details at https://site.financialmodelingprep.com/"
KINDS: dict[str, str] = {
    "latency": "answers after `seconds`",
    "drip": "the body arrives in `pieces`, `seconds` apart",
    "reset": "the connection is reset in the middle of the body",
    "cut": "the connection ends before the promised length",
    "truncated": "half of the JSON, with a length that agrees",
    "limit": "the limit's text with `status` 429 (or 403, 200), and `retry_after` if given",
    "error": '200 with {"Error Message": `text`}',
    "plain": "`text` as text/plain with `status`",
    "empty": "200 without a body",
    "html": "a proxy's page with `status` 502",
    "garbage": "200 with `body`, which need not be JSON",
    "capped": "only the newest `rows` of what was asked for, silently",
    "unfiltered": "from and to are ignored, silently",
    "stranger": "the records of `symbol` instead, silently",
    "redirect": "`status` 302 to `location`",
    "bomb": "`megabytes` of blanks, gzipped",
}
PASSING = ("latency", "drip", "reset", "cut", "truncated", "limit", "error", "empty", "html", "garbage")


@dataclass(frozen=True)
class Fault:
    """One thing to go wrong.

    Attributes:
        kind: a key of `KINDS`.
        path: glob on the path below /stable.
        symbol: only requests for this symbol.
        nth: the first request concerned, counting from 1 those that match path and symbol.
        times: how many requests; None: every one from there on.
        params: what the kind says.
    """

    kind: str
    path: str = "*"
    symbol: str | None = None
    nth: int = 1
    times: int | None = 1
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is no kind of fault: {', '.join(KINDS)}")


class FaultPlan:
    """Decides what goes wrong with each request: the first scripted fault that is due, else the seed's."""

    def __init__(self, faults: Sequence[Fault] = ()) -> None:
        self._faults: list[tuple[Fault, list[int]]] = [(fault, [0]) for fault in faults]
        self._seed, self._rate = 0, 0.0
        self._kinds: tuple[str, ...] = PASSING
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    @classmethod
    def seeded(cls, seed: int, rate: float, kinds: Sequence[str] = PASSING) -> "FaultPlan":
        """A share `rate` of requests fails, each in one of `kinds`.

        What happens to a request depends on the seed, on what it asks for and on how often that was asked
        before: the same run fails alike however its requests interleave.
        """
        plan = cls()
        plan._seed, plan._rate, plan._kinds = seed, rate, tuple(Fault(kind).kind for kind in kinds)
        return plan

    def add(self, fault: Fault) -> None:
        """One more, from now on."""
        with self._lock:
            self._faults.append((fault, [0]))

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        with self._lock:
            self._faults, self._rate = [], 0.0

    def due(self, path: str, query: Mapping[str, str]) -> Fault | None:
        """The fault for this request, which counts as asked now."""
        with self._lock:
            due = None
            for fault, seen in self._faults:
                if fnmatchcase(path, fault.path) and fault.symbol in (None, query.get("symbol")):
                    seen[0] += 1
                    last = None if fault.times is None else fault.nth + fault.times - 1
                    if due is None and fault.nth <= seen[0] and (last is None or seen[0] <= last):
                        due = fault
            return due or self._random(path, query)

    def _random(self, path: str, query: Mapping[str, str]) -> Fault | None:
        asked = f"{path}?{sorted(query.items())}"
        self._asked[asked] += 1
        drawn = hashlib.sha256(f"{self._seed} {self._asked[asked]} {asked}".encode()).digest()
        if int.from_bytes(drawn[:8], "big") >= self._rate * 2**64:
            return None
        return Fault(self._kinds[drawn[8] % len(self._kinds)])
