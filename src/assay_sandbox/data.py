"""The records the sandbox serves, as the JSON text the vendor would write."""

import csv
import gzip
import json
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path

from assay_sandbox import wide

RECORDS = Path(__file__).parent / "records"
RAW = "historical-price-eod/non-split-adjusted"
ADJUSTED = "historical-price-eod/dividend-adjusted"
LIGHT = "historical-price-eod/light"
RATES = "treasury-rates"
LISTED = "stock-list"
DATED = (RAW, ADJUSTED, LIGHT, RATES)
PATHS = (*DATED, "splits", "dividends", LISTED)
ADJ = {"open": "adjOpen", "high": "adjHigh", "low": "adjLow", "close": "adjClose"}

Overrides = Mapping[tuple[str, str], Mapping[str, str]]
Row = dict[str, str]


class Records:
    """Rows by path, symbol and day; every value of a row is a JSON token, spelt as it will be served.

    An override replaces one token of the row of (symbol, date): `open`, `high`, `low`, `close` of the
    unadjusted prices, `adjOpen` … `adjClose` of the adjusted ones, `volume` of both; any field of a split or
    a dividend; with the date "", of the stock list; with the symbol "", of the Treasury's rates; `*` replaces the
    whole unadjusted record. The text need be neither a number nor JSON: what it holds is what is served.

    With `wheel`, the file that `assay_sandbox.wide` describes, its closes and its index are served too. What a
    public record does not say is null, never made up. A symbol of `folder` stays as it is there.
    """

    def __init__(self, folder: Path = RECORDS, overrides: Overrides | None = None, wheel: Path | None = None) -> None:
        self._folder = folder
        self._tables: dict[str, dict[str, dict[str, Row]]] = {path: {} for path in PATHS}
        self._texts: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for row in reversed(_read(folder / "prices.csv.gz")):
            self._put(
                RAW,
                row["symbol"],
                row["date"],
                {ADJ[name]: row[name] for name in ADJ} | {"volume": row["volume"]},
            )
            self._put(ADJUSTED, row["symbol"], row["date"], _adjusted(row) | {"volume": row["volume"]})
        for row in _read(folder / "splits.csv"):
            self._put_split(row["symbol"], row["date"], row["numerator"], row["denominator"])
        for row in reversed(_read(folder / "dividends.csv")):
            self._put("dividends", row["symbol"], row["date"], _dividend(row["dividend"]))
        for row in _read(folder / "symbols.csv.gz"):
            name = json.dumps(row["companyName"], ensure_ascii=False)
            listed = self._tables[LISTED].setdefault("", {})
            listed[row["symbol"]] = {"symbol": json.dumps(row["symbol"]), "companyName": name}
        if wheel is not None:
            self._widen(wheel)
        for (symbol, day), fields in (overrides or {}).items():
            for name, token in fields.items():
                self.override(symbol, day, name, token)
        self.last_day = date.fromisoformat(
            max(
                (max(rows) for path in (RAW, ADJUSTED, LIGHT) for rows in self._tables[path].values()),
                default="1970-01-01",
            )
        )

    def override(self, symbol: str, day: str, name: str, token: str) -> None:
        """Replace a token from now on; ValueError says what there is if no record of that symbol and day has the field."""
        found = False
        if not symbol:
            self._read_rates()
        for path, table in self._tables.items():
            shard, key = ("", symbol) if path == LISTED else (symbol, day)
            stored = ADJ.get(name, name) if path == RAW else name
            row = table.get(shard, {}).get(key)
            if row is None or (path == LISTED) != (day == "") or (path == ADJUSTED and name in ADJ):
                continue
            if path == RAW and name.startswith("adj"):
                continue
            if stored in row or (path == RAW and name == "*"):
                row[stored] = token
                self._texts.pop((path, shard), None)
                found = True
        if not found:
            raise ValueError(self._lack(symbol, day, name))

    def split(self, symbol: str, day: str, numerator: int, denominator: int) -> None:
        """Announce a split: a new row of `splits`, and every adjusted price before it is rewritten."""
        ratio = Decimal(denominator) / Decimal(numerator)
        for path, names in ((ADJUSTED, tuple(ADJ.values())), ("dividends", ("adjDividend",))):
            for key, row in self._tables[path].get(symbol, {}).items():
                if key < day:
                    row.update({name: _times(row[name], ratio) for name in names if row[name] != "null"})
            self._texts.pop((path, symbol), None)
        self._put_split(symbol, day, str(numerator), str(denominator))
        self._texts.pop(("splits", symbol), None)

    def rows(self, path: str, symbol: str) -> list[tuple[str, str]]:
        """(date, JSON text) of each record, newest first; nothing for a symbol the vendor does not know."""
        if (path, symbol) not in self._texts:
            if path == RATES:
                self._read_rates()
            rows = self._tables[path].get(symbol, {})
            order = list(rows) if path == LISTED else sorted(rows, reverse=True)
            self._texts[path, symbol] = [(key, _text(rows[key])) for key in order]
        return self._texts[path, symbol]

    def _lack(self, symbol: str, day: str, name: str) -> str:
        """Why there is nothing to override, and what there is instead."""
        where = f"no record of {symbol} on {day or 'the stock list'}"
        dated = {path: table.get(symbol, {}) for path, table in self._tables.items() if path != LISTED}
        days = sorted({one for found in dated.values() for one in found})
        if day == "":
            rows = {LISTED: self._tables[LISTED].get("", {}).get(symbol, {})}
        elif not days:
            return f"no record of {symbol}: there are {', '.join(sorted(self._tables[RAW]))}"
        else:
            rows = {path: found[day] for path, found in dated.items() if day in found}
        if any(rows.values()):
            plain = {stored: name for name, stored in ADJ.items()}
            names = {plain.get(one, one) if path == RAW else one for path, row in rows.items() for one in row}
            return f"{where} has a field {name}: there are {', '.join(sorted(names))}"
        return f"{where}: days are {days[0]} to {days[-1]}{_nearest(day, days)}" if day else where

    def _read_rates(self) -> None:
        """The Treasury's rates, once somebody asks for them."""
        table = self._tables[RATES]
        for row in _read(self._folder / "treasury_rates.csv.gz") if not table else ():
            day = row.pop("date")
            rates = {name: value or "null" for name, value in row.items()}
            table.setdefault("", {})[day] = {"date": json.dumps(day), **rates}

    def _widen(self, wheel: Path) -> None:
        known = set(self._tables[ADJUSTED])
        for symbol, day, close in wide.closes(wheel):
            if symbol not in known:
                told = dict.fromkeys(ADJ.values(), "null") | {"adjClose": close, "volume": "null"}
                self._put(ADJUSTED, symbol, day, told)
        for day, close in wide.index(wheel):
            self._put(LIGHT, wide.INDEX, day, {"price": close, "volume": "null"})

    def _put(self, path: str, symbol: str, day: str, fields: Row) -> None:
        row = {"symbol": json.dumps(symbol), "date": json.dumps(day), **fields}
        self._tables[path].setdefault(symbol, {})[day] = row

    def _put_split(self, symbol: str, day: str, numerator: str, denominator: str) -> None:
        fields = {"numerator": numerator, "denominator": denominator, "splitType": "null"}
        self._put("splits", symbol, day, fields)


