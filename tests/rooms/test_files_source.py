"""CSV files become records cell by cell, or an error that names file and line; nothing leaves the directory."""

import asyncio
import csv
import dataclasses
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import igzip

from assay.errors import ContractError, SettingsError, SourceBusy, SourceRefused, SourceSuspect
from assay.lake import bronze
from assay.land import source as sources
from assay.land.source import Ask, Content, Original, Page, SourceSettings
from assay.land.sources import files, fmp
from assay.plan import Land
from assay.run import Lake
from assay.run import lake as lakes
from assay.run.loop import Applied
from assay.windows import Window
from tests.conftest import ROOT
from tests.kept import begun


def pages(directory: Path, shard: str = "all", window: Window | None = None, **options: object) -> list[Page]:
    """All pages of one ask."""
    found = sources.load("files")
    ask = Ask("trades", {"path": "*.csv"} | options, shard, window)

    async def work() -> list[Page]:
        async with found.connect(None, SourceSettings(f"file:{directory}", "synthetic")) as remote:  # type: ignore[arg-type]
            return [page async for page in found.fetch(ask, remote)]

    return asyncio.run(work())


def rows(data: bytes, *fields: str, **options: object) -> list[object]:
    """The records of one file's bytes, for a contract that reads some fields."""
    return rows_of([data], *fields, **options)


def rows_of(chunks: list[bytes], *fields: str, **options: object) -> list[object]:
    """The same of its chunks as they are read."""
    said = files.Options("x.csv", **options)  # type: ignore[arg-type]
    return [json.loads(one) for one in files._records(iter(chunks), said, "x.csv", fields)]


def test_a_row_is_an_object_of_texts_under_the_headers_names(tmp_path: Path) -> None:
    body = 'id, amount,note\r\nT-1,1.50,"a ""quoted"", word\nof two lines"\n\nT-2,,\nT-3,7\n'
    (tmp_path / "a.csv").write_text(body, newline="")
    [page] = pages(tmp_path)
    assert page.records == [
        b'{"id":"T-1","amount":"1.50","note":"a \\"quoted\\", word\\nof two lines"}',
        b'{"id":"T-2","amount":"","note":""}',
        b'{"id":"T-3","amount":"7","note":null}',
    ]
    assert isinstance(page.raw, Original)
    assert (b"".join(page.raw.chunks()), page.kind) == (body.encode(), "csv")
    assert (page.raw.size, page.raw.sha256) == (len(body), hashlib.sha256(body.encode()).hexdigest())
    asked = page.request
    assert (asked.url, asked.params, asked.status, asked.rows, asked.span) == ("a.csv", {}, 200, 3, None)
    assert (asked.bytes, asked.sha256) == (len(body), sources.sha256_of(page.records))


def test_a_glob_gives_a_page_a_file_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "c.txt", "2024/x.csv", "2024/deep/y.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"id\n{name}\n")
    assert [page.request.url for page in pages(tmp_path)] == ["a.csv", "b.csv"]
    assert [page.request.url for page in pages(tmp_path, path="**/*.csv")] == [
        "2024/deep/y.csv",
        "2024/x.csv",
        "a.csv",
        "b.csv",
    ]
    assert [page.request.url for page in pages(tmp_path, path="2024/*.csv")] == ["2024/x.csv"]


cells = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=8)
names = st.lists(
    cells.map(str.strip).filter(bool).filter(lambda name: "\ufeff" not in name), min_size=2, max_size=5, unique=True
)


