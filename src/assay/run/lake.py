"""A lake opened: settings, contracts, universes and the target; its methods are the commands."""

import csv
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from ulid import ULID

from assay import errors, targets
from assay import plan as planning
from assay import settings as lake_settings
from assay.clock import now
from assay.contract import calendars, odcs
from assay.contract.calendars import Calendar
from assay.contract.model import Contract
from assay.errors import AssayError, LakeDamaged, SettingsError, UsageError
from assay.lake import account, drift, holes, project, release
from assay.lake.release import Release
from assay.plan import Land, Member, Step
from assay.run import loop
from assay.run.loop import Applied
from assay.settings import Settings
from assay.spoken import TERMS, each, some
from assay.targets import Target
from assay.windows import Window

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import pyarrow as pa

    from assay.lake.keys import Known
    from assay.refine import Refined
    from assay.run.alerts import Alerts
    from assay.run.erase import Found
    from assay.run.hand import ByHand
    from assay.serve.fenced import Answer, Result
    from assay.serve.reader import Reader

SOON = timedelta(days=60)
"""So long before a calendar ends it is said that somebody must go on with it."""


@dataclass(frozen=True)
class Lake:
    """An opened lake. What a method needs is imported when it is called: `status` needs no Iceberg, `sql` no source."""

    target: Target
    contracts: Mapping[str, Contract]
    universes: Mapping[str, Sequence[Member]]

    @property
    def root(self) -> Path:
        """The lake's directory."""
        return self.target.settings.root

    @property
    def project(self) -> Path:
        """The lake's dbt project."""
        return self.root / "dbt"

    def contract(self, dataset: str) -> Contract:
        """One contract; UsageError lists the datasets there are."""
        if dataset not in self.contracts:
            raise UsageError(f"no dataset {dataset!r}; this lake has {', '.join(self.contracts) or 'none'}")
        return self.contracts[dataset]

    def close(self) -> None:
        """Let go of the ledger and the catalog."""
        self.target.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ steps

    def plan(
        self,
        select: Sequence[str] = (),
        *,
        span: Window | None = None,
        regate: bool = False,
        at: datetime | None = None,
        land: bool = True,
    ) -> list[Step]:
        """The missing steps. `select` names datasets; `price_eod+` also what is built from it, `source:fmp` a source's.

        Without `land`, it is what silver and gold lack of what is landed. Datasets that are `paused` are not asked for.

        ContractError where a contract breaks what its table's readers were promised: applying would refuse it too. Where
        a source would be asked, all that `check` finds of the chosen datasets, and of gold if it is built, is an error.
        """
        chosen, gold = self._select(select)
        gold = gold and project.there(self.project)
        steps = loop.missing(self, chosen, at or now(), span=span, regate=regate, gold=gold, land=land)
        return self._checked(steps, chosen, gold=gold)

    def apply(
        self,
        steps: Sequence[Step],
        *,
        say: Callable[[str], None] = lambda _: None,
        what: Mapping[str, Any] | None = None,
        live: bool = True,
    ) -> Applied:
        """Run the steps in order. A failed step does not hinder the others; gold is built only if none failed.

        `what` is by what it can be run again: `command`, `select`, `span`. What is not `live`, as a backfill, waits while
        another run that is asks the same source.
        """
        return loop.apply(self, steps, say=say, what=what, live=live)

    def landings(self, dataset: str, *, again: bool = False, span: Window | None = None) -> list[Land]:
        """The landing steps of one dataset, of all its days or those of `span`, that are missing, or with `again` all of them.

        UsageError if it is paused.
        """
        chosen = {dataset: self.contract(dataset)}
        steps = loop.missing(self, chosen, now(), again=again, span=span, gold=False)
        loop.asked(self, dataset)
        return [s for s in self._checked(steps, chosen, gold=False) if isinstance(s, Land)]

    def _checked(self, steps: list[Step], contracts: Mapping[str, Contract], *, gold: bool) -> list[Step]:
        """The steps; if any of them asks a source, all that `assay check` finds in what they need is an error first."""
        if any(isinstance(one, Land) for one in steps):
            wrong: list[AssayError] = []
            mine = {name: self.contracts[name] for name in contracts}
            judged(self.root, self.target.settings, self.contracts if gold else mine, wrong, gold=gold)
            if wrong:
                raise errors.together(wrong)
        return steps

    def refine(self, dataset: str, *, everything: bool = False, engine: str | None = None) -> "Refined":
        """Fold what the log has and silver has not; with `everything`, the whole log anew; by the contract's engine, or `engine`."""
        return loop.refine(self, dataset, str(ULID()), everything=everything, engine=engine)

    def replay(self, dataset: str) -> "Refined":
        """Judge the quarantined rows of passed batches again, by today's contract: a decision, put into the log."""
        return loop.replay(self, dataset, str(ULID()))

    def decide(self, dataset: str, kind: str, batches: Sequence[str], *, who: str, why: str) -> "Refined":
        """Put a decision about batches (`1260.17`) into the log, and fold it."""
        return loop.decide(self, dataset, kind, batches, who, why)

    def correct(
        self, dataset: str, key: Mapping[str, str], values: Mapping[str, str | None], *, who: str, why: str
    ) -> "ByHand":
        """Put into the log that columns of a current row are otherwise (None: null), and fold it.

        UsageError, before anything is put, where there is no such row or column, the contract refuses the row, or silver
        is behind its log. LakeBusy, and nothing is put, where somebody landed or decided meanwhile.
        """
        from assay.run import hand

        return hand.correct(self, dataset, key, values, who, why)

    def remove(self, dataset: str, key: Mapping[str, str], *, who: str, why: str) -> "ByHand":
        """Put into the log that a current row is none, and fold it; its versions stay. Errors as of `correct`."""
        from assay.run import hand

        return hand.remove(self, dataset, key, who, why)

    def erase(
        self, dataset: str, column: str, value: str, *, who: str, why: str, dry: bool = False, although: bool = False
    ) -> "Found":
        """Take all lines of the keys that have a value in a column out of bronze, and away all that follows from bronze.

        `apply` makes that anew. With `dry` it is only said what would go. LakeBusy where another process has the lake
        open. UsageError, before anything is changed, where there is nothing, or rows of others would be other ones
        without these (not if `although`): a gate that closes or opens, say.
        """
        from assay.run import erase

        return erase.erase(self, dataset, column, value, who, why, dry=dry, although=although)

    def resume_erasure(self, dataset: str) -> None:
        """Go on with an erasure that was stopped; UsageError if there is none. The lake is opened with `erasing`."""
        from assay.run import erase

        erase.resume(self, dataset)

    def search(self, value: str) -> list[str]:
        """The files of the lake's data in which a text stands, inflated and decoded as what they are."""
        from assay.run import search

        return search.search(self.target.files, value)

    def pause(self, dataset: str, kind: Literal["pause", "retire", "resume"], *, who: str, why: str) -> None:
        """Put into the log that a dataset's source is not asked, for a while or for good (`retire`), or is again (`resume`).

        What is landed is refined, built and served as before. UsageError where that is so already.
        """
        loop.pause(self, dataset, kind, who, why)

    def paused(self, select: Sequence[str] = ()) -> list[account.Paused]:
        """The decisions in force by which sources are not asked, of the chosen datasets as in `plan`; as the ledger has them."""
        found = [account.paused(self.target.ledger, dataset) for dataset in self._select(select)[0]]
        return [one for one in found if one]

    def build(self, *, say: Callable[[str], None] = lambda _: None) -> Release:
        """Compute gold by dbt and release it; BuildFailed leaves the old release served."""
        return loop.build(self, str(ULID()), say)

    def dbt(self, directory: Path) -> None:
        """Write the dbt project into an empty directory as a build runs it, for people's own dbt: sources, seeds, profile, silver."""
        from assay.build import keep

        t = self.target
        keep(
            self.project, directory, self.contracts, files=t.files, catalog=t.catalog, ledger=t.ledger, limits=t.limits
        )

    def cost(self, steps: Sequence[Step]) -> dict[str, Any]:
        """Calls, minutes at the permitted rate, bytes and money of a plan's landings, and by source what its quota makes of them.

        `money` is by currency, of the contracts that say what a call costs. bytes is None where nothing was landed yet.
        """
        from assay.run import budget

        return budget.cost(self, steps)

    def backfill(self, select: str, span: Window, *, part: bool = False) -> tuple[list[Step], list[str]]:
        """The steps that land the days of `span`, refine them and build the gold they touch; and what of it must wait.

        `select` is a dataset or `source:NAME`. UsageError for days that are none of its history, and where it asks for
        more calls or bytes than a source's quotas have left today, unless `part`: then the rest is left for another day.
        A paused dataset is none of it; UsageError where there is no other.
        """
        from assay.run import budget

        chosen, _ = self._select([select])
        planning.expected(list(chosen.values()), self.universes, span, now().date())
        steps = self.plan([f"{name}+" for name in chosen], span=span)
        if len(self.paused([select])) == len(chosen):
            raise UsageError(*(f"{one.dataset} is {one.told}" for one in self.paused([select])))
        by = budget.shares(self, steps)
        budget.fits(self, steps, by)
        over = [one.told(source) for source, one in by.items() if one.beyond]
        if over and not part:
            raise UsageError(f"nothing was asked: {'; '.join(over)}; `--allow-part` asks what today has room for")
        room = budget.within(self, steps, by)
        if over and not any(isinstance(step, Land) for step in room):
            room = self.plan([f"{name}+" for name in chosen], land=False)
        return room, over

    def _select(self, select: Sequence[str]) -> tuple[dict[str, Contract], bool]:
        if not select:
            return dict(self.contracts), True
        chosen: dict[str, Contract] = {}
        for word in select:
            if word.startswith("source:"):
                found = {d: c for d, c in self.contracts.items() if c.source == word.removeprefix("source:")}
                if not found:
                    raise UsageError(f"no dataset comes from {word!r}")
                chosen |= found
            else:
                name = word.removesuffix("+")
                chosen[name] = self.contract(name)
        return chosen, any(word.endswith("+") for word in select)

    # ------------------------------------------------------------------ what is there

    def status(self) -> dict[str, Any]:
        """Per dataset: batches, the terms of conservation, freshness, what is held and why; the last release; which alerts fire."""
        for dataset in self.contracts:
            loop.brought(self, dataset)
        newest = release.current(self.target.files, loop.released(self.target.ledger))
        return self._standing() | {"release": release.describe(newest) if newest else None}

    def alerts(self, *, send: bool = False) -> "Alerts":
        """Which alerts of `[alert.NAME]` fire by what `status` says, and since when.

        With `send` the webhooks are told of what began, is another now, or is over since they were told last; a webhook that
        could not be told is among the errors, and is told by the next call.
        """
        from assay.run import alerts

        damaged: list[AssayError] = []
        for dataset in self.contracts:
            try:
                loop.brought(self, dataset)
            except LakeDamaged as error:  # which keeps nobody from being told of the others
                damaged.append(error)
        found = alerts.run(self.target, self._standing(), now(), send=send)
        return replace(found, errors=[*damaged, *found.errors])

    def _standing(self) -> dict[str, Any]:
        """What the ledger says of all datasets, and which alerts fire by that."""
        from assay.run import alerts

        ledger, at = self.target.ledger, now()
        datasets: dict[str, Any] = {}
        gone: set[str] = set()
        for dataset, contract in self.contracts.items():
            found = account.of(ledger, dataset)
            late = account.late(contract, found, at)
            retired = found.paused is not None and found.paused.retired
            gone |= {dataset} if retired else set()
            datasets[dataset] = {
                "batches": int(found.landed.get("batches", 0)),
                "captured": found.sum("captured"),
                **{term: found.sum(term) for term in (*TERMS, "withdrawn", "void")},
                "by_hand": found.sum("by_hand"),
                "pending": len(found.pending),
                "pending_batches": {h.batch: _pending(h) for h in found.pending},
                "held_batches": {h.batch: _held(h) for h in found.open},
                "replaced": sum(h.rows for h in found.replaced),
                "unjudged": found.waiting,
                "waiting": found.sum("waiting"),
                "lost": found.lost,
                "captured_at": found.landed.get("captured_at"),
                "origins": list(found.origins),
                "failing": account.failing(ledger, dataset, retired=retired),
                "clock": found.landed.get("clock"),
                "complete": self.contract(dataset).complete,
                "shrank": None if retired else self._shrank(dataset, found),
                "paused": asdict(found.paused) | {"told": found.paused.told} if found.paused else None,
                "late": [one.told for one in late],
                "late_since": min(one.since for one in late).isoformat() if late else None,
                "drift": [{**asdict(one), "told": one.told} for one in drift.of(ledger, contract, found.refused)],
                "warnings": {
                    r.name: n for r in contract.rules if r.severity == "warning" and (n := found.warnings.get(r.name))
                },
                "holes": lacks.data | {"told": lacks.told} if (lacks := holes.of(ledger, contract)) else None,
                "changed": found.changed if contract.mutability == "append" else 0,
            }
        told = {
            "lake": self.target.settings.name,
            "datasets": datasets,
            "failing": account.failing(ledger, ""),
            "ending": ending((one for one in self.contracts.values() if one.dataset not in gone), at.date()),
        }
        return told | {"alerts": [one.data for one in alerts.firing(self.target.settings.alerts, told, at)]}

    def _shrank(self, dataset: str, standing: account.Account) -> dict[str, Any] | None:
        """The newest answer of a dataset that is landed whole, where it has fewer rows than the one before."""
        contract = self.contract(dataset)
        if not contract.every or contract.universe:
            return None
        try:
            found = account.shrank(self.target.files, self.target.ledger, dataset)
        except LakeDamaged:  # `verify` says what; what else is there is told all the same
            return None
        if found is None:
            return None
        now_, before = found
        held = now_.place in {one.place for one in standing.pending}
        lacks = "its withdrawals are held" if held else "what it lacks is withdrawn"
        told = (
            f"the list shrank: {now_.batch} has {some(now_.rows, 'row')}, {before.batch} had {before.rows}; "
            f"{lacks if contract.complete else 'what it lacks is current still'}"
        )
        return {
            "batch": now_.batch, "rows": now_.rows, "before": before.batch, "rows_before": before.rows,
            "at": now_.captured_at.isoformat(), "told": told,
        }  # fmt: skip

    def shards(self, dataset: str) -> list[str]:
        """The shards of a dataset: its universe's symbols, or "all"."""
        contract = self.contract(dataset)
        return [m.shard for m in self.universes[contract.universe]] if contract.universe else ["all"]

    def quarantined(self, dataset: str | None, limit: int) -> list[dict[str, Any]]:
        """Rejected rows with reasons and their bronze line, as text; of held batches (`held`) those that hold them.

        `current` of each says whether its key has a current row, and whether that was said since.
        """
        from itertools import islice

        from assay.run import marked, prove

        out: list[dict[str, Any]] = []
        for one in [dataset] if dataset else list(self.contracts):
            self.contract(one)
            out += marked.listed(self, one, list(islice(prove.rejected(self, one), limit - len(out))))
        return out

    def lineage(self, since: str | None = None) -> Iterator[dict[str, Any]]:
        """OpenLineage's run events of what was landed, refined and built; see `assay.run.lineage.events`."""
        from assay.run import lineage

        return lineage.events(self, since)

    # ------------------------------------------------------------------ reading

    def released(self) -> Release:
        """The release that is served; UsageError before the first."""
        found = release.current(self.target.files, loop.released(self.target.ledger))
        if found is None:
            raise UsageError("nothing is released yet: `assay apply` makes the first release")
        return found

    def reader(self) -> "Reader":
        """What makes the relations of the current release."""
        from assay.serve.reader import Reader

        return Reader(self.target.files, self.released(), self.target.limits)

    def read(
        self,
        name: str,
        *,
        columns: Sequence[str] | None = None,
        as_of: datetime | None = None,
        recorded_as_of: datetime | None = None,
    ) -> "pa.Table":
        """A table of the current release as Arrow: `gold.fct_daily_price`, `silver.price_eod`, `silver.price_eod_versions`.

        `as_of` reads by what the public could know, `recorded_as_of` by what the lake had; a gold table without
        clock columns refuses them.
        """
        from assay.serve.reader import read

        return read(self.reader(), name, columns, as_of, recorded_as_of)

    def sql(self, query: str, *, limit: int = 1000, timeout: float = 30.0) -> "Result":
        """One guarded read-only SELECT over the current release: its first `limit` rows. UsageError if it is refused."""
        from assay.serve.fenced import Result

        with self.asked(query, limit=limit, timeout=timeout) as found:
            return Result(found.columns, tuple(found.rows), found.truncated)

    def asked(self, query: str, *, limit: int = 1000, timeout: float = 30.0) -> "AbstractContextManager[Answer]":
        """As `sql`, for answers of any size: while the block runs, rows are read from a file, not held."""
        from assay.serve.fenced import asked

        return asked(self.target.files, self.released(), self.target.limits, query, limit=limit, timeout=timeout)

    def explain(
        self,
        table: str,
        key: Mapping[str, str],
        column: str | None = None,
        *,
        listed: int = 20,
        timeout: float = 30.0,
    ) -> dict[str, Any]:
        """See `assay.run.explain.explain`; UsageError if it takes longer than `timeout` seconds."""
        from assay import fence
        from assay.run.explain import asked

        try:
            return asked(self, self.released(), table, key, column, listed=listed, timeout=timeout)
        except fence.Late:
            raise UsageError(f"not explained within {timeout:g} s; fewer --listed, or --timeout, may help") from None
        except fence.Spent:
            raise UsageError(
                "the explanation needs more than [lake] memory of assay.toml allows; ask for fewer --listed"
            ) from None

    def diff(
        self, old: int | str | None = None, new: int | str | None = None, tables: Sequence[str] = (), *, limit: int = 20
    ) -> dict[str, Any]:
        """What differs between two releases, by key: `3`, or `prod:12`. See `assay.run.diff.diff`.

        Without `new` it is the current release, without `old` the one before that.
        """
        from assay.run.diff import diff

        return diff(self, old, new, tables, limit=limit)

    def create_key(
        self, name: str, *, who: str, datasets: Sequence[str] | None = None, expires: datetime | None = None
    ) -> "tuple[Known, str]":
        """A new API key, and its text, which is told only here. It reads `datasets` and gold made of these alone; without, all.

        UsageError for a dataset that this lake does not promise, a name that is none, or an end that has passed.
        """
        from assay.lake import keys

        read = None if datasets is None else tuple(sorted({self.contract(one).dataset for one in datasets}))
        return keys.create(self.target.files, name, who=who, datasets=read, expires=expires)

    def keys(self) -> "list[Known]":
        """All API keys in the order in which they were made."""
        from assay.lake import keys

        return keys.listed(self.target.files)

    def revoke_key(self, its: str, *, who: str) -> "Known":
        """Let an API key be good no more, which servers that run know within seconds; UsageError if there is none of that id."""
        from assay.lake import keys

        return keys.revoke(self.target.files, its, who=who)

    def application(self, host: str = "127.0.0.1", *, keyed: bool = False) -> Any:
        """The ASGI application of the lake: REST and console, as it is served at a host.

        Beyond loopback, or if `keyed`, each request must show an API key. UsageError if no key is good at a host
        beyond loopback: nobody could be let in.
        """
        from assay.lake import keys
        from assay.run import marked
        from assay.run.explain import asked
        from assay.serve.door import LOOPBACK
        from assay.serve.rest import app

        t = self.target
        near = host in LOOPBACK
        if not near and not any(one and one.good(now()) for one in keys.active(t.files, {}).values()):
            raise UsageError(
                f"--host {host}: beyond loopback only who shows an API key is let in, and none is active; `assay keys create NAME` makes one"
            )

        def why(found: Release, table: str, key: Mapping[str, str], column: str | None) -> dict[str, Any]:
            return asked(self, found, table, key, column)

        def late(found: Release, dataset: str) -> list[dict[str, Any]]:
            return marked.asked(self, found, dataset)

        return app(
            t.files,
            t.ledger,
            self.contracts,
            explain=why,
            newer=late,
            title=t.settings.name,
            limits=t.limits,
            key=t.secrets.ensure("cursor"),
            hosts=LOOPBACK if near else None,
            keyed=keyed or not near,
            alerts=(lambda: list(self._standing()["alerts"])) if t.settings.alerts else None,
        )

    def serve(
        self, host: str, port: int, *, keyed: bool = False, ready: Callable[[str], None] = lambda _: None
    ) -> None:
        """Serve until interrupted, as `application` says; SettingsError if the port is taken."""
        from assay.run import server

        server.serve(self.application(host, keyed=keyed), host, port, ready=ready)

    def serving(self, host: str, port: int, *, keyed: bool = False) -> Any:
        """Serve while the block runs, from a thread; gives the address. SettingsError if the port is taken."""
        from assay.run import server

        return server.serving(self.application(host, keyed=keyed), host, port)

    # ------------------------------------------------------------------ upkeep and proofs

    def upkeep(self, *, dry: bool = True, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
        """Compaction, expiry and the removal of what nothing names; `dry` only says what it would do."""
        from assay.lake import upkeep

        return dict(upkeep.run(self.target, self.contracts, dry=dry, say=say))


def open(path: str | Path, env: str = "dev", target: str = "local", *, erasing: bool = False) -> Lake:  # noqa: A001 - as people know it from files
    """The lake in a directory, its contracts checked; nothing of its data is read before it is asked for.

    LakeBusy where rows are being erased from it; `erasing` is for who goes on with that.
    """
    settings, contracts, universes = promises(Path(path), env)
    return Lake(targets.open(target, settings, erasing=erasing), contracts, universes)


def place() -> tuple[Path, str, str]:
    """Directory, environment and target that ASSAY_LAKE, ASSAY_ENV and ASSAY_TARGET name, for who is started without arguments."""
    told = os.environ.get
    return Path(told("ASSAY_LAKE") or "."), told("ASSAY_ENV") or "dev", told("ASSAY_TARGET") or "local"


def exists(root: Path, env: str) -> None:
    """UsageError if this environment has no data while others have: a name typed wrong shall not make a new one."""
    data = lake_settings.read(root, env).data
    others = sorted(one.name for one in data.parent.glob("*") if (one / "bronze").is_dir())
    if others and env not in others:
        raise UsageError(
            f"there is no data of environment {env!r}; there is {', '.join(others)}, and `apply` makes a new one"
        )


def promises(root: Path, env: str = "dev") -> tuple[Settings, dict[str, Contract], dict[str, list[Member]]]:
    """A lake's settings, contracts and universes, read and checked; nothing of its data is touched or made."""
    settings = lake_settings.read(root, env)
    contracts = odcs.read_all(root / "contracts", settings.data.parent / ".kept")
    if not contracts:
        raise _empty(root)
    if unknown := _strangers(settings, contracts):
        raise unknown[0]
    universes = {c.universe: _universe(root, c.universe) for c in contracts.values() if c.universe}
    return settings, contracts, universes


def _strangers(settings: Settings, contracts: Iterable[str]) -> list[SettingsError]:
    """An error for each dataset that an alert names and nobody promises."""
    return [
        SettingsError(
            f"{settings.root / 'assay.toml'}: alert.{policy.name}.datasets: no dataset {name!r}; this lake has {', '.join(contracts)}"
        )
        for policy in settings.alerts
        for name in policy.datasets
        if name not in contracts
    ]


def _universe(root: Path, name: str) -> list[Member]:
    path = root / f"universe_{name}.csv"
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise SettingsError(f"{path} is no file that can be read; take it away")
        read = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
        if read.fieldnames is None:
            raise SettingsError(f"{path} is empty; it expects symbol,valid_from,valid_to")
        rows = list(read)
        found = [
            Member(
                row["symbol"],
                date.fromisoformat(row["valid_from"]),
                date.fromisoformat(row["valid_to"]) if row.get("valid_to") else None,
            )
            for row in rows
        ]
    except FileNotFoundError as error:
        raise SettingsError(
            f"{path} is missing: a contract asks for universe {name} (symbol,valid_from,valid_to)"
        ) from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}; its owner must allow it") from error
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise SettingsError(f"{path}: expects symbol,valid_from,valid_to with dates as YYYY-MM-DD ({error})") from error
    for one in found:
        if not one.shard.strip() or (one.valid_to and one.valid_to <= one.valid_from):
            raise SettingsError(
                f"{path}: the row {one.shard!r} from {one.valid_from} names no symbol, or ends before it begins"
            )
    for one, following in pairwise(sorted(found, key=lambda member: (member.shard, member.valid_from))):
        if one.shard == following.shard and (one.valid_to is None or following.valid_from < one.valid_to):
            raise SettingsError(
                f"{path}: two rows of {one.shard} share days from {following.valid_from} on; end one where the next begins"
            )
    return found


