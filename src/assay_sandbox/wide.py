"""More companies and an index, out of a file that its user fetches: it is not ours to hand on.

`skfolio` 1.12.2 (BSD-3-Clause) ships daily adjusted closes of 20 companies and closes of the S&P 500. Its licence is
that of the package; whose numbers they are, it does not say, and it means them for tests and examples alone.
So they are read from the package's own file, as the package index serves it, and stored nowhere here.
"""

import csv
import gzip
import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path

NAME = "skfolio-1.12.2-py3-none-any.whl"
SHA256 = "2d324c62a4188dc0b62a713f8d5cea177e208a5b45987e3d3f204dd56d3a669b"
FETCH = "pip download --no-deps skfolio==1.12.2"
CLOSES = "skfolio/datasets/data/sp500_dataset.csv.gz"
INDEX_CLOSES = "skfolio/datasets/data/sp500_index.csv.gz"
INDEX = "^GSPC"


def checked(path: Path) -> Path:
    """The path, if its file is the one described here; ValueError says how to get it."""
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); get it by `{FETCH}`") from None
    if found != SHA256:
        raise ValueError(f"{path} is not {NAME} (sha256 {SHA256}); get it by `{FETCH}`")
    return path


def closes(wheel: Path) -> Iterator[tuple[str, str, str]]:
    """(symbol, date, adjusted close) as the file spells them, the newest of each symbol first."""
    for row in reversed(_rows(wheel, CLOSES)):
        day = row.pop("Date")
        yield from ((symbol, day, close) for symbol, close in row.items() if close)


def index(wheel: Path) -> Iterator[tuple[str, str]]:
    """(date, close) of the S&P 500, newest first."""
    yield from ((row["Date"], row["SP500"]) for row in reversed(_rows(wheel, INDEX_CLOSES)))


def _rows(wheel: Path, name: str) -> list[dict[str, str]]:
    with zipfile.ZipFile(wheel) as file:
        return list(csv.DictReader(gzip.decompress(file.read(name)).decode().splitlines()))
