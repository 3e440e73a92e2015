"""The gold of the markets lake and of what widens it, from real prices, against a slow computation of the same numbers."""

import csv
import gzip
import hashlib
import math
import os
import random
import statistics
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlglot
import yaml
from hypothesis import strategies as st
from sqlglot import exp

from assay.build.compute import Built, SilverView, compute, describe
from assay.lake import recompute
from assay.lake.release import Gold as Table
from assay.ports import Limits
from assay.run import demo
from assay.run import lake as lakes
from tests.drawing import drawn
from tests.rooms import months
from tests.rooms.figures import ODD, ODDLY, TRADED, Security, wrong
from tests.rooms.months import LONG, MONEY, SHORT, Lake, momentum, of_securities

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "lakes" / "markets" / "dbt"
RECORDS = ROOT / "src" / "assay_sandbox" / "records"
ALWAYS = date(1900, 1, 1)
CAPTURED = datetime(2026, 1, 5, 12, tzinfo=UTC)

Row = dict[str, Any]
NUMBER = pa.decimal128(18, 6)
MOMENT = pa.timestamp("us", tz="UTC")
SCHEMAS = {
    "price_eod": {"symbol": pa.string(), "date": pa.date32(), "open": NUMBER, "high": NUMBER, "low": NUMBER, "close": NUMBER, "volume": pa.int64()},
    "price_eod_adjusted": {"symbol": pa.string(), "date": pa.date32(), "adj_close": NUMBER},
    "splits": {"symbol": pa.string(), "date": pa.date32(), "numerator": NUMBER, "denominator": NUMBER, "split_type": pa.string()},
    "dividends": {"symbol": pa.string(), "date": pa.date32(), "dividend": NUMBER},
    "symbol_list": {"symbol": pa.string(), "company_name": pa.string()},
    "adjusted_close": {"symbol": pa.string(), "date": pa.date32(), "adj_close": NUMBER},
    "index_close": {"symbol": pa.string(), "date": pa.date32(), "close": NUMBER},
    "treasury_rates": {"date": pa.date32(), "month_3": pa.decimal128(9, 4)},
}  # fmt: skip
CLOCKS = {
    "known_at": MOMENT, "captured_at": MOMENT, "_hash": pa.string(), "_position": pa.int64(), "_n": pa.int32(), "_seq": pa.int64(), "known_from": MOMENT,
    "known_basis": pa.string(), "backfilled": pa.bool_(),
}  # fmt: skip
VERSIONS = {"known_to": MOMENT, "recorded_to": MOMENT}


# --- silver, as versions ----------------------------------------------------------------------------------------


def at(day: str | date, clock: str = "16:00") -> datetime:
    """That day's time in New York."""
    day = date.fromisoformat(day) if isinstance(day, str) else day
    return datetime.combine(day, time.fromisoformat(clock), ZoneInfo("America/New_York")).astimezone(UTC)


def version(known_from: datetime, known_to: datetime | None = None, **values: Any) -> Row:
    return values | {
        "known_at": known_from, "captured_at": CAPTURED, "_hash": "", "_position": 1, "_n": 0, "_seq": 0, "known_from": known_from,
        "known_basis": "vendor", "backfilled": True, "known_to": known_to, "recorded_to": known_to,
    }  # fmt: skip


def price(symbol: str, day: str, close: str, known_from: datetime | None = None, **more: Any) -> Row:
    prices = dict.fromkeys(("open", "high", "low", "close"), Decimal(close))
    known_from = known_from or at(day)
    return version(known_from, symbol=symbol, date=date.fromisoformat(day), volume=100, **prices) | more


def adjusted(symbol: str, day: str | date, close: Decimal | str) -> Row:
    day = date.fromisoformat(day) if isinstance(day, str) else day
    return version(CAPTURED, symbol=symbol, date=day, adj_close=Decimal(close))


def level(day: date, close: Decimal, symbol: str = "^GSPC") -> Row:
    return version(at(day), symbol=symbol, date=day, close=close)


def rate(day: date, month_3: Decimal | None) -> Row:
    return version(at(day, "23:59"), date=day, month_3=month_3)


def records(name: str) -> Iterable[dict[str, str]]:
    path = RECORDS / name
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        yield from csv.DictReader(file)


def correct(rows: list[Row], key: tuple[str, str], first: Row, when: datetime) -> None:
    """Let the version that stands be the second one, known from `when`; before it, `first` differed."""
    true = next(r for r in rows if (r["symbol"], str(r["date"])) == key)
    rows.append(true | first | {"known_to": when, "recorded_to": when})
    true["known_from"] = when


def withdrawn(row: Row, when: datetime) -> Row:
    """A version that ended without another."""
    return row | {"known_to": when, "recorded_to": when}


@pytest.fixture(scope="module")
def silver() -> dict[str, list[Row]]:
    """Real records; on top, what the records are too tidy to hold: corrections, late and withdrawn rows, a rename."""
    out: dict[str, list[Row]] = {name: [] for name in SCHEMAS}
    for r in records("prices.csv.gz"):
        day = date.fromisoformat(r["date"])
        prices = {name: Decimal(r[name]) for name in ("open", "high", "low", "close")}
        out["price_eod"].append(version(at(day), symbol=r["symbol"], date=day, volume=int(r["volume"]), **prices))
        out["adjusted_close"].append(adjusted(r["symbol"], day, round(Decimal(r["adj_close"]), 6)))
        out["price_eod_adjusted"].append(out["adjusted_close"][-1])
        if r["symbol"] == "IBM" and (day.year, day.day) != (
            2002,
            13,
        ):  # no index is ours to keep: one share stands for it
            out["index_close"] += [level(day, Decimal(r["close"]) * 10), level(day, Decimal(7), "^OTHER")]
    for r in records("treasury_rates.csv.gz"):
        if r["date"] > "1999-11-01":
            month_3 = Decimal(r["month3"]) if r["date"][5:7] != "08" else None
            out["treasury_rates"].append(rate(date.fromisoformat(r["date"]), month_3))
    for r in records("splits.csv"):
        ratio = {name: Decimal(r[name]) for name in ("numerator", "denominator")}
        day = date.fromisoformat(r["date"])
        out["splits"].append(version(at(day, "09:30"), symbol=r["symbol"], date=day, split_type=None, **ratio))
    for r in records("dividends.csv"):
        day, paid = date.fromisoformat(r["date"]), Decimal(r["dividend"])
        out["dividends"].append(version(at(day, "09:30"), symbol=r["symbol"], date=day, dividend=paid))
    out["symbol_list"] = [
        version(CAPTURED, symbol=r["symbol"], company_name=r["companyName"]) for r in records("symbols.csv.gz")
    ]
    prices, dividends, splits = out["price_eod"], out["dividends"], out["splits"]
    wrong = dict.fromkeys(("open", "high", "low", "close"), Decimal(99))
    correct(prices, ("IBM", "2009-06-30"), wrong, at("2009-07-02"))
    correct(prices, ("GOOG", "2010-03-15"), wrong, at("2010-09-15"))
    correct(splits, ("AAPL", "2005-02-28"), {"numerator": Decimal(3)}, at("2005-05-10", "09:30"))
    prices.append(withdrawn(price("MSFT", "2010-07-05", "1"), at("2010-08-10")))
    holiday = version(at("2007-12-25"), symbol="IBM", date=date(2007, 12, 25), dividend=Decimal(20))
    dividends.append(withdrawn(holiday, at("2008-02-20")))
    next(r for r in prices if (r["symbol"], str(r["date"])) == ("MSFT", "2010-08-31"))["known_from"] = at("2010-09-03")
    next(r for r in dividends if r["symbol"] == "IBM" and r["date"].year == 2006)["known_from"] = at("2007-01-15")
    prices += [
        price("META", "2021-07-01", "15.10"),
        price("META", "2021-07-02", "15.30"),
        price("METV", "2022-06-10", "9.50"),
    ]
    prices += [
        price("FB", "2022-06-08", "195.65"),
        price("META", "2022-06-09", "184"),
        price("META", "2022-06-10", "175.57"),
    ]
    dividends.append(version(at("2022-06-11"), symbol="FB", date=date(2022, 6, 9), dividend=Decimal(1)))
    dividends.append(version(at("2022-06-11"), symbol="META", date=date(2022, 6, 10), dividend=Decimal(2)))
    prices += [price("NOSUCH", "2012-03-05", "10"), price("NOSUCH", "2012-03-07", "4")]
    splits.append(
        version(
            at("2012-03-06", "09:30"),
            symbol="NOSUCH",
            date=date(2012, 3, 6),
            split_type=None,
            numerator=Decimal(4),
            denominator=Decimal(3),
        )
    )
    for day, close in (("11-29", "19.077"), ("11-30", "19.062"), ("12-01", "19.828"), ("12-02", "19.726")):
        out["adjusted_close"].append(adjusted("XOM", f"1999-{day}", close))
    out["adjusted_close"] += [adjusted("GONE", "2012-03-05", "10"), adjusted("GONE", "2012-05-07", "11")]
    return out