def init(path: Path, *examples: Path) -> Path:
    """A new lake's directory from an example, or several, each over the ones before; SettingsError if something is there already."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise SettingsError(f"{path} is not an empty directory; choose a new one")
    left = shutil.ignore_patterns("data", "target", "logs", "__pycache__")
    for one in examples:
        shutil.copytree(one, path, dirs_exist_ok=True, ignore=left)
    return path


def check(root: Path, env: str = "dev") -> dict[str, Any]:
    """Everything that can be known without data: contracts, universes, sources, settings, the dbt project; an error says all of it."""
    settings = lake_settings.read(root, env)
    contracts, unread = odcs.read_each(root / "contracts", settings.data.parent / ".kept")
    wrong: list[AssayError] = [*unread]
    if not contracts and not unread:
        wrong.append(_empty(root))
    if not unread:
        wrong += _strangers(settings, contracts)
    for contract in contracts.values():
        with _kept(wrong):
            if contract.universe:
                _universe(root, contract.universe)
    gold = judged(root, settings, contracts, wrong, gold=not wrong)
    if wrong:
        raise errors.together(wrong)
    return {"datasets": list(contracts), "gold": gold, "ending": ending(contracts.values(), now().date())}


def calendar(root: Path, name: str, start: date | None = None) -> Calendar:
    """Write the calendar of an exchange (`XNYS`) into a lake's `calendars`, as far as exchange_calendars knows it.

    Without `start` it begins where the file that is there does, or in 1990. SettingsError says what to install.
    """
    if not calendars.NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name of a calendar, such as XNYS")
    try:
        import exchange_calendars
    except ImportError:
        raise SettingsError(
            "exchange_calendars is not installed, which knows the sessions of exchanges: pip install 'assay[calendars]'"
        ) from None
    path = root / "calendars" / f"{name}.csv"
    first = start or (calendars.read(path).start if path.exists() else date(1990, 1, 1))
    try:
        known = exchange_calendars.get_calendar(name, start=first.isoformat())
    except (exchange_calendars.errors.CalendarError, ValueError) as error:
        raise UsageError(f"exchange_calendars has no calendar {name} from {first} on: {str(error)[:120]}") from error
    found = calendars.of_exchange(known, name, first)
    path.parent.mkdir(exist_ok=True)
    told = f"# {name} by exchange_calendars {exchange_calendars.__version__}: `assay calendar {name}` writes it anew\n"
    path.write_text(told + found.text, encoding="utf-8")
    return found


def _held(one: account.Held) -> dict[str, Any]:
    """A held batch: why, for what its rows are rejected, since when."""
    told = f"held {one.batch}: {'; '.join(one.why)} ({each(one.reasons)})"
    at = one.at.isoformat() if one.at else None
    return {"why": list(one.why), "reasons": dict(one.reasons), "at": at, "told": told}


def _pending(one: account.Held) -> dict[str, Any]:
    """A batch whose withdrawals are held: of which shard and days, since when."""
    whose = one.shard + (f" {one.start}..{one.end}" if one.start else "")
    told = f"withdrawals of {one.batch} ({whose}) are held, what it lacks is still readable"
    at = one.at.isoformat() if one.at else None
    return {"shard": one.shard, "start": one.start, "end": one.end, "at": at, "told": told}


def ending(contracts: Iterable[Contract], today: date) -> list[str]:
    """A sentence for each calendar that says nothing of the days to come, or soon no more."""
    found = {one.calendar.name: one.calendar for one in contracts if one.calendar}
    return [
        f"{one.file} says nothing of {one.end} and later: days are not judged, and holes not told, from there on; add them, "
        f"or `assay calendar {one.name}` does where that is an exchange's"
        for one in found.values()
        if one.end <= today + SOON
    ]


def judged(
    root: Path, settings: Settings, contracts: Mapping[str, Contract], wrong: list[AssayError], *, gold: bool
) -> list[str]:
    """Put all that is wrong with contracts that can be read into `wrong`; the gold tables, if they are asked for."""
    from assay.engines import spark
    from assay.engines.duckdb import bind
    from assay.land import check as check_source
    from assay.land import settings_of
    from assay.ports import Limits

    for contract in contracts.values():
        also = (spark.bind,) if contract.engine[0] != "duckdb" else ()
        for check in (
            bind,
            *also,
            lambda one: check_source(one, root),
            lambda one: settings_of(one.source, settings.sources),
        ):
            with _kept(wrong):
                check(contract)
    found: list[str] = []
    if gold and project.there(root / "dbt"):
        from assay.build import check as check_gold

        kept, limits = settings.data.parent / ".kept", Limits(settings.memory, settings.threads)
        with _kept(wrong):
            found = check_gold(root / "dbt", contracts, limits=limits, kept=kept)
    return found


@contextmanager
def _kept(wrong: list[AssayError]) -> Iterator[None]:
    """An error inside does not hinder what stands after it."""
    try:
        yield
    except AssayError as error:
        wrong.append(error)


def _empty(root: Path) -> SettingsError:
    return SettingsError(f"{root / 'contracts'} holds no contract; a lake promises at least one dataset")


__all__ = ["Lake", "calendar", "check", "exists", "init", "open", "promises"]
