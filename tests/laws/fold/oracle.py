"""The fold of a log, one entry and one row at a time: what is right, by the rules' words and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.laws.fold.log import Account, Batch, Contract, Decision, Entry, Landed, Row, Rules, inside, judge

SETTLE, END = 2, 999_999
Key = tuple[str, int]


@dataclass(frozen=True)
class Version:
    row: Row
    known_from: int
    basis: str
    backfilled: bool
    captured_at: int
    place: tuple[int, int, int]
    known_to: int | None = None
    recorded_to: int | None = None


class Oracle:
    """Reads a whole log.

    Attributes:
        current, last: key to its version now, and to its newest former one; `past` holds all former ones.
        seen: key to the newest origin that had it.
        complete: (origin, scope) of withdrawals that took place.
        history: (at, current, past) after every entry.
    """

    def __init__(self, sequence: bool, entries: Sequence[Entry]) -> None:
        self.sequence = sequence
        self.current: dict[Key, Version] = {}
        self.last: dict[Key, Version] = {}
        self.past: list[Version] = []
        self.seen: dict[Key, tuple[int, int]] = {}
        self.complete: list[tuple[tuple[int, int], Any]] = []
        self.accounts: dict[tuple[int, int], Account] = {}
        self.counts: dict[tuple[int, int], dict[str, int]] = {}
        self.landed: list[tuple[int, str, tuple[int, int]]] = []
        self.history: list[tuple[int, dict[Key, Version], list[Version]]] = []
        forced = max((i for i, e in enumerate(entries, 1) if isinstance(e, Contract) and e.everything), default=0)
        rules = entries[forced - 1].rules if forced else Rules()  # type: ignore[union-attr]
        for position, entry in enumerate(entries, 1):
            self.at = entry.at
            if isinstance(entry, Contract):
                rules = entry.rules if position >= forced else rules
            elif isinstance(entry, Landed):
                for n, batch in enumerate(entry.batches):
                    self.land((position, n), batch, rules)
                self.landed += [(position, b.shard, b.window) for b in entry.batches]
            else:
                for n, decision in enumerate(entry.decisions):
                    self.decide((position, n), decision, rules)
            self.history.append((entry.at, dict(self.current), list(self.past)))

    def land(self, place: tuple[int, int], batch: Batch, rules: Rules) -> None:
        void = False
        for position, shard, (low, high) in self.landed:
            unread = batch.seen < position < place[0]
            if unread and shard == batch.shard and low <= batch.window[1] and batch.window[0] <= high:
                void = True
        account = self.accounts[place] = Account(batch, "void")
        if void:
            return
        account.judged = judge(batch, rules, self.sequence)
        account.state = "passed" if account.judged.passed else "held"
        if account.state == "held":
            self.count(place, held=len(batch.rows))
        else:
            self.take(place, account, place)

    def decide(self, place: tuple[int, int], act: Decision, rules: Rules) -> None:
        if act.kind == "upsert":
            self.count(place, **{self.put(act.row, (*place, 0), (act.seen, END)): 1})
        elif act.kind == "delete":
            there, late = act.row.key in self.current, self.newer(act.row.key, (act.seen, END))
            self.count(place, **{"superseded" if late else "withdrawn" if there else "unchanged": 1})
            if not late:
                self.close(act.row.key, self.at, self.at)
                self.see(act.row.key, (act.seen, END))
        elif (account := self.accounts.get(act.batch)) and account.state != "void":
            before = account.judged
            if act.kind == "rejudge":
                account.judged = judge(account.batch, rules, self.sequence)
            if act.kind == "withdraw":
                if account.pending:
                    self.withdraw(place, account, act.batch, limit=(100, 1), scope=self.scope(account))
            elif account.state == "held" and (act.kind == "release" or account.judged.passed):
                account.state = "passed"
                self.take(place, account, act.batch)
            elif account.state == "passed" and act.kind == "rejudge":
                for i, row in before.of(account.batch, "bad"):
                    found = account.judged.verdicts[i]
                    what = {"bad": "quarantined", "duplicate": "duplicate"}.get(found)
                    self.count(place, **{what or self.put(row, (*place, i), act.batch): 1})
                kept = [n if b == "bad" else b for b, n in zip(before.verdicts, account.judged.verdicts, strict=True)]
                account.judged = replace(account.judged, verdicts=tuple(kept), passed=True)

    def take(self, place: tuple[int, int], account: Account, origin: tuple[int, int]) -> None:
        scope = self.scope(account)
        anew = bool(self.gone(account, origin, scope))
        for i, row in enumerate(account.batch.rows):
            verdict = account.judged.verdicts[i]
            if verdict == "bad" and row.sym is not None:
                self.see(row.key, origin)
            what = {"bad": "quarantined", "duplicate": "duplicate"}.get(verdict)
            self.count(place, **{what or self.put(row, (*place, i), origin, anew=anew): 1})
        if account.batch.scope is not None:
            judged = account.judged
            limit = (judged.withdrawn_at_most, judged.withdrawn_min) if account.batch.rows else (0, 1)
            self.withdraw(place, account, origin, limit, scope)

    def scope(self, account: Account) -> list[Key]:
        return [k for k in self.current if account.batch.scope is not None and inside(k, account.batch.scope)]

    def gone(self, account: Account, origin: tuple[int, int], scope: list[Key]) -> list[Key]:
        """The keys of `scope` that the batch lacks."""
        has = {r.key for r in account.batch.rows}
        return [k for k in scope if k not in has and not self.newer(k, origin)]

    def withdraw(
        self,
        place: tuple[int, int],
        account: Account,
        origin: tuple[int, int],
        limit: tuple[int, int],
        scope: list[Key],
    ) -> None:
        """`scope`: the keys that were current in it before the batch's own rows went in."""
        gone = self.gone(account, origin, scope)
        unreadable = any(r.sym is None for _, r in account.judged.of(account.batch, "bad"))
        percent, least = limit
        account.pending = unreadable or (len(gone) >= least and len(gone) * 100 > percent * len(scope))
        if not account.pending:
            for key in gone:
                self.close(key, self.at, self.at)
                self.see(key, origin)
            self.complete.append((origin, account.batch.scope))
            self.count(place, withdrawn=len(gone))

    def put(self, row: Row, place: tuple[int, int, int], origin: tuple[int, int], *, anew: bool = False) -> str:
        key, now, late = row.key, self.current.get(row.key), self.newer(row.key, origin)
        last = now or self.last.get(key)
        if self.sequence:
            late = last is not None and row.s <= last.row.s
        self.see(key, origin)
        if now and now.row.hash == row.hash:
            return "unchanged"
        if late:
            return "superseded"
        vendor = self.at if row.known_at is None else min(row.known_at, self.at)
        later = last is None or (
            row.known_at is not None and last.row.known_at is not None and row.known_at > last.row.known_at
        )
        if last is None and anew:
            later = False
        known_from = max(vendor if later else self.at, (last.known_to or last.known_from) if last else 0)
        basis = "vendor" if row.known_at is not None and known_from == vendor else "captured"
        if now:
            self.close(key, known_from, self.at)
        backfilled = row.known_at is not None and self.at > row.known_at + SETTLE
        self.current[key] = Version(row, known_from, basis, backfilled, self.at, place)
        return "changed" if now else "accepted"

    def close(self, key: Key, known_to: int, recorded_to: int) -> None:
        if version := self.current.pop(key, None):
            self.last[key] = replace(version, known_to=known_to, recorded_to=recorded_to)
            self.past.append(self.last[key])

    def see(self, key: Key, origin: tuple[int, int]) -> None:
        self.seen[key] = max(self.seen.get(key, (0, 0)), origin)

    def newer(self, key: Key, origin: tuple[int, int]) -> bool:
        return self.seen.get(key, (0, 0)) > origin or any(o > origin and inside(key, s) for o, s in self.complete)

    def count(self, place: tuple[int, int], **found: int) -> None:
        found = found | ({"accepted": found["changed"]} if "changed" in found else {})
        for what, n in found.items():
            counts = self.counts.setdefault(place, {})
            counts[what] = counts.get(what, 0) + n