def views(silver: Mapping[str, list[Row]], folder: Path, order: random.Random | None = None) -> list[SilverView]:
    """Silver's views over parquet files in `folder`; with `order`, the rows lie shuffled over several files."""
    out = []
    for dataset, rows in silver.items():
        kinds = {"": SCHEMAS[dataset] | CLOCKS, "_versions": SCHEMAS[dataset] | CLOCKS | VERSIONS}
        for suffix, schema in kinds.items():
            kept = [r for r in rows if suffix or r["known_to"] is None]
            if order:
                order.shuffle(kept)
            parts = [kept[i::3] for i in range(3)] if order else [kept]
            paths = [folder / f"{dataset}{suffix}-{number}.parquet" for number in range(len(parts))]
            for path, part in zip(paths, parts, strict=True):
                pq.write_table(pa.Table.from_pylist(part, pa.schema(list(schema.items()))), path)
            listed = ", ".join(f"'{path}'" for path in paths)
            out.append(
                SilverView(dataset + suffix, f"SELECT * FROM read_parquet([{listed}])", dict.fromkeys(schema, ""))
            )
    return out


class Gold:
    """A build of the real project, its silver views, and a way to read it."""

    def __init__(self, project: Path, built: Built, views: list[SilverView], db: duckdb.DuckDBPyConnection) -> None:
        self.project, self.built, self.views, self.db = project, built, views, db

    def rows(self, table: str) -> list[Row]:
        return rows_of(self.db, self.model(table))

    def model(self, table: str) -> Table:
        return next(m for m in self.built.gold if m.name == table)


def rows_of(db: duckdb.DuckDBPyConnection, model: Table) -> list[Row]:
    names = [c.name for c in model.columns]
    found = db.execute(f"SELECT {', '.join(names)} FROM gold.{model.name} ORDER BY {', '.join(model.key)}").fetchall()
    return [dict(zip(names, values, strict=True)) for values in found]


@pytest.fixture(scope="module")
def gold(silver: dict[str, list[Row]], tmp_path_factory: pytest.TempPathFactory) -> Iterable[Gold]:
    folder = tmp_path_factory.mktemp("gold")
    found = views(silver, folder)
    project = lakes.init(folder / "lake", *demo.example_lakes("wide")) / "dbt"
    built = compute(project, folder / "work", found, Limits())
    with duckdb.connect(str(built.database), read_only=True) as db:
        db.execute("SET TimeZone = 'UTC'")
        yield Gold(project, built, found, db)


def again(
    built: Built, given: Mapping[str, str | pa.Table], wanted: str = "", translate: Callable[[str], str] = str,
    seeds: Mapping[str, pa.Table] | None = None,
) -> duckdb.DuckDBPyConnection:  # fmt: skip
    """The models' own SQL run over other silver rows, and seeds, in a plain DuckDB; only what `wanted` needs, if named."""
    db = duckdb.connect(config={"threads": 1})
    db.execute("SET TimeZone = 'UTC'; CREATE SCHEMA silver; CREATE SCHEMA stg; CREATE SCHEMA gold")
    db.execute(f"ATTACH '{built.database}' AS built (READ_ONLY)")
    for name, source in given.items():
        if not isinstance(source, str):
            db.register("rows_given", source)
        db.execute(f"CREATE TABLE silver.{name} AS {source if isinstance(source, str) else 'SELECT * FROM rows_given'}")
    for model in recompute.ancestors(built.models, wanted)[0] if wanted else built.models:
        body = f"SELECT * FROM built.{model.relation}" if model.kind == "seed" else translate(model.sql)
        if seeds and model.relation in seeds:
            db.register("rows_given", seeds[model.relation])
            body = "SELECT * FROM rows_given"
        db.execute(f"CREATE TABLE {model.relation} AS {body}")
    return db


# --- the slow computation ---------------------------------------------------------------------------------------


@cache
def changes() -> list[tuple[date, str, str]]:
    with (PROJECT / "seeds" / "symbol_changes.csv").open(encoding="utf-8") as file:
        return [(date.fromisoformat(r["changed_on"]), r["old_symbol"], r["new_symbol"]) for r in csv.DictReader(file)]


Changes = list[tuple[date, str, str]]


def security_of(symbol: str, day: date, renamed: Changes | None = None) -> str:
    """Walks back through the renames, one at a time."""
    since = ALWAYS
    while earlier := [c for c in renamed or changes() if symbol in c[1:] and c[0] <= day]:
        since, old, new = max(earlier, key=lambda c: (c[0], c[2] == symbol))
        if new != symbol:
            break
        symbol, day, since = old, since - timedelta(days=1), ALWAYS
    return hashlib.md5(f"{symbol}|{since}".encode(), usedforsecurity=False).hexdigest()


def by_security(rows: Iterable[Row]) -> dict[str, list[Row]]:
    out = defaultdict(list)
    for r in sorted(rows, key=lambda r: r["date"]):
        out[security_of(r["symbol"], r["date"])].append(r)
    return out