@settings(max_examples=200, deadline=None)
@given(names, st.data())
def test_what_csv_writes_comes_back(header: list[str], data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.lists(cells, min_size=len(header), max_size=len(header)), max_size=4))
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([header, *wanted])
    assert rows(out.getvalue().encode()) == [dict(zip(header, one, strict=True)) for one in wanted]


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ("\ufeffid,name\n1,é\n".encode(), {}),
        ("id;name\n1;é\n".encode("cp1252"), {"delimiter": ";", "encoding": "cp1252"}),
        ("id\tname\r1\té".encode("utf-16"), {"delimiter": "\t", "encoding": "utf-16"}),
        (" id , name \n1,é".encode(), {}),
    ],
)
def test_the_ways_programs_write_csv(body: bytes, options: dict[str, str]) -> None:
    assert rows(body, **options) == [{"id": "1", "name": "é"}]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_lone_carriage_return_cuts_no_row_in_two(end: str) -> None:
    body = end.join(["id,name", "1,a\rb", "2,c", ""]).encode()
    with pytest.raises(
        SourceSuspect, match=r"x\.csv:2: the row ends with a lone carriage return \(CR\), the header with LF"
    ):
        rows(body)
    assert rows(body.replace(b"a\rb", b'"a\rb"')) == [{"id": "1", "name": "a\rb"}, {"id": "2", "name": "c"}]
    old = b"id,name\r1,a\r2,b"
    assert rows(old) == [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}]
    with pytest.raises(
        SourceSuspect, match=r"x\.csv:2: the row ends with a line feed \(LF\), the header with CR alone"
    ):
        rows(old.replace(b"a\r", b"a\n"))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", r"x\.csv:1: the file is empty"),
        (b"\n\n", r"x\.csv:1: the file is empty"),
        (b"id,name\n1,a\n2,b,c\n", r"x\.csv:3: 3 cells, but the header names 2 columns"),
        (b'id,name\n1,"two\nlines"\n2,b,c\n', r"x\.csv:4: 3 cells"),
        (b'id,name\n1,a\n2,"b\n3,c\n', r"x\.csv:3: a quote is opened and never closed"),
        (b'id,name\n1,"a"b\n', r"x\.csv:2: .*expected after"),
        (b"id,name\n1,caf\xe9\n", r"x\.csv:2: not utf-8; say which encoding"),
        (b"id,id\n", r"x\.csv:1: .*'id' stands there twice"),
        (b"\nid,,name\n", r"x\.csv:2: .*column 2 has no name"),
        (b"id\n" + b"y" * 200_000, r"x\.csv:2: field larger than field limit"),
    ],
)
def test_what_is_no_plain_csv_is_suspect_with_file_and_line(body: bytes, words: str) -> None:
    with pytest.raises(SourceSuspect, match=words):
        rows(body, "id")


EXPORT = (
    b'Kontoauszug;"Depot 1234\n;;;\nErstellt am;01.02.2024\n\n'
    b"Datum;Symbol;Betrag\n2024-01-03;AAPL;1.50\n2024-01-04;IBM;zwei;drei\n"
)


def test_lines_before_the_header_are_left_out_if_the_contract_says_how_many() -> None:
    said = {"delimiter": ";", "skip_lines": 4}
    good = EXPORT.rpartition(b"2024")[0]
    assert rows(good, "Symbol", **said) == [{"Datum": "2024-01-03", "Symbol": "AAPL", "Betrag": "1.50"}]
    assert rows(b"\xef\xbb\xbftitle\r\nid\r\n1\r\n", skip_lines=1) == [{"id": "1"}]
    with pytest.raises(SourceSuspect, match=r"x\.csv:7: 4 cells, but the header names 3 columns"):
        rows(EXPORT, **said)
    with pytest.raises(SourceSuspect, match=r"x\.csv:6: nothing follows the 5 lines of `skip_lines`"):
        rows(b"id\n1\n", skip_lines=5)


