"""Makes the sandbox's records from the three public files they come from.

    python -m assay_sandbox.derive stocks.csv.gz company_tickers.parquet treasury_curves.csv src/assay_sandbox/records

Prices and companies are quoted as they stand. Splits and dividends are read back out of the adjusted close:
where `adj_close / close` steps from one trading day to the next, a corporate action went ex on the later day.
"""

import csv
import gzip
import io
import sys
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path

PRICES = ("symbol", "date", "open", "high", "low", "close", "volume", "adj_close")
SPLITS = ("symbol", "date", "numerator", "denominator")
DIVIDENDS = ("symbol", "date", "dividend")
CURVE = (
    "month1", "month2", "month3", "month6", "year1", "year2", "year3", "year5", "year7", "year10", "year20", "year30",
)  # fmt: skip
NOISE = Decimal("1e-6")  # the source rounds its adjusted close; the smallest true step is a thousand times this


def actions(prices: Iterable[Mapping[str, str]]) -> Iterator[tuple[str, str, str, Decimal]]:
    """Splits and dividends behind daily prices (by symbol, oldest first): (kind, symbol, ex-date, value).

    A split's value is the ratio of new to old shares, a dividend's the cash per share. The source adjusts for
    a dividend D by the factor (close + D) / close of the ex-day, so D = close * (step - 1), which lands on
    whole cents for every row; a step that is itself a whole number from 2 up is a split.
    """
    before: Mapping[str, str] = {}
    for row in prices:
        if row["symbol"] == before.get("symbol"):
            close = Decimal(row["close"])
            step = Decimal(row["adj_close"]) / close / (Decimal(before["adj_close"]) / Decimal(before["close"]))
            if abs(step - round(step)) < NOISE and round(step) > 1:
                yield "split", row["symbol"], row["date"], Decimal(round(step))
            elif abs(step - 1) > NOISE:
                yield "dividend", row["symbol"], row["date"], (close * (step - 1)).quantize(Decimal("0.01"))
        before = row


def write(path: Path, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV with a header; a name that ends in .gz is compressed, the same bytes each time."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(columns)
    out.writerows(rows)
    plain = text.getvalue().encode()
    path.write_bytes(gzip.compress(plain, 9, mtime=0) if path.suffix == ".gz" else plain)


def rates(row: Mapping[str, str]) -> dict[str, str]:
    """A day's rates in percent, from fractions of one; a maturity that the Treasury did not give is empty."""
    given = {f"{name.lstrip('0123456789')}{name.rstrip('monthyear')}": value for name, value in row.items()}
    return {name: format((Decimal(given[name]) * 100).normalize(), "f") if given.get(name) else "" for name in CURVE}


def main(stocks: str, companies: str, curves: str, folder: str) -> None:
    """Read the three public files, write the five record files into `folder`."""
    import pyarrow.parquet as pq

    out = Path(folder)
    with gzip.open(stocks, "rt", encoding="utf-8", newline="") as file:
        source = {"symbol": "Ticker", "adj_close": "Adj Close"}
        prices = [{name: row[source.get(name, name.title())] for name in PRICES} for row in csv.DictReader(file)]
    found = list(actions(prices))
    write(out / "prices.csv.gz", PRICES, (row.values() for row in prices))
    write(out / "splits.csv", SPLITS, ((s, d, value, 1) for kind, s, d, value in found if kind == "split"))
    write(out / "dividends.csv", DIVIDENDS, ((s, d, value) for kind, s, d, value in found if kind == "dividend"))
    with Path(curves).open(encoding="utf-8", newline="") as file:
        curve = [(row["Time Period"][:10], *rates(row).values()) for row in csv.DictReader(file)]
    write(out / "treasury_rates.csv.gz", ("date", *CURVE), curve)
    table = pq.read_table(companies, columns=["ticker", "name"]).to_pylist()
    write(out / "symbols.csv.gz", ("symbol", "companyName"), ((row["ticker"], row["name"]) for row in table))


if __name__ == "__main__":
    main(*sys.argv[1:])