def document(rows: list[str]) -> bytes:
    """The answer's body: a pretty-printed JSON array."""
    text = "[\n" + ",\n".join(rows) + "\n]" if rows else "[]"
    return text.encode("utf-8", "surrogateescape")


def _nearest(day: str, days: list[str]) -> str:
    try:
        asked = date.fromisoformat(day)
    except ValueError:
        return ", as YYYY-MM-DD"
    return f"; the nearest is {min(days, key=lambda one: abs(date.fromisoformat(one) - asked))}"


def _read(path: Path) -> list[Row]:
    stored = path.read_bytes()
    text = (gzip.decompress(stored) if path.suffix == ".gz" else stored).decode()
    return list(csv.DictReader(text.splitlines()))


def _adjusted(row: Row) -> Row:
    """The source's own adjusted close, and the other prices scaled as it is scaled."""
    factor = Decimal(row["adj_close"]) / Decimal(row["close"])
    return {ADJ[name]: row["adj_close"] if row[name] == row["close"] else _times(row[name], factor) for name in ADJ}


def _dividend(paid: str) -> Row:
    """What the public records do not say is empty, as the vendor leaves it."""
    unknown = dict.fromkeys(("recordDate", "paymentDate", "declarationDate"), '""')
    return {**unknown, "adjDividend": paid, "dividend": paid, "yield": "null", "frequency": '""'}


def _times(token: str, ratio: Decimal) -> str:
    """The product with at most 15 decimals, the most that the source itself has."""
    return format((Decimal(token) * ratio).quantize(Decimal("1e-15")).normalize(), "f")


def _text(row: Row) -> str:
    if "*" in row:
        return "  " + row["*"]
    return "  {\n" + ",\n".join(f'    "{name}": {token}' for name, token in row.items()) + "\n  }"
