"""CSV files become records cell by cell, or an error that names file and line; nothing leaves the directory."""

import asyncio
import csv
import hashlib
import io
import json
import os
import re
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import igzip

from assay import run
from assay.errors import ContractError, SettingsError, SourceBusy, SourceRefused, SourceSuspect
from assay.lake import bronze
from assay.land import source as sources
from assay.land.source import Ask, Page, SourceSettings
from assay.land.sources import files, fmp
from assay.windows import Window
from tests.conftest import ROOT


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
    return [json.loads(one) for one in files._records(data, files.Options("x.csv", **options), "x.csv", fields)]  # type: ignore[arg-type]


def test_a_row_is_an_object_of_texts_under_the_headers_names(tmp_path: Path) -> None:
    body = 'id, amount,note\r\nT-1,1.50,"a ""quoted"", word\nof two lines"\n\nT-2,,\nT-3,7\n'
    (tmp_path / "a.csv").write_text(body, newline="")
    [page] = pages(tmp_path)
    assert page.records == [
        b'{"id":"T-1","amount":"1.50","note":"a \\"quoted\\", word\\nof two lines"}',
        b'{"id":"T-2","amount":"","note":""}',
        b'{"id":"T-3","amount":"7","note":null}',
    ]
    assert (page.raw, page.kind) == (body.encode(), "csv")
    asked = page.request
    assert (asked.url, asked.params, asked.status, asked.rows, asked.span) == ("a.csv", {}, 200, 3, None)
    assert (asked.bytes, asked.sha256) == (len(body), hashlib.sha256(body.encode()).hexdigest())


def test_a_glob_gives_a_page_a_file_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "c.txt", "2024/x.csv", "2024/deep/y.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"id\n{name}\n")
    (tmp_path / "directory.csv").mkdir()
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
        rows(body)


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
    root = run.init(tmp_path / "lake", ROOT / "lakes/csv")
    contract = root / "contracts/trades.yaml"
    text = contract.read_text().replace("trades.csv", '"*.csv"')
    fee = "      - {name: fee, logicalType: number, physicalType: 'decimal(18,6)', classification: internal, customProperties: [{property: from, value: Fee}]}\n"
    contract.write_text(text.replace("    quality:\n", f"{fee}    quality:\n", 1))
    (root / "files/u.csv").write_text("trade_id,date,symbol,quantity,price,Fee\nU,2024-05-01,IBM,1,2,3\n")

    def applied() -> run.Applied:
        lake = run.open(root)
        try:
            return run.apply(lake, run.plan(lake, ["trades"]))
        finally:
            lake.close()

    [error] = applied().errors
    assert isinstance(error, SourceSuspect)
    assert str(error).startswith("trades.csv:1: the header has no 'Fee', which the contract reads")
    contract.write_text(contract.read_text().replace('{path: "*.csv"}', '{path: "*.csv", may_lack: [Fee]}'))
    done = applied()
    assert not done.errors
    lake = run.open(root)
    try:
        assert run.status(lake)["datasets"]["trades"]["accepted"] == 11
    finally:
        lake.close()


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


class _Grows(type(Path())):  # type: ignore[misc]
    """A path whose file gets one more row while it is read."""

    def read_bytes(self) -> bytes:
        with Path(self).open("ab") as handle:
            handle.write(b"2\n")
        return super().read_bytes()

    def resolve(self, strict: bool = False) -> Path:  # noqa: ARG002 - the library asks for it
        return self


def test_a_file_that_is_being_written_is_asked_for_later(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n")
    with pytest.raises(SourceBusy, match="being written"):
        files._read(_Grows(tmp_path / "a.csv"), tmp_path, "a.csv")


def test_the_landed_file_is_kept_as_it_came_and_a_broken_one_leaves_nothing(tmp_path: Path) -> None:
    root = run.init(tmp_path / "lake", ROOT / "lakes/csv")
    path = root / "files/trades.csv"
    good = path.read_bytes()
    lake = run.open(root)
    try:
        path.write_bytes(good + b'T-0011,2024-03-01,IBM,"1')
        done = run.apply(lake, [s for s in run.plan(lake) if s.kind == "land"])
        assert "trades.csv:12: a quote is opened" in str(done.errors[0])
        assert not list(bronze.manifests(lake.target.files, "trades"))
        path.write_bytes(good)
        done = run.apply(lake, [s for s in run.plan(lake) if s.kind == "land"])
        assert not done.errors
        [manifest] = bronze.manifests(lake.target.files, "trades")
        [raw] = manifest.raw
        assert igzip.decompress(lake.target.files.read(raw.path)) == good
        assert (manifest.rows, raw.sha256) == (10, hashlib.sha256(good).hexdigest())
    finally:
        lake.close()