def test_a_header_that_comes_later_is_found_and_told() -> None:
    said = {"delimiter": ";", "may_lack": ["Kosten"]}
    for export in (EXPORT.replace(b'"', b""), EXPORT.replace(b'"', b"").replace(b"Kontoauszug;", b"Datum;;")):
        with pytest.raises(SourceSuspect, match=r"x\.csv:1: .*line 5 .*: say `skip_lines: 4`$"):
            rows(export, "Datum", "Symbol", "Kosten", **said)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("price", r"x\.csv:1: the header has no 'price' \(did you mean 'Price'\?\), which the contract reads"),
        (" Symbol ", r"the header has no ' Symbol ' \(did you mean 'Symbol'\?\)"),
        ("fee", r"no 'fee', which the contract reads; it names Symbol, Price\. .*`may_lack: \[fee\]`"),
    ],
)
def test_a_column_the_contract_reads_and_the_header_lacks_is_suspect(field: str, words: str) -> None:
    body = b" Symbol ,Price\nIBM,1\n"
    with pytest.raises(SourceSuspect, match=words):
        rows(body, "Symbol", field)
    assert rows(body, "Symbol", field, may_lack=(field,)) == rows(body, "Symbol") == [{"Symbol": "IBM", "Price": "1"}]


def test_a_delimiter_at_the_end_of_every_line_is_no_column() -> None:
    assert rows(b"id;name;\n1;a;\n2;b\n", delimiter=";") == [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}]
    with pytest.raises(SourceSuspect, match=r"x\.csv:2: 3 cells, but the header names 2 columns"):
        rows(b"id;name;\n1;a;lost\n", delimiter=";")
    with pytest.raises(SourceSuspect, match=r"x\.csv:2: 3 cells, but the header names 2 columns"):
        rows(b"id;name\n1;a;\n", delimiter=";")
    with pytest.raises(SourceSuspect, match=r"x\.csv:1: .*column 1 has no name"):
        rows(b";;\n1;a;\n", delimiter=";")


def test_all_that_a_header_lacks_is_told_at_once() -> None:
    words = r"no 'symbol' \(did you mean 'Symbol'\?\), 'fee', which the contract reads; .*`may_lack: \[symbol, fee\]`$"
    with pytest.raises(SourceSuspect, match=words):
        rows(b"Symbol,Price\nIBM,1\n", "symbol", "Price", "fee")


def test_a_glob_may_hold_older_files_without_a_column_if_the_contract_says_so(tmp_path: Path) -> None:
    root = begun(tmp_path / "lake", "csv")
    contract = root / "contracts/trades.yaml"
    text = contract.read_text().replace("trades.csv", '"*.csv"')
    fee = "      - {name: fee, logicalType: number, physicalType: 'decimal(18,6)', classification: internal, customProperties: [{property: from, value: Fee}]}\n"
    contract.write_text(text.replace("    quality:\n", f"{fee}    quality:\n", 1))
    (root / "files/u.csv").write_text("trade_id,date,symbol,quantity,price,Fee\nU,2024-05-01,IBM,1,2,3\n")

    def applied() -> Applied:
        with lakes.open(root) as lake:
            return lake.apply(lake.plan(["trades"]))

    [error] = applied().errors
    assert isinstance(error, SourceSuspect)
    assert str(error).startswith("trades.csv:1: the header has no 'Fee', which the contract reads")
    contract.write_text(contract.read_text().replace('{path: "*.csv"}', '{path: "*.csv", may_lack: [Fee]}'))
    done = applied()
    assert not done.errors
    with lakes.open(root) as lake:
        assert lake.status()["datasets"]["trades"]["accepted"] == 11


def test_half_a_character_is_suspect() -> None:
    with pytest.raises(SourceSuspect, match=r"x\.csv:2: half a character"):
        rows(b"id\n+2D0-\n", encoding="utf-7")


