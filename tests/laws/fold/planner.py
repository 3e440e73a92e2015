"""From entries to acts and staged rows: looks at batches and verdicts, never at rows of silver."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from assay.ports import Act, Folded, N
from tests.laws.fold.log import Account, Batch, Contract, Decision, Entry, Judged, Landed, Row, Rules, judge, void

Place = tuple[int, int]


def moment(at: int | None) -> datetime | None:
    return None if at is None else datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=at)


@dataclass
class Plan:
    """What a refine hands to the fold.

    Attributes:
        everything: silver is emptied first, a contract says so.
        acts: in order of place.
        staged: (place, seq, op, row), with op as `assay.engines.duckdb.fold.Fold` tells.
        about: place to the account of the batch whose withdrawals are decided there.
        counts: what is known without silver: held, duplicate, quarantined.
    """

    everything: bool = False
    acts: list[Act] = field(default_factory=list)
    staged: list[tuple[int, int, str, Row]] = field(default_factory=list)
    about: dict[int, Account] = field(default_factory=dict)
    counts: dict[Place, dict[str, int]] = field(default_factory=dict)

    def count(self, place: Place, what: str, n: int = 1) -> None:
        counts = self.counts.setdefault(place, {})
        counts[what] = counts.get(what, 0) + n


class Planner:
    """What it keeps between refines is one account a batch, the contract in force and its position."""

    def __init__(self, sequence: bool) -> None:
        self.sequence = sequence
        self._reset(Rules(), 0)

    def _reset(self, rules: Rules, forced: int) -> None:
        self.position, self.rules, self.forced = 0, rules, forced
        self.accounts: dict[Place, Account] = {}
        self.landed: list[tuple[int, str, tuple[int, int]]] = []

    def plan(self, entries: Sequence[Entry], upto: int) -> Plan:
        """The entries after the position up to `upto` as acts; `entries` is the whole log."""
        new = range(self.position + 1, upto + 1)
        again = [p for p in new if isinstance(entries[p - 1], Contract) and entries[p - 1].everything]
        if again:
            # By the last such contract every position up to it is judged; earlier contracts count no more.
            self._reset(entries[again[-1] - 1].rules, again[-1])
        plan = Plan(everything=bool(again))
        for position in range(self.position + 1, upto + 1):
            entry = entries[position - 1]
            if isinstance(entry, Contract):
                self.rules = entry.rules if position >= self.forced else self.rules
            elif isinstance(entry, Landed):
                for n, batch in enumerate(entry.batches):
                    self._batch(plan, (position, n), entry.at, batch)
                self.landed += [(position, b.shard, b.window) for b in entry.batches]
            else:
                for n, decision in enumerate(entry.decisions):
                    self._decision(plan, (position, n), entry.at, decision)
        self.position = upto
        return plan

    def folded(self, plan: Plan, came: Mapping[int, Folded]) -> None:
        """Take back what the fold says of withdrawals."""
        for place, account in plan.about.items():
            account.pending = came[place].pending

    def _batch(self, plan: Plan, place: Place, at: int, batch: Batch) -> None:
        account = self.accounts[place] = Account(batch, "void")
        if void(place[0], batch, self.landed):
            return
        account.judged = judge(batch, self.rules, self.sequence)
        account.state = "passed" if account.judged.passed else "held"
        if account.state == "held":
            plan.count(place, "held", len(batch.rows))
        else:
            self._take(plan, place, at, account, place)

    def _decision(self, plan: Plan, place: Place, at: int, decision: Decision) -> None:
        if decision.kind in ("upsert", "delete"):
            plan.staged.append((number(place), 0, "u" if decision.kind == "upsert" else "d", decision.row))
            # Its author had seen all of the entry `seen`.
            plan.acts.append(Act(number(place), moment(at), number((decision.seen, N - 1))))
            return
        account = self.accounts.get(decision.batch)
        if account is None or account.state == "void":
            return
        before = account.judged
        if decision.kind == "rejudge":
            account.judged = judge(account.batch, self.rules, self.sequence)
        if decision.kind == "withdraw":
            self._withdraw(plan, place, at, account, decision.batch)
        elif account.state == "held" and (decision.kind == "release" or account.judged.passed):
            account.state = "passed"
            self._take(plan, place, at, account, decision.batch)
        elif account.state == "passed" and decision.kind == "rejudge":
            self._rejudge(plan, place, at, account, before, decision.batch)

    def _take(self, plan: Plan, place: Place, at: int, account: Account, origin: Place) -> None:
        """A batch goes in, whole."""
        for i, (row, verdict) in enumerate(zip(account.batch.rows, account.judged.verdicts, strict=True)):
            if verdict == "good" or (verdict == "bad" and row.sym is not None):
                plan.staged.append((number(place), i, "u" if verdict == "good" else "q", row))
            if verdict != "good":
                plan.count(place, "quarantined" if verdict == "bad" else "duplicate")
        scope, judged = account.batch.scope, account.judged
        limit, least = (judged.withdrawn_at_most, judged.withdrawn_min) if account.batch.rows else (0, 1)
        plan.acts.append(Act(number(place), moment(at), number(origin), scope, limit, least, blocked(account)))
        if scope is not None:
            plan.about[number(place)] = account

    def _withdraw(self, plan: Plan, place: Place, at: int, account: Account, origin: Place) -> None:
        """A decision that its withdrawals take place; of a batch that goes in in this plan the fold alone knows."""
        unsure = any(one is account for one in plan.about.values())
        if account.state != "passed" or account.batch.scope is None or not (account.pending or unsure):
            return
        keys = [(i, row) for i, row in enumerate(account.batch.rows) if row.sym is not None]
        plan.staged += [(number(place), i, "h", row) for i, row in keys]
        plan.acts.append(
            Act(number(place), moment(at), number(origin), account.batch.scope, blocked=blocked(account), absent=True)
        )
        plan.about[number(place)] = account

    def _rejudge(self, plan: Plan, place: Place, at: int, account: Account, before: Judged, origin: Place) -> None:
        """A batch that is in is judged again: its rows that were bad and are good go in, the others keep their verdict."""
        for i, row in before.of(account.batch, "bad"):
            verdict = account.judged.verdicts[i]
            if verdict == "good":
                plan.staged.append((number(place), i, "u", row))
            else:
                plan.count(place, "quarantined" if verdict == "bad" else "duplicate")
        kept = [n if b == "bad" else b for b, n in zip(before.verdicts, account.judged.verdicts, strict=True)]
        account.judged = replace(account.judged, verdicts=tuple(kept), passed=True)
        plan.acts.append(Act(number(place), moment(at), number(origin)))


def number(place: Place) -> int:
    return place[0] * N + place[1]


def blocked(account: Account) -> bool:
    """A row without a readable key might be any key of the scope."""
    return any(row.sym is None for _, row in account.judged.of(account.batch, "bad"))