def growths(
    sessions: list[tuple[date, Decimal]], splits: list[Row], dividends: list[Row]
) -> list[tuple[Fraction, Fraction | None]]:
    """Per session its split ratio, and what one unit held since the session before became."""
    days = [day for day, _ in sessions]
    ratio, paid = defaultdict(lambda: Fraction(1)), defaultdict(Fraction)
    for kind in (splits, dividends):
        for e in kind:
            session = bisect_right(days, e["date"] - timedelta(days=1))
            if session == len(days) or (session == 0 and days[0] != e["date"]):
                continue
            if kind is splits:
                ratio[session] *= Fraction(e["numerator"]) / Fraction(e["denominator"])
            else:
                paid[session] += Fraction(e["dividend"])
    out: list[tuple[Fraction, Fraction | None]] = []
    for i, (_, close) in enumerate(sessions):
        gross = (Fraction(close) + paid[i]) * ratio[i] / Fraction(sessions[i - 1][1]) if i else None
        out.append((ratio[i], gross))
    return out


def near(found: Decimal | None, true: Fraction | Decimal | float | None, tolerance: float) -> bool:
    if found is None or true is None:
        return found is None and true is None
    return abs(float(Fraction(found) - Fraction(true))) <= tolerance


def current(rows: list[Row]) -> list[Row]:
    return [r for r in rows if r["known_to"] is None]


# --- the tests --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_build_says_what_it_made(gold: Gold) -> None:
    built = gold.built
    tables = ["dim_security", "fct_adjusted_return", "fct_daily_price", "mart_momentum_asof"]
    assert sorted(m.name for m in built.gold) == tables
    assert built.warnings == ()
    assert built.tests > 40
    made: set[str] = {f"silver.{view.name}" for view in gold.views}
    for model in built.models:
        steps, read = recompute.ancestors(built.models, model.relation)
        assert {*(m.relation for m in steps[:-1]), *(f"silver.{name}" for name in read)} <= made, "ancestors come first"
        made.add(model.relation)
    mart = gold.model("mart_momentum_asof")
    assert mart.clocks == {"known_from": "known_from"}
    assert gold.model("fct_daily_price").clocks == {}
    for model in built.gold:
        types = gold.db.execute(f"DESCRIBE gold.{model.name}").fetchall()
        stated = duckdb.connect()
        for column, (name, kind, *_) in zip(model.columns, types, strict=True):
            assert column.name == name
            assert str(stated.execute(f"SELECT CAST(NULL AS {column.type}) AS c").description[0][1]) == kind


@pytest.mark.slow
def test_a_description_without_a_run_is_the_same(gold: Gold) -> None:
    assert describe(gold.project, gold.views, Limits()) == gold.built.gold


@pytest.mark.slow
def test_the_wide_lake_describes_securities_as_the_markets_lake_does(gold: Gold) -> None:
    """Its yml is a copy, since dbt reads one yml a model; what it adds is an input."""
    wide, markets = (
        yaml.safe_load((p / "models/gold/dim_security.yml").read_text())["models"][0] for p in (gold.project, PROJECT)
    )
    inputs = wide["config"]["meta"]["assay"]["inputs"]
    assert [one["table"] for one in inputs][-2:] == ["silver.price_eod_versions", "silver.adjusted_close_versions"]
    assert inputs.pop()["where"] == inputs[-1]["where"]
    assert wide == markets


def test_symbols_find_their_security(gold: Gold) -> None:
    rows = {(r["symbol"], r["valid_from"]): r for r in gold.rows("dim_security")}

    def row(symbol: str, since: date = ALWAYS) -> Row:
        found = rows[symbol, since]
        assert found["security_id"] == security_of(symbol, since)
        assert found["is_current"] == (found["valid_to"] is None)
        return found

    facebook, fund = row("META", date(2022, 6, 9)), row("META")
    assert (
        row("FB")["security_id"]
        == facebook["security_id"]
        != fund["security_id"]
        == row("METV", date(2022, 1, 31))["security_id"]
    )
    assert row("FB")["valid_to"] == date(2022, 6, 9)
    assert row("FB")["company_name"] == facebook["company_name"] == "Meta Platforms, Inc."
    assert fund["company_name"] is None
    assert ("META", date(2022, 1, 31)) not in rows, "nobody held the symbol between the fund and Facebook"
    assert (
        len(
            {
                row("RIMM")["security_id"],
                row("BBRY", date(2013, 2, 4))["security_id"],
                row("BB", date(2017, 10, 16))["security_id"],
            }
        )
        == 1
    )
    assert row("GOOG")["current_symbol"] == "GOOGL"
    assert row("GOOG", date(2014, 4, 3))["security_id"] != row("GOOG")["security_id"]
    assert (row("NOSUCH")["company_name"], row("NOSUCH")["is_current"]) == (None, True)
    assert row("IBM")["valid_to"] is None
    assert len(rows) == len(gold.rows("dim_security"))


HISTORIES = int(os.environ.get("HISTORIES", "200"))
Listed = list[tuple[str, date, date | None]]


@st.composite
def identities(draw: st.DrawFn) -> tuple[Changes, Listed, Listed]:
    """Changes of a few symbols, each day and symbol once a side; two universes, each row after the one before it of its symbol."""
    symbols, days = st.sampled_from("ABCD"), st.integers(1, 9).map(lambda n: date(2020, n, 1))
    found = draw(st.lists(st.tuples(days, symbols, symbols).filter(lambda c: c[1] != c[2]), max_size=5))
    renamed = [
        c for i, c in enumerate(found) if all((c[0], c[1]) != o[:2] and (c[0], c[2]) != (o[0], o[2]) for o in found[:i])
    ]

    def universe(size: int) -> Listed:
        listed: Listed = []
        for symbol in draw(st.lists(symbols, max_size=size, unique=True)):
            ends = sorted(draw(st.lists(days, min_size=2, max_size=4, unique=True)))
            rows = list(zip(ends[::2], ends[1::2], strict=False))
            listed += [(symbol, *row) for row in rows]
            if draw(st.booleans()):
                listed[-1] = (symbol, rows[-1][0], None)
        return listed

    return renamed, universe(4), universe(2)


def contradictions(renamed: Changes, listed: Listed, last: list[date], held: list[str]) -> set[tuple[str, date]]:
    """The rows of a universe that cannot be: over a change of their symbol, or of days that another claims, or of another security."""
    wrong = set()
    for i, (symbol, start, _) in enumerate(listed):
        inside = sorted(c for c in renamed if symbol in c[1:] and start < c[0] <= last[i])
        if inside and not any(c[0] == inside[-1][0] and c[2] == symbol for c in inside):
            wrong.add((symbol, start))
        known = any(symbol in c[1:] for c in renamed)
        for j, (other, since, _) in enumerate(listed):
            if i != j and known and (held[i] == held[j]) != (symbol == other) and since <= last[i] and start <= last[j]:
                wrong.add(min((symbol, start), (other, since)))
    return wrong


