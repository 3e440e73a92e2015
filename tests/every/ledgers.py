"""A ledger with DynamoDB's limits: a table that refuses what it refuses, and a ledger made of its few calls."""

import random
import threading
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from assay import clock
from assay.ports import Fact, bodies

ITEM, TRANSACTION, ITEMS, PAGE = 400 * 1024, 4 * 1024 * 1024, 100, 1024 * 1024
Item = dict[str, Any]


class Cancelled(Exception):
    """A transaction whose conditions did not hold: nothing of it was written; `there` are the items they did not hold of."""

    def __init__(self, there: list[Item]) -> None:
        super().__init__(there)
        self.there = there
        self.failed = [(one["pk"], one["sk"]) for one in there]


def size(item: Item) -> int:
    return sum(len(k.encode()) + len(str(v).encode()) for k, v in item.items())


class Table:
    """Items by partition and sort key. `get` reads what is there; `query` what has come through so far."""

    def __init__(self, seed: int | None = None) -> None:
        self._items: dict[tuple[str, str], Item] = {}
        self._late: dict[tuple[str, str], Item] = {}
        self._random = random.Random(seed) if seed is not None else None
        self._lock = threading.Lock()

    def get(self, pk: str, sk: str) -> Item | None:
        with self._lock:
            return self._items.get((pk, sk))

    def transact(self, items: list[Item], greater: str) -> None:
        """Put all items or none: each only where there is none yet, or one with a smaller number of that name."""
        keys = [(i["pk"], i["sk"]) for i in items]
        assert len(items) <= ITEMS
        assert len(set(keys)) == len(keys)
        assert all(pk and sk and len(pk.encode()) <= 2048 and len(sk.encode()) <= 1024 for pk, sk in keys)
        assert all(size(i) <= ITEM for i in items)
        assert sum(map(size, items)) <= TRANSACTION
        with self._lock:
            held = [
                was
                for k, i in zip(keys, items, strict=True)
                if (was := self._items.get(k)) and was[greater] >= i[greater]
            ]
            if held:
                raise Cancelled(held)
            self._items |= dict(zip(keys, items, strict=True))

    def put(self, item: Item, owner: str, now: float) -> bool:
        """Put a lease unless another's lasts."""
        with self._lock:
            was = self._items.get((item["pk"], item["sk"]))
            if was and was["owner"] != owner and was["until"] > now:
                return False
            self._items[item["pk"], item["sk"]] = item
            return True

    def query(
        self, pk: str, after: str, *, backwards: bool = False, limit: int | None = None
    ) -> tuple[list[Item], bool]:
        """One page of a partition, at most 1 MB, and whether there is more."""
        with self._lock:
            for key, item in self._items.items():
                if self._random is None or self._random.random() < 0.5:
                    self._late[key] = item
            there = sorted((sk, i) for (p, sk), i in self._late.items() if p == pk and sk > after)
        out, total = [], 0
        for _, item in reversed(there) if backwards else there:
            total += size(item)
            if (out and total > PAGE) or len(out) == limit:
                return out, True
            out.append(item)
        return out, False

    def come_through(self) -> None:
        """Let everything written so far be found by queries, and from now on at once."""
        self._random = None


class PlainLedger:
    """See `assay.ports.Ledger`, over one such table that others may hold too."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def record(self, facts: Iterable[Fact]) -> list[Fact]:
        items = [
            {"pk": f"{f.kind}#{f.dataset}", "sk": f.id, "at": f.at.isoformat(), "version": f.version, "body": body}
            for f, body in bodies(facts)
        ]
        there: list[Fact] = []
        while items:
            try:
                self.table.transact(items, "version")
                items = []
            except Cancelled as error:  # what is there already and not older stays: the rest is put without it
                there += map(_fact, error.there)
                items = [i for i in items if (i["pk"], i["sk"]) not in error.failed]
        return there

    def newest(self, kind: str, dataset: str, id: str | None = None) -> Fact | None:  # noqa: A002
        if id is not None:
            found = self.table.get(f"{kind}#{dataset}", id)
        else:
            page, _ = self.table.query(f"{kind}#{dataset}", "", backwards=True, limit=1)
            found = page[0] if page else None
        return _fact(found) if found else None

    def since(self, kind: str, dataset: str, after: str = "") -> Iterator[Fact]:
        more = True
        while more:
            page, more = self.table.query(f"{kind}#{dataset}", after)
            yield from map(_fact, page)
            after = page[-1]["sk"] if page else after

    def claim(self, name: str, owner: str, until: datetime) -> bool:
        lease = {"pk": "lease#", "sk": name, "owner": owner, "until": until.timestamp()}
        return self.table.put(lease, owner, clock.now().timestamp())

    def claims(self, names: Collection[str], owner: str, until: datetime) -> set[str]:
        return {name for name in names if self.claim(name, owner, until)}

    def close(self) -> None:
        pass


def _fact(item: Item) -> Fact:
    kind, _, dataset = item["pk"].partition("#")
    at = datetime.fromisoformat(item["at"])
    return Fact(kind, dataset, item["sk"], at, msgspec.json.decode(item["body"]), item["version"])