@pytest.mark.parametrize("path", ["../*.csv", "a/../../*.csv", "/etc/passwd", ""])
def test_a_path_out_of_the_directory_is_the_contracts_error(tmp_path: Path, path: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.csv").write_text("id\n1\n")
    with pytest.raises(ContractError, match=r"^path"):
        pages(tmp_path / "in", path=path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"delimiter": ",,"}, "delimiter must be one character"),
        ({"delimiter": '"'}, "delimiter must be one character"),
        ({"encoding": "latin-99"}, "encoding 'latin-99'"),
        ({"encoding": "hex"}, "encoding 'hex'"),
        ({"encoding": "klingon"}, "encoding 'klingon' is none that Python knows, such as utf-8, cp1252 or utf-16"),
        ({"decimal": ","}, "no option 'decimal'; it knows path, delimiter, encoding, skip_lines, may_lack"),
        ({"skip_line": 3}, r"no option 'skip_line' \(did you mean 'skip_lines'\?\)"),
        ({"skip_lines": -1}, r"skip_lines"),
        ({"may_lack": "fee"}, r"may_lack"),
        ({"path": 7}, "source options.*path"),
        ({"shard": "AAPL"}, "no universe"),
        ({"window": Window(date(2024, 1, 1), date(2024, 2, 1))}, "no universe, window or start"),
    ],
)
def test_options_that_mean_nothing_here_are_refused(tmp_path: Path, options: dict[str, object], words: str) -> None:
    (tmp_path / "a.csv").write_text("id\n")
    with pytest.raises(ContractError, match=words):
        pages(tmp_path, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", [files, fmp])
def test_every_option_has_a_row_in_the_docs(source: ModuleType) -> None:
    name = source.__name__.rpartition(".")[2]
    section = (ROOT / "docs/contract.md").read_text().split(f"\n## The {name} source\n", 1)[1].split("\n## ", 1)[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(source.Options.__struct_fields__)


@pytest.mark.parametrize("link", ["file", "directory", "loop"])
def test_a_link_that_leads_outside_is_refused_and_one_inside_is_followed(tmp_path: Path, link: str) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.csv").write_text("id\nsecret\n")
    (inside / "real.txt").write_text("id\n1\n")
    (inside / "a.csv").symlink_to(inside / "real.txt")
    assert [json.loads(r) for p in pages(inside) for r in p.records] == [{"id": "1"}]
    if link == "file":
        (inside / "b.csv").symlink_to(outside / "secret.csv")
    elif link == "directory":
        (inside / "sub").symlink_to(outside)
    else:
        (inside / "b.csv").symlink_to(inside / "b.csv")
    with pytest.raises(SourceRefused, match="link that leads") as caught:
        pages(inside, path="*/*.csv" if link == "directory" else "*.csv")
    assert "secret\n" not in str(caught.value)


def test_what_is_no_file_and_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceSuspect, match=r"no file of .* is called \*\.csv"):
        pages(tmp_path)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(SourceRefused, match=r"pipe\.csv is no file"):
        pages(tmp_path)
    with pytest.raises(SettingsError, match="must be file: and a directory that exists"):
        pages(tmp_path / "nowhere")
    (tmp_path / "pipe.csv").unlink()
    (tmp_path / "a.csv").write_text("id\n1\n")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(SourceRefused, match=r"folder\.csv is called as `path` calls files, and is a directory"):
        pages(tmp_path)
    assert len(pages(tmp_path, path="*")) == 1, "a pattern that means any name means no directory"
    (tmp_path / "folder.csv").rmdir()
    (tmp_path / "b.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(SourceRefused, match=r"b\.csv is no file that can be read"):
        pages(tmp_path)


def test_a_file_that_is_being_written_is_asked_for_later(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"

    def read(change: Callable[[], object], body: str = "id\n1\n") -> list[Page]:
        path.write_text(body)
        reading = files._Reading(path, tmp_path, "a.csv")
        chunks = reading.chunks()

        def changing() -> Iterator[bytes]:
            first = next(chunks)
            change()
            yield first
            yield from chunks

        reading.chunks = changing  # type: ignore[method-assign]
        return list(files._pages(reading, files.Options("a.csv"), "a.csv", ()))

    def grows() -> None:
        with path.open("ab") as handle:
            handle.write(b"2\n")

    def replaced() -> None:
        (tmp_path / "b").write_text("id\n2\n")
        (tmp_path / "b").rename(path)

    assert len(read(lambda: None)) == 1
    for change in (grows, replaced, lambda: path.write_text(""), lambda: os.utime(path, (1, 1))):
        with pytest.raises(SourceBusy, match="being written"):
            read(change)
    with pytest.raises(SourceBusy, match="being written"):  # and not: line 3 has too many cells
        read(grows, "id\n1\n2,3\n")
    with pytest.raises(SourceSuspect, match=r"a\.csv:3: 2 cells"):
        read(lambda: None, "id\n1\n2,3\n")
    with pytest.raises(SourceBusy, match="went away"):
        read(path.unlink)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages and chunks of a few bytes."""
    monkeypatch.setattr(files, "PAGE", 100)
    monkeypatch.setattr(files, "CHUNK", 7)


@pytest.mark.usefixtures("small")
def test_a_large_file_comes_in_pages_and_the_last_brings_the_file(tmp_path: Path) -> None:
    body = "id,note\n" + "".join(f'{n},"é{n}\n"\n' for n in range(100))
    (tmp_path / "a.csv").write_text(body)
    (tmp_path / "b.csv").write_text("id\n")
    *first, last, other = pages(tmp_path)
    records = [record for page in (*first, last) for record in page.records]
    assert [json.loads(one) for one in records] == [{"id": str(n), "note": f"é{n}\n"} for n in range(100)]
    assert len(first) > 10
    assert all(0 < sum(map(len, page.records)) <= 100 for page in (*first, last))
    assert [page.raw for page in first] == [None] * len(first)
    assert isinstance(last.raw, Original)
    assert b"".join(last.raw.chunks()) == body.encode()
    assert sum(page.request.bytes for page in (*first, last)) == last.raw.size == len(body.encode())
    assert {page.request.url for page in (*first, last)} == {"a.csv"}
    for page in (*first, last, other):
        assert page.request.rows == len(page.records)
        assert page.request.sha256 == sources.sha256_of(page.records)
    assert (other.request.url, other.records, other.request.bytes) == ("b.csv", [], 3)


def landed(lake: Lake) -> list[bronze.Batch]:
    """The batches of the trades."""
    return [batch for entry, _ in bronze.since(lake.target.files, "trades", 0) for batch in entry.batches]


def raws(batch: bronze.Batch) -> list[bronze.Raw]:
    """The files that a batch kept as they came."""
    return [asked.raw for asked in batch.requests if asked.raw]


@pytest.mark.usefixtures("small")
def test_a_large_file_lands_whole_or_not_at_all(tmp_path: Path) -> None:
    root = begun(tmp_path / "lake", "csv")
    path = root / "files/trades.csv"
    good = path.read_bytes()
    for body, count in ((good + b'T-0011,2024-03-01,IBM,"1', 0), (good, 10)):
        path.write_bytes(body)
        with lakes.open(root) as lake:
            lake.apply([s for s in lake.plan() if isinstance(s, Land)])
            found = [(one.rows, len(one.requests), len(raws(one))) for one in landed(lake)]
            assert found == ([(10, 10, 1)] if count else [])


texts = st.text(st.sampled_from('aé😀,;"\r\n\ufeff\u2028 '), max_size=30)


@settings(max_examples=400, deadline=None)
@given(texts, st.integers(1, 9), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-7", "gb18030"]))
def test_lines_do_not_depend_on_how_the_file_is_cut(text: str, size: int, encoding: str) -> None:
    data = text.encode(encoding)
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    found = list(files._lines(iter(chunks), files.Options("x.csv", encoding=encoding), "x.csv"))
    assert found == list(io.StringIO(data.decode(encoding).removeprefix("\ufeff"), newline=""))


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize(
    ("data", "encoding", "line"),
    [
        (b"id,name\n1,b\n2,caf\xe9\n3,d\n", "utf-8", 3),
        (b"\n\n1,\xe2\x82", "utf-8", 3),
        ("a\nb\nc".encode("utf-16-le") + b"\x00", "utf-16-le", 3),
        ("\n\n".encode("utf-16-le") + b"\x00\xdc", "utf-16-le", 3),
    ],
)
def test_the_line_of_what_is_no_text_does_not_depend_on_it_either(
    data: bytes, encoding: str, line: int, size: int
) -> None:
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    with pytest.raises(SourceSuspect, match=rf"x\.csv:{line}: not {encoding}"):
        list(files._lines(iter(chunks), files.Options("x.csv", encoding=encoding), "x.csv"))


def test_a_file_without_lines_is_no_csv_and_is_not_read_on(tmp_path: Path) -> None:
    read = []

    def endless() -> Iterator[bytes]:
        yield b"id\n"
        while True:
            read.append(1)
            yield b"y" * 2**20

    with pytest.raises(SourceSuspect, match=r"x\.csv:2: a line of more than 8388608 characters"):
        list(files._records(endless(), files.Options("x.csv"), "x.csv", ()))
    assert len(read) == 9


LAND = """
import asyncio, resource, sys
from pathlib import Path
from assay.land.source import Ask, Original, SourceSettings, load
async def work(directory):
    source, ask = load("files"), Ask("trades", {"path": "*.csv"}, "all", None)
    async with source.connect(None, SourceSettings(f"file:{directory}", "synthetic")) as remote:
        return [sum(map(len, page.records)) async for page in source.fetch(ask, remote)]
asyncio.run(work(sys.argv[1] + "/small"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
pages = asyncio.run(work(sys.argv[1] + "/large"))
print(len(pages), max(pages), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    rows = "".join(f"T-{n:07},2024-01-03,IBM,{n % 100},{n / 7:.4f}\n" for n in range(20_000))
    for name, times in (("small", 8), ("large", 40)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.csv").write_text("trade_id,date,symbol,quantity,price\n" + rows * times)
    done = subprocess.run([sys.executable, "-c", LAND, tmp_path], capture_output=True, text=True, check=True)
    count, largest, more = map(int, done.stdout.split())
    assert count > 5
    assert largest <= files.PAGE
    assert more < 20, f"{more} MB more for a file of 28 MB than for one of 6"


def test_the_landed_file_is_kept_as_it_came_and_a_broken_one_leaves_nothing(tmp_path: Path) -> None:
    root = begun(tmp_path / "lake", "csv")
    path = root / "files/trades.csv"
    good = path.read_bytes()
    with lakes.open(root) as lake:
        path.write_bytes(good + b'T-0011,2024-03-01,IBM,"1')
        done = lake.apply([s for s in lake.plan() if isinstance(s, Land)])
        assert "trades.csv:12: a quote is opened" in str(done.errors[0])
        assert landed(lake) == []
        path.write_bytes(good)
        done = lake.apply([s for s in lake.plan() if isinstance(s, Land)])
        assert not done.errors
        [batch] = landed(lake)
        [raw] = raws(batch)
        stored = lake.target.files.read(raw.name)
        assert igzip.decompress(stored) == good
        assert (batch.rows, raw.bytes, raw.sha256) == (10, len(good), hashlib.sha256(stored).hexdigest())


# ------------------------------------------------------------------ what changed is due at once


class Folder:
    """A lake of the files `*.csv`, applied once; the clock stays in one slot."""

    def __init__(self, root: Path) -> None:
        self.root = lakes.init(root, ROOT / "lakes/csv")
        contract = root / "contracts/trades.yaml"
        contract.write_text(contract.read_text().replace("{path: trades.csv}", '{path: "*.csv"}'))
        self.header, *self.rows = (root / "files/trades.csv").read_text().splitlines()
        self.write("b.csv", "B-1,2024-05-01,IBM,1,2", "B-2,2024-05-01,IBM,1,2")
        self.apply()

    def write(self, name: str, *rows: str) -> None:
        (self.root / "files" / name).write_text("\n".join([self.header, *rows, ""]))

    def due(self) -> list[str]:
        """Why something is to be landed."""
        with lakes.open(self.root) as lake:
            return [step.why for step in lake.plan(["trades"]) if isinstance(step, Land)]

    def apply(self) -> Applied:
        with lakes.open(self.root) as lake:
            return lake.apply(lake.plan(["trades"]))

    def ids(self) -> set[str]:
        with lakes.open(self.root) as lake:
            current = lake.target.catalog.load_table("silver.trades").scan().to_arrow()
        return {one for one in current["trade_id"].to_pylist() if not one.startswith("T-")}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "lake")


def test_a_file_that_changed_is_new_or_gone_is_due_at_once_and_once(folder: Folder) -> None:
    assert folder.due() == []
    folder.write("b.csv", "B-1,2024-05-01,IBM,1,3", "B-2,2024-05-01,IBM,1,2")
    assert folder.due() == ["b.csv changed"]
    folder.write("c.csv", "C-1,2024-05-01,IBM,1,3")
    assert folder.due() == ["b.csv changed, c.csv is new"]
    assert not folder.apply().errors
    assert (folder.due(), folder.ids()) == ([], {"B-1", "B-2", "C-1"})
    (folder.root / "files/b.csv").rename(folder.root / "files/d.csv")
    assert folder.due() == ["b.csv is gone, d.csv is new"]
    (folder.root / "files/d.csv").unlink()
    assert folder.due() == ["b.csv is gone"]
    assert not folder.apply().errors
    assert (folder.due(), folder.ids()) == ([], {"C-1"})
    assert folder.apply().landed == []


def test_a_file_is_known_by_what_it_holds_and_by_nothing_else(folder: Folder) -> None:
    path = folder.root / "files/b.csv"
    old = path.stat().st_mtime_ns
    os.utime(path, ns=(old + 10**9, old + 10**9))
    assert folder.due() == []  # touched
    text = path.read_text()
    path.write_text(text.replace("B-1", "B-9"))
    os.utime(path, ns=(old, old))
    assert folder.due() == ["b.csv changed"]  # the same size and time of change
    path.write_text(text)
    assert folder.due() == []  # put back


def test_a_file_that_stood_still_is_not_read_again(folder: Folder) -> None:
    settings = SourceSettings(f"file:{folder.root}/files", "synthetic")
    folder.write("b.csv", "B-1,2024-05-01,IBM,1,3")
    # Within a tick of the disk's clock it may be another already.
    assert files.there({"path": "b.csv"}, settings, {})["b.csv"].state == ()
    time.sleep(files.YOUNG / 1e9 + 0.1)
    assert folder.due() == folder.due() == ["b.csv changed"]
    with lakes.open(folder.root) as lake:
        facts = list(lake.target.ledger.since("file", "trades"))
    known = {f.body["name"]: Content(f.body["sha256"], tuple(f.body["state"])) for f in facts}
    assert files.there({"path": "*.csv"}, settings, known) == known
    assert all(one.state for one in known.values())
    false = {name: dataclasses.replace(one, sha256="as it was") for name, one in known.items()}
    assert files.there({"path": "*.csv"}, settings, false) == false  # nothing was read
    folder.write("b.csv", "B-2,2024-05-01,IBM,1,2", "B-1,2024-05-01,IBM,1,2")
    found = files.there({"path": "*.csv"}, settings, false)
    assert [name for name in found if found[name].sha256 == "as it was"] == ["trades.csv"]


def test_what_cannot_be_looked_at_is_due_and_landing_says_why(folder: Folder) -> None:
    for one in (folder.root / "files").glob("*.csv"):
        one.unlink()
    assert folder.due() == ["b.csv is gone, trades.csv is gone"]
    [error] = folder.apply().errors
    assert isinstance(error, SourceSuspect)
    assert folder.ids() == {"B-1", "B-2"}
    (folder.root / "files").rmdir()
    [why] = folder.due()
    assert "must be file: and a directory that exists" in why
    [error] = folder.apply().errors
    assert isinstance(error, SettingsError)


def test_a_landing_that_did_not_keep_contents_waits_for_its_slot(folder: Folder) -> None:
    with lakes.open(folder.root) as lake:
        name = bronze.name_of("trades", 2)
        entry = bronze.decode(lake.target.files.read(name))
        [batch] = entry.batches
        asked = [msgspec.structs.replace(a, raw=msgspec.structs.replace(a.raw, content="")) for a in batch.requests]
        old = msgspec.structs.replace(entry, batches=(msgspec.structs.replace(batch, requests=tuple(asked)),))
        path = Path(lake.target.files.url(name))
    path.chmod(0o600)
    path.write_bytes(bronze.encode(old))
    (folder.root / "data/dev/ledger.db").unlink()
    folder.write("b.csv", "B-1,2024-05-01,IBM,1,3")
    with lakes.open(folder.root) as lake:
        assert lake.landings("trades") == []


def test_a_name_that_is_no_text_is_refused(folder: Folder) -> None:
    (folder.root / os.fsdecode(b"files/\xff.csv")).write_text(folder.header)
    [why] = folder.due()
    assert "name that is no plain text" in why


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"PK\x03\x04\x14\x00", "a workbook or another ZIP archive, no CSV"),
        (b"\xd0\xcf\x11\xe0\xa1", "a workbook of an old Excel"),
        (b"%PDF-1.7", "a PDF"),
        (b"\x1f\x8b\x08", "a gzip file"),
        (b"PAR1\x15", "a Parquet file"),
        (b"SQLite format 3\x00", "an SQLite database"),
        (b"\xef\xbb\xbf<html>", "Is it HTML or XML, and no CSV"),
        (b' [{"ix": 1}]', "Is it JSON, and no CSV"),
        (b"\xef\xbb\xbf\xef\xbb\xbfid\n1\n", "two byte order marks"),
    ],
)
def test_a_file_that_is_no_csv_is_told_what_it_is(body: bytes, words: str) -> None:
    with pytest.raises(SourceSuspect, match=words):
        rows(body, "id")


def test_a_header_of_very_many_columns_costs_what_it_weighs() -> None:
    """Counted in calls, which no other program's load changes."""

    names, calls = [f"column_{n}" for n in range(50_000)], 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        with pytest.raises(SourceSuspect, match="the header has no 'id'"):
            rows(",".join(names).encode() + b"\n", "id")
        assert len(rows(f"{','.join(names)}\n{',' * 49_999}\n".encode())) == 1
    finally:
        sys.setprofile(None)
    assert calls < 12 * len(names)  # twenty a column where each name is looked for in all of them


@pytest.mark.parametrize("name", [b"a\xff.csv", b"a\x1b[31m.csv"])
def test_a_file_name_that_is_no_text_is_refused_and_shown_escaped(tmp_path: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text("id\n1\n")
    with pytest.raises(SourceRefused, match="rename it") as told:
        pages(tmp_path)
    assert str(told.value).isprintable()


def test_a_directory_that_may_not_be_read_is_an_error() -> None:
    """Python's glob passes over it in silence. Root becomes nobody for it, in a place that nobody reaches."""
    us = os.geteuid()
    with tempfile.TemporaryDirectory() as home:
        root = Path(home)
        root.chmod(0o755)
        for place in ("2023", "2024"):
            (root / place).mkdir(mode=0o755)
            (root / place / "a.csv").write_text("id\n1\n")
        (root / "link").symlink_to("2024")
        (root / "2024").chmod(0o000)
        try:
            if not us:
                os.seteuid(65534)
            for pattern in ("*/*.csv", "**/*.csv"):  # whichever comes first where it lies
                with pytest.raises(SourceRefused, match=r"(2024|link) may not be read"):
                    pages(root, path=pattern)
            with pytest.raises(SourceRefused, match="2024 may not be read"):
                pages(root, path="2024/*.csv")
            with pytest.raises(SourceRefused, match="link may not be read"):
                pages(root, path="*k/*.csv")
            assert len(pages(root, path="2023/*.csv")) == 1
        finally:
            os.seteuid(us)
            (root / "2024").chmod(0o755)