def test_a_record_is_of_who_holds_its_symbol_at_the_end_of_its_row_of_the_universe(gold: Gold) -> None:
    """Ten records a row of the universe, against a walk along the renames; contradictions are found, and nothing else is.

    All histories are of one lake, with symbols of their own.
    """
    told = []
    for n, (renamed, *universes) in enumerate(drawn(identities(), HISTORIES)):
        listed = [[(f"{symbol}{n}", *days) for symbol, *days in one] for one in universes]
        told.append(([(day, f"{old}{n}", f"{new}{n}") for day, old, new in renamed], *listed))
    seeds = {
        "stg.symbol_changes": columns([dict(zip(CHANGE, row, strict=True)) for one, *_ in told for row in one], CHANGE)
    }
    for place, name in enumerate(("us", "adjusted"), 1):
        rows = [dict(zip(LISTED, row, strict=True)) for one in told for row in one[place]]
        seeds[f"stg.universe_{name}"] = columns(rows, LISTED)
    histories = [
        (renamed, sorted({*us, *more}, key=lambda row: (*row[:2], row[2] or LATEST))) for renamed, us, more in told
    ]
    last = {row: row[2] - timedelta(days=1) if row[2] else LATEST for _, listed in histories for row in listed}
    records = []
    for (symbol, start, _), day in last.items():
        days = min((day - start).days, 300)
        some = sorted({start + timedelta(days=days * n // 9) for n in range(10)})
        records += [dict.fromkeys(PRICED, 1) | {"symbol": symbol, "date": one} for one in some]
    test = (PROJECT / "tests" / "universe_and_changes_are_one_truth.sql").read_text()
    test = test.replace("{{ ref('universe_holder') }}", "stg.universe_holder")
    with again(gold.built, {"price_eod": columns(records, PRICED)}, "stg.stg_price", seeds=seeds) as db:
        complained = set(db.execute(f"SELECT symbol, valid_from FROM ({test})").fetchall())
        found = defaultdict(set)
        for symbol, day, security in db.execute("SELECT symbol, date, security_id FROM stg.stg_price").fetchall():
            found[symbol].add((day, security))
        spans = db.execute("SELECT symbol, valid_from, valid_to FROM stg.symbol_range ORDER BY ALL").fetchall()
    for renamed, listed in histories:
        ends = [last[row] for row in listed]
        held = [security_of(symbol, day, renamed or NEVER) for (symbol, _, _), day in zip(listed, ends, strict=True)]
        wrong = contradictions(renamed, listed, ends, held)
        assert {one for one in complained if one in {row[:2] for row in listed}} == wrong, (renamed, listed)
        for (symbol, start, _), day, security in () if wrong else zip(listed, ends, held, strict=True):
            mine = {i for d, i in found[symbol] if start <= d <= day}
            assert mine == {security}, (renamed, listed, symbol, start)
        symbols = set() if wrong else {symbol for change in renamed for symbol in change[1:]}
        for (symbol, _, end), (following, start, _) in pairwise(one for one in spans if one[0] in symbols):
            assert symbol != following or (end is not None and end <= start), (renamed, listed)


NEVER: Changes = [(ALWAYS, "", "")]
LATEST = date(9999, 1, 1)


def test_every_price_belongs_to_one_row_of_the_dimension(gold: Gold, silver: dict[str, list[Row]]) -> None:
    found = gold.db.execute(
        "SELECT count(*), count(DISTINCT (f.security_id, f.date)) FROM gold.fct_daily_price AS f JOIN gold.dim_security AS d "
        "ON d.security_id = f.security_id AND d.symbol = f.symbol AND f.date >= d.valid_from AND (d.valid_to IS NULL OR f.date < d.valid_to)"
    ).fetchall()
    number = len(current(silver["price_eod"]))
    assert found == [(number, number)]


def test_daily_prices_equal_the_slow_computation(gold: Gold, silver: dict[str, list[Row]]) -> None:
    prices, splits, dividends = (by_security(current(silver[name])) for name in ("price_eod", "splits", "dividends"))
    found = {(r["security_id"], r["date"]): r for r in gold.rows("fct_daily_price")}
    assert found.keys() == {(s, r["date"]) for s, rows in prices.items() for r in rows}
    chosen = set(random.Random(11).sample(sorted(found), 300))
    checked = 0
    for security, sessions in prices.items():
        growth = growths([(r["date"], r["close"]) for r in sessions], splits[security], dividends[security])
        index, peak, shares, held, returns = Decimal(1), Decimal(1), Fraction(1), [], []
        for i, (source, (ratio, gross)) in enumerate(zip(sessions, growth, strict=True)):
            shares *= ratio
            held.append(Fraction(source["close"]) * shares)
            if gross is not None:
                returns.append(float(gross - 1))
                with localcontext(prec=40):
                    index *= Decimal(gross.numerator) / Decimal(gross.denominator)
            peak = max(peak, index)
            row = found[security, source["date"]]
            events = any(r != 1 for r, _ in growth[max(0, i - 3) : i + 1])
            if i < 60 or events or (security, source["date"]) in chosen or i == len(sessions) - 1:
                checked += 1
                for name in ("symbol", "open", "high", "low", "close", "volume"):
                    assert row[name] == source[name]
                assert near(row["split_factor"], ratio, 1e-12)
                assert near(row["return_1d"], None if gross is None else gross - 1, 1.1e-12)
                assert near(row["sma_20"], sum(held[-20:]) / 20 / shares if i >= 19 else None, 0.6e-6)
                assert near(row["sma_50"], sum(held[-50:]) / 50 / shares if i >= 49 else None, 0.6e-6)
                volatility = statistics.stdev(returns[-20:]) * math.sqrt(252) if i >= 20 else None
                assert near(row["volatility_20"], volatility, 1e-10)
            assert near(row["total_return_index"], index, 1e-10 * float(index))
            assert near(row["drawdown"], index / peak - 1, 1e-10)
    assert checked > 600


WIDE = pa.decimal128(38, 18)


def tables_of(rows: Mapping[str, list[Row]]) -> dict[str, str | pa.Table]:
    """Silver's views over such rows, with room for prices in any unit."""
    tables: dict[str, str | pa.Table] = {}
    for name, found in rows.items():
        schema = {c: WIDE if kind == NUMBER else kind for c, kind in SCHEMAS[name].items()} | CLOCKS
        for suffix, kinds in (("", schema), ("_versions", schema | VERSIONS)):
            tables[name + suffix] = pa.Table.from_pylist(found, pa.schema(list(kinds.items())))
    return tables


History = TypeVar("History", Security, Lake)


def smallest(one: History, complaints: Callable[[list[History]], list[str]]) -> str:
    """A history that has a complaint with it, and nothing in it that could be left out."""
    said = complaints([one])[0]
    while True:
        less = sorted(one.smaller(), key=lambda some: some.size)
        worse = (
            next(((some, why) for some, why in zip(less, complaints(less), strict=True) if why), None) if less else None
        )
        if worse is None:
            return f"{said}\n{one}"
        one, said = worse


def columns(rows: Sequence[Row], schema: Mapping[str, pa.DataType]) -> pa.Table:
    return pa.table({name: pa.array([r[name] for r in rows], kind) for name, kind in schema.items()})


# Prices that a decimal of six places cannot hold too.
PRICED = (
    {"symbol": pa.string(), "date": pa.date32()}
    | dict.fromkeys(("open", "high", "low", "close"), WIDE)
    | {"volume": pa.int64()}
)
SPLIT = {"symbol": pa.string(), "date": pa.date32(), "numerator": WIDE, "denominator": WIDE}
PAID = {"symbol": pa.string(), "date": pa.date32(), "dividend": WIDE}
TOLD = {"known_from": MOMENT, "known_to": MOMENT, "backfilled": pa.bool_()}


def daily(gold: Gold, given: Mapping[str, Security], named: set[str] | None = None) -> dict[str, list[Row]]:
    """What the model's own SQL gives for some securities in one lake, each by its symbol; and whom the build would warn of."""
    first = date(2020, 1, 1)
    prices, splits, dividends = [], [], []
    for symbol, one in given.items():
        mine = {"symbol": symbol}
        days = [first + timedelta(days=day) for day in one.days]
        prices += [
            mine | dict.fromkeys(("open", "high", "low", "close"), close) | {"date": day, "volume": 1}
            for day, close in zip(days, one.closes, strict=True)
        ]
        splits += [
            mine | {"date": first + timedelta(days=day), "numerator": new, "denominator": old}
            for day, new, old, stands in one.splits if stands
        ]  # fmt: skip
        dividends += [
            mine | {"date": first + timedelta(days=day), "dividend": paid}
            for day, paid, _, stands in one.dividends
            if stands
        ]
    tables = {
        "price_eod": columns(prices, PRICED),
        "splits": columns(splits, SPLIT),
        "dividends": columns(dividends, PAID),
    }
    out: dict[str, list[Row]] = {symbol: [] for symbol in given}
    with again(gold.built, tables, "gold.fct_daily_price") as db:
        for row in rows_of(db, gold.model("fct_daily_price")):
            out[row["symbol"]].append(row)
        if named is not None:
            test = (PROJECT / "tests" / "figures_are_defined.sql").read_text().split("}}\n", 1)[1]
            test = test.replace("{{ ref('fct_daily_price') }}", "gold.fct_daily_price")
            symbols = {rows[0]["security_id"]: symbol for symbol, rows in out.items()}
            named |= {symbols[security] for security, *_ in db.execute(test).fetchall()}
    return out


def figures_of(gold: Gold, some: Sequence[Security]) -> list[str]:
    """What is wrong with the figures of each, all in one lake."""
    found = daily(gold, {str(i): one for i, one in enumerate(some)})
    return [wrong(one, found[str(i)]) for i, one in enumerate(some)]


RATIOS = ("split_factor", "return_1d", "volatility_20", "total_return_index", "drawdown")


@pytest.mark.parametrize("histories", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_any_securitys_figures_are_right_its_own_and_of_no_unit(gold: Gold, histories: int) -> None:
    """All of them in one lake, against plain Python: as good as each alone; and the same in another unit, and beside others."""
    told = drawn(st.tuples(TRADED, st.integers(-9, 7)), histories)
    some = {f"S{i}": one for i, (one, _) in enumerate(told)}
    given = some | {f"X{i}": one.times(Decimal(10) ** unit) for i, (one, unit) in enumerate(told)}
    given |= {f"O{i}": one for i, one in enumerate([*ODD, *drawn(ODDLY, histories // 4)])}
    named: set[str] = set()
    found = daily(gold, given, named)
    rows = sum(len(one.closes) for one in some.values())
    assert histories < 200 or rows >= 10_000

    for symbol, one in given.items():
        if said := wrong(one, found[symbol]):
            pytest.fail(f"{symbol}: {said}\n{smallest(one, lambda less: figures_of(gold, less))}", pytrace=False)
    for i in range(histories):
        for row, scaled in zip(found[f"S{i}"], found[f"X{i}"], strict=True):
            for name in RATIOS:
                assert near(scaled[name], row[name], 2e-12 + 1e-11 * abs(float(row[name] or 0))), (i, name)
    undefined = {"total_return_index", "split_factor", "drawdown"}
    assert named == {s for s, rows in found.items() if any(row[name] is None for row in rows for name in undefined)}
    for half in (list(given)[::2], list(given)[1::2]):
        assert daily(gold, {symbol: given[symbol] for symbol in half}) == {symbol: found[symbol] for symbol in half}


def slow_returns(
    closes: list[tuple[date, Decimal]], index: Mapping[date, Decimal], rates: Mapping[date, Decimal | None],
    wanted: Callable[[int], bool] = lambda _: True,
) -> list[Row]:  # fmt: skip
    """One security's figures of `fct_adjusted_return`, session by session; those that cost are None where not `wanted`."""

    def told(new: Decimal | None, old: Decimal | None) -> Fraction | None:
        gross = Fraction(new) / Fraction(old) if new and old and new > 0 and old > 0 else None
        return gross - 1 if gross and Fraction(1, 10**12) <= gross < 10000 else None

    out: list[Row] = []
    pairs: list[tuple[Fraction | None, Fraction | None]] = []
    for i, (day, close) in enumerate(closes):
        before, previous = closes[i - 1] if i else (None, None)
        pairs.append((told(close, previous), told(index.get(day), index.get(before)) if before else None))
        row: Row = {"previous_date": before, "return_1d": pairs[-1][0], "index_return_1d": pairs[-1][1]}
        lately = [r for r, _ in pairs[-20:] if r is not None]
        row["volatility_20"] = statistics.stdev(map(float, lately)) * math.sqrt(252) if len(lately) == 20 else None
        both = [(float(r), float(m)) for r, m in pairs[-252:] if r is not None and m is not None] if wanted(i) else []
        row["beta_252"] = None
        if len(both) == 252:
            mean, index_mean = math.fsum(r for r, _ in both) / 252, math.fsum(m for _, m in both) / 252
            spread = math.fsum((m - index_mean) ** 2 for _, m in both)
            slope = math.fsum((r - mean) * (m - index_mean) for r, m in both) / spread if spread else None
            row["beta_252"] = slope
        told_before = (rates.get(before - timedelta(days=ago)) for ago in range(10)) if before else ()
        free = next((one for one in told_before if one is not None), None)
        plausible = free is not None and abs(free) <= 100
        row["risk_free_1d"] = None if not plausible or before is None else Fraction(free) * (day - before).days / 36500
        known_both = row["return_1d"] is not None and row["risk_free_1d"] is not None
        row["excess_return_1d"] = row["return_1d"] - row["risk_free_1d"] if known_both else None
        out.append(row)
    return out


RETURNS = ("return_1d", "index_return_1d", "volatility_20", "beta_252", "risk_free_1d", "excess_return_1d")


def agrees(row: Row, true: Row, names: Iterable[str] = RETURNS) -> bool:
    """Whether the figures are those of the oracle, to twelve decimals or ten digits."""
    return row["previous_date"] == true["previous_date"] and all(
        near(row[name], true[name], 3e-12 + 1e-9 * abs(float(true[name] or 0))) for name in names
    )


def test_adjusted_returns_equal_the_slow_computation(gold: Gold, silver: dict[str, list[Row]]) -> None:
    filed = {
        ("XOM", r["date"]): date(1999, 12, 1) for r in silver["adjusted_close"]
    }  # all its history, under today's symbol
    closes: dict[str, list[Row]] = defaultdict(list)
    for r in silver["adjusted_close"]:
        closes[security_of(r["symbol"], filed.get((r["symbol"], r["date"]), r["date"]))].append(r)
    index = {r["date"]: r["close"] for r in silver["index_close"] if r["symbol"] == "^GSPC"}
    rates = {r["date"]: r["month_3"] for r in silver["treasury_rates"]}
    found = {(r["security_id"], r["date"]): r for r in gold.rows("fct_adjusted_return")}
    assert found.keys() == {(s, r["date"]) for s, rows in closes.items() for r in rows}
    checked = slopes = 0
    for security, rows in closes.items():
        sessions = [(r["date"], r["adj_close"]) for r in rows][:700]
        wanted = {*range(30), *random.Random(5).sample(range(len(sessions)), min(60, len(sessions)))}
        for i, true in enumerate(slow_returns(sessions, index, rates, wanted.__contains__)):
            if i in wanted:
                row = found[security, sessions[i][0]]
                assert agrees(row, true), (row, true)
                assert (row["symbol"], row["adj_close"]) == (rows[i]["symbol"], rows[i]["adj_close"])
                checked, slopes = checked + 1, slopes + (row["beta_252"] is not None)
    assert checked > 300
    assert slopes > 10
    renamed = [r for r in found.values() if r["symbol"] == "XOM"]
    assert {r["security_id"] for r in renamed} == {security_of("XON", date(1999, 11, 30))}
    change = next(r for r in renamed if r["date"] == date(1999, 12, 1))
    assert (change["previous_date"], change["return_1d"]) == (date(1999, 11, 30), Decimal("0.040184660581"))


@dataclass(frozen=True)
class Quotes:
    """A security's closes of consecutive days but those left out, the index's levels, the Treasury's rates."""

    closes: tuple[Decimal, ...]
    without: frozenset[int]
    index: Mapping[int, Decimal]
    rates: Mapping[int, Decimal | None]


@st.composite
def quotes(draw: st.DrawFn) -> Quotes:
    """Walks from a seed, since 252 sessions are too many to draw; a few days of each are missing, or odd."""
    days, chance = draw(st.integers(1, 40) | st.integers(253, 300)), random.Random(draw(st.integers(0, 10**6)))
    some = st.frozensets(st.integers(0, days), max_size=4) if draw(st.booleans()) else st.just(frozenset[int]())
    close, market, closes, index = Decimal(chance.randint(1, 500)), Decimal(1000), [], {}
    for day in range(days):
        moved = Decimal(chance.randint(-300, 300)) / 10000
        market = round(market * (1 + moved), 2)
        close = round(close * (1 + moved * draw(st.just(2)) + Decimal(chance.randint(-100, 100)) / 10000), 6)
        closes.append(close)
        index[day] = market
    lost = draw(some) if draw(st.booleans()) else frozenset()
    for day in lost:
        index[day] = draw(st.sampled_from([Decimal(0), Decimal(-1), Decimal("1e-6"), Decimal(10) ** 11]))
    told = st.sampled_from([None, Decimal(0), Decimal("5.25"), Decimal("-0.1"), Decimal(99999)])
    rates = {day: draw(told) for day in range(-3, days, draw(st.integers(1, 25)))} if draw(st.booleans()) else {}
    return Quotes(tuple(closes), draw(some), {d: v for d, v in index.items() if d not in draw(some)}, rates)


WILD = Quotes((Decimal(1), Decimal(9999)) * 150, frozenset(), {}, {})


def returns_of(gold: Gold, given: Mapping[str, Quotes], like: Quotes) -> dict[str, list[Row]]:
    """What the model's own SQL gives for some securities, with the index and the rates of one; by symbol."""
    first = date(2020, 1, 1)
    rows: dict[str, list[Row]] = {name: [] for name in SCHEMAS}
    for symbol, one in given.items():
        rows["adjusted_close"] += [
            adjusted(symbol, first + timedelta(days=i), close)
            for i, close in enumerate(one.closes)
            if i not in one.without
        ]
    rows["index_close"] = [level(first + timedelta(days=i), close) for i, close in like.index.items()]
    rows["treasury_rates"] = [rate(first + timedelta(days=i), one) for i, one in like.rates.items()]
    out = defaultdict(list)
    with again(gold.built, tables_of(rows), "gold.fct_adjusted_return") as db:
        for row in sorted(rows_of(db, gold.model("fct_adjusted_return")), key=lambda r: r["date"]):
            out[row["symbol"]].append(row)
    return out


@pytest.mark.slow
def test_any_securitys_adjusted_returns_are_its_own_and_of_no_unit(gold: Gold) -> None:
    """Against exact fractions: 44 securities beside odd ones in each of five lakes with an index and rates of its own."""
    first, told, rows = date(2020, 1, 1), drawn(st.tuples(quotes(), st.integers(-6, 7)), 220), 0
    for some in (told[n : n + 44] for n in range(0, 220, 44)):
        like = max((one for one, _ in some), key=lambda one: (bool(one.rates), len(one.index)))
        index = {first + timedelta(days=i): c for i, c in like.index.items()}
        rates = {first + timedelta(days=i): r for i, r in like.rates.items()}
        given = {f"S{i}": one for i, (one, _) in enumerate(some)}
        given |= {
            f"X{i}": replace(one, closes=tuple(c * Decimal(10) ** unit for c in one.closes))
            for i, (one, unit) in enumerate(some)
        }
        given |= {f"O{i}": replace(WILD, closes=one.closes) for i, one in enumerate([WILD, *ODD])}
        found = returns_of(gold, given, like)
        half = list(given)[::2]
        assert returns_of(gold, {s: given[s] for s in half}, like) == {s: found[s] for s in half if s in found}
        for i, (one, _) in enumerate(some):
            sessions = [(first + timedelta(days=n), c) for n, c in enumerate(one.closes) if n not in one.without]
            costly = range(len(sessions) - 3, len(sessions))
            true, mine, other = (
                slow_returns(sessions, index, rates, costly.__contains__),
                found[f"S{i}"],
                found[f"X{i}"],
            )
            assert len(mine) == len(other) == len(sessions)
            rows += len(sessions)
            for n, (row, scaled) in enumerate(zip(mine, other, strict=True)):
                names = RETURNS if n in costly else [name for name in RETURNS if name != "beta_252"]
                assert agrees(row, true[n], names), (one, row, true[n])
                assert all(near(scaled[name], row[name], 3e-12 + 1e-9 * abs(float(row[name] or 0))) for name in RETURNS)
    assert rows >= 10_000


@cache
def known(number: int, one: Lake) -> tuple[dict[str, list[Row]], dict[tuple[Any, date], Row]]:
    """A lake's versions, and its momentum as it was known."""
    rows = one.rows(number)
    return rows, momentum(of_securities(rows))


def months_of(gold: Gold, lakes: Sequence[Lake]) -> list[str]:
    """What is wrong with the momentum of each, by the model's own SQL: they lie years apart."""
    rows, expected = zip(*(known(number, one) for number, one in enumerate(lakes)), strict=True)
    told = {name: [r for one in rows for r in one[name]] for name in MONEY}
    tables = {
        "price_eod_versions": columns(told["price_eod"], {k: PRICED[k] for k in ("symbol", "date", "close")} | TOLD),
        "splits_versions": columns(told["splits"], SPLIT | TOLD),
        "dividends_versions": columns(told["dividends"], PAID | TOLD),
    }
    renamed = [dict(zip(CHANGE, c, strict=True)) for number, one in enumerate(lakes) for c in one.changes(number)]
    seeds = {"stg.symbol_changes": columns(renamed, CHANGE), "stg.universe_us": columns([], LISTED)}
    found: list[dict[tuple[Any, date], Row]] = [{} for _ in lakes]
    securities = {
        security_of(months.symbol(number, i), date.max, NEVER): (number, i)
        for number, one in enumerate(lakes) for i in range(len(one.listings))
    }  # fmt: skip
    with again(gold.built, tables, "gold.mart_momentum_asof", seeds=seeds) as db:
        for row in rows_of(db, gold.model("mart_momentum_asof")):
            security = securities[row["security_id"]]
            found[security[0]][security, row["as_of_date"]] = row
    return [months.wrong(*both) for both in zip(expected, found, strict=True)]


CHANGE = {"changed_on": pa.date32(), "old_symbol": pa.string(), "new_symbol": pa.string()}
LISTED = {"symbol": pa.string(), "valid_from": pa.date32(), "valid_to": pa.date32()}


@pytest.mark.parametrize("histories", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_any_lakes_momentum_is_what_was_known_at_each_securitys_own_month_ends(gold: Gold, histories: int) -> None:
    some = drawn(LONG, histories // 5) + drawn(SHORT, histories)
    assert histories < 200 or sum(one.size[0] for one in some) >= 10_000
    for number, said in enumerate(months_of(gold, some)):
        if said:
            pytest.fail(f"{said}\n{smallest(some[number], lambda less: months_of(gold, less))}", pytrace=False)


FAULTS = {
    "an event of the session before counts again": ("fct_daily_price", "e.date > s.previous_date", "e.date >= s.previous_date"),
    "an event on no session is lost": ("fct_daily_price", "e.date > s.previous_date OR e.date = s.date", "e.date = s.date"),
    "the price before is anybody's": ("fct_daily_price", "LAG(close) OVER (PARTITION BY security_id ORDER BY date)", "LAG(close) OVER (ORDER BY date)"),
    "an odd price before is a price": ("fct_daily_price", "WHEN previous_close > 0", "WHEN previous_close <> 0"),
    "a dividend is of the old share": ("fct_daily_price", "CAST(dividend AS DOUBLE)", "CAST(dividend AS DOUBLE) / EXP(CAST(log_split AS DOUBLE))"),
    "an odd split is none": ("fct_daily_price", "THEN 0 ELSE k.log_split", "THEN 0 ELSE COALESCE(k.log_split, 0)"),
    "a window is a session longer": ("fct_daily_price", "19 preceding", "20 preceding"),
    "a deviation is of all": ("fct_daily_price", "20 * 19", "20 * 20"),
    "logarithms of few digits": ("fct_daily_price", "AS DECIMAL(38, 18))", "AS DECIMAL(38, 9))"),
    "a mean in the first day's shares": ("fct_daily_price", "/ EXP(CAST(log_shares AS DOUBLE)) * CAST(first_close", "* CAST(first_close"),
    "a peak is of one session": ("fct_daily_price", "MAX(log_total) OVER (\n      PARTITION BY security_id", "MAX(log_total) OVER (\n      PARTITION BY security_id, date"),
    "an index goes on": ("fct_daily_price", "WHEN undefined = 0 AND", "WHEN"),
    "prices are known before they are": ("mart_momentum_asof", "p.known_from <= c.cutoff", "p.date <= CAST(c.cutoff AS DATE)"),
    "prices are known for ever": ("mart_momentum_asof", "p.known_to > c.cutoff", "TRUE"),
    "events are known before they are": ("mart_momentum_asof", "e.known_from <= p.cutoff", "e.date <= CAST(p.cutoff AS DATE)"),
    "events are known for ever": ("mart_momentum_asof", "e.known_to > p.cutoff", "TRUE"),
    "a month ends as the lake's does": ("mart_momentum_asof", "MAX(date) AS as_of_date", "MAX(MAX(date)) OVER (PARTITION BY DATE_TRUNC('MONTH', date)) AS as_of_date"),
    "a month is a session longer": ("mart_momentum_asof", "BETWEEN 21 AND 251 THEN log_return END) = 231\n      THEN SUM(CASE WHEN sessions_ago BETWEEN 21", "BETWEEN 21 AND 251 THEN log_return END) = 231\n      THEN SUM(CASE WHEN sessions_ago BETWEEN 20"),
    "a gap is a return": ("mart_momentum_asof", "log_return END) = 231", "log_return END) > 200"),
    "twins are ranked": ("mart_momentum_asof", "RANK() OVER", "ROW_NUMBER() OVER"),
    "a rank is of all cutoffs": ("mart_momentum_asof", "RANK() OVER (PARTITION BY month, cutoff", "RANK() OVER (PARTITION BY month"),
    "who left is ranked": ("mart_momentum_asof", "last_date >= month AND", ""),
    "old sessions count": ("mart_momentum_asof", "AND date > last_date - INTERVAL '400' DAY", ""),
    "late dividends do not tell": ("mart_momentum_asof", "OR COALESCE(d.backfilled, FALSE)", ""),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_models_is_found_by_these_histories(gold: Gold, fault: str) -> None:
    table, old, new = FAULTS[fault]
    sql = next(m.sql for m in gold.built.models if m.relation == f"gold.{table}")
    assert old in sql
    models = tuple(
        msgspec.structs.replace(m, sql=sql.replace(old, new)) if m.relation == f"gold.{table}" else m
        for m in gold.built.models
    )
    broken = Gold(gold.project, replace(gold.built, models=models), gold.views, gold.db)
    if table == "fct_daily_price":
        assert any(figures_of(broken, [*ODD, *few(TRADED, 20)]))
    else:
        assert any(months_of(broken, [*few(LONG, 10), *few(SHORT, 20)]))


few = cache(drawn)


def test_momentum_equals_the_slow_computation(gold: Gold, silver: dict[str, list[Row]]) -> None:
    securities: dict[Any, dict[str, list[Row]]] = defaultdict(lambda: {name: [] for name in MONEY})
    for name in MONEY:
        for security, rows in by_security(silver[name]).items():
            securities[security][name] = rows
    slow = momentum(securities)
    found = {(r["security_id"], r["as_of_date"]): r for r in gold.rows("mart_momentum_asof")}
    assert found.keys() == slow.keys()
    for key, row in found.items():
        for name in ("symbol", "sessions_used", "rank", "known_from", "backfilled"):
            assert row[name] == slow[key][name], (key, name)
        for name in ("momentum_12_1", "momentum_6_1"):
            assert near(row[name], slow[key][name], 1e-11), (key, name)
    late = next(r for r in found.values() if r["symbol"] == "MSFT" and r["as_of_date"] == date(2010, 8, 31))
    assert late["known_from"] == at("2010-09-03")
    others = [r["rank"] for r in found.values() if r["as_of_date"] == date(2010, 8, 31) and r["symbol"] != "MSFT"]
    assert sorted(others) == [1, 2, 3], "they could not be ranked against a price nobody knew"


def test_what_stands_today_would_give_another_past(gold: Gold) -> None:
    """The model over today's rows only differs just where a version was corrected, late or withdrawn."""
    given = {v.name: v.sql for v in gold.views}
    for name in ("price_eod", "splits", "dividends"):
        given[f"{name}_versions"] += " WHERE recorded_to IS NULL"
    model = gold.model("mart_momentum_asof")
    with again(gold.built, given, f"gold.{model.name}") as db:
        today = {(r["symbol"], r["as_of_date"]): r for r in rows_of(db, model)}
    changed = {
        (r["symbol"], f"{r['as_of_date']:%Y-%m}")
        for r in gold.rows(model.name)
        if today[r["symbol"], r["as_of_date"]] != r
    }
    assert ("AAPL", "2005-04") in changed, "the split was 3:1 as far as one knew in April"
    assert ("AAPL", "2006-06") not in changed
    assert ("IBM", "2009-06") in changed
    assert ("MSFT", "2010-08") not in changed


@pytest.mark.slow
def test_rows_in_another_order_and_the_models_own_sql_give_the_same_gold(
    gold: Gold, silver: dict[str, list[Row]], tmp_path: Path
) -> None:
    shuffled = views(silver, tmp_path, random.Random(5))
    with again(gold.built, {v.name: v.sql for v in shuffled}) as db:
        for model in gold.built.gold:
            assert rows_of(db, model) == gold.rows(model.name)


@pytest.mark.slow
def test_the_models_can_be_written_in_athenas_dialect_and_read_back(gold: Gold) -> None:
    """Parsing alone: the same library writes and reads it, and no Athena runs it."""

    def through(sql: str) -> str:
        athena = sqlglot.transpile(sql, read="duckdb", write="athena", unsupported_level=sqlglot.ErrorLevel.RAISE)[0]
        return sqlglot.transpile(athena, read="athena", write="duckdb")[0]

    with again(gold.built, {v.name: v.sql for v in gold.views}, translate=through) as db:
        for model in gold.built.gold:
            assert rows_of(db, model) == gold.rows(model.name)


def inputs_of(gold: Gold, model: Table, row: Row) -> dict[str, pa.Table]:
    """Every silver view cut down to the rows that the model declares for this row; nothing of the others."""
    types = {c.name: c.type for c in model.columns}

    def literal(node: exp.Expression) -> exp.Expression:
        if isinstance(node, exp.Column) and node.table == "row":
            value = row[node.name]
            return exp.cast(
                exp.null() if value is None else exp.Literal.string(str(value)), types[node.name], dialect="duckdb"
            )
        return node

    out = {}
    declared = {one.table.removeprefix("silver."): one.where for one in model.inputs}
    for view in gold.views:
        where = sqlglot.parse_one(declared.get(view.name, "false"), dialect="duckdb").transform(literal).sql("duckdb")
        out[view.name] = gold.db.sql(f"SELECT * FROM silver.{view.name} WHERE {where}").to_arrow_table()
    return out


def recomputed(gold: Gold, model: Table, row: Row, given: Mapping[str, pa.Table]) -> Row | None:
    with again(gold.built, given, f"gold.{model.name}") as db:
        found = [r for r in rows_of(db, model) if all(r[k] == row[k] for k in model.key)]
    return found[0] if found else None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "sampled", "named"),
    [
        ("dim_security", 6, lambda r: r["symbol"] in {"FB", "META", "METV", "GOOG", "BBRY", "BB", "NOSUCH"}),
        ("fct_adjusted_return", 4, lambda r: (r["symbol"], str(r["date"])) in {
            ("XOM", "1999-12-01"), ("XOM", "1999-11-29"), ("AAPL", "2005-02-28"), ("GONE", "2012-05-07"), ("IBM", "2003-09-02"),
        }),
        ("fct_daily_price", 6, lambda r: (r["symbol"], str(r["date"])) in {
            ("META", "2022-06-10"), ("METV", "2022-06-10"), ("AAPL", "2005-02-28"), ("NOSUCH", "2012-03-07"), ("AAPL", "2000-03-01"),
        }),
        ("mart_momentum_asof", 5, lambda r: (r["symbol"], str(r["as_of_date"])) in {
            ("MSFT", "2010-08-31"), ("GOOG", "2010-08-31"), ("IBM", "2009-06-30"), ("AAPL", "2005-04-29"), ("IBM", "2007-12-31"),
        }),
    ],
)  # fmt: skip
def test_a_row_comes_again_from_its_declared_inputs_alone(
    gold: Gold, table: str, sampled: int, named: Callable[[Row], bool]
) -> None:
    model, rows = gold.model(table), gold.rows(table)
    chosen = [r for r in rows if named(r)]
    assert len(chosen) >= 5
    for row in chosen + random.Random(3).sample(rows, sampled):
        given = inputs_of(gold, model, row)
        assert recomputed(gold, model, row, given) == row
        if table == "fct_daily_price":
            for r in (r for rows in given.values() for r in rows.to_pylist()):
                assert r["date"] <= row["date"]
                assert security_of(r["symbol"], r["date"]) == row["security_id"], "no other security's row is an input"
        if "known_from" in row:
            latest = [max(t["known_from"].to_pylist()) for name, t in given.items() if t.num_rows]
            assert max(latest) == row["known_from"], "nothing known later is an input"


@pytest.mark.slow
def test_one_input_less_gives_another_row(gold: Gold) -> None:
    """So the test above would notice a predicate that leaves rows out."""
    fct, mart = gold.model("fct_daily_price"), gold.model("mart_momentum_asof")
    row = next(r for r in gold.rows("fct_daily_price") if (r["symbol"], str(r["date"])) == ("AAPL", "2012-11-30"))
    given = inputs_of(gold, fct, row)
    for name in ("price_eod", "splits", "dividends"):
        poorer = recomputed(gold, fct, row, given | {name: given[name].sort_by("date").slice(1)})
        assert poorer is None or poorer["total_return_index"] != row["total_return_index"]
    row = next(
        r for r in gold.rows("mart_momentum_asof") if (r["symbol"], str(r["as_of_date"])) == ("AAPL", "2012-11-30")
    )
    given = inputs_of(gold, mart, row)
    for name in ("price_eod_versions", "dividends_versions"):
        rows = given[name].sort_by([("symbol", "ascending"), ("date", "ascending")])
        mine = rows["symbol"].to_pylist().index("AAPL")
        fewer = pa.concat_tables([rows.slice(0, mine), rows.slice(mine + 60)])
        poorer = recomputed(gold, mart, row, given | {name: fewer})
        assert poorer != row
