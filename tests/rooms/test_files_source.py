"""CSV files become records cell by cell, or an error that names file and line; nothing leaves the directory."""

import asyncio
import csv
import hashlib
import io
import json
import os
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import igzip

from assay import run
from assay.errors import ContractError, SettingsError, SourceBusy, SourceRefused, SourceSuspect
from assay.lake import bronze
from assay.land import source as sources
from assay.land.source import Ask, Page, SourceSettings
from assay.land.sources import files
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


def rows(data: bytes, **options: object) -> list[object]:
    """The records of one file's bytes."""
    return [json.loads(one) for one in files._records(data, files.Options("x.csv", **options), "x.csv")]  # type: ignore[arg-type]


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
        (b"id,name\n1,a\n2,b,c\n", r"x\.csv:3: 3 cells, but the first line names 2 columns"),
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


def test_half_a_character_is_suspect() -> None:
    with pytest.raises(SourceSuspect, match=r"x\.csv:2: half a character"):
        rows(b"id\n+2D0-\n", encoding="utf-7")


@pytest.mark.parametrize("path", ["../*.csv", "a/../../*.csv", "/etc/passwd", ""])
def test_a_path_out_of_the_directory_is_the_contracts_error(tmp_path: Path, path: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.csv").write_text("id\n1\n")
    with pytest.raises(ContractError, match="trades: path"):
        pages(tmp_path / "in", path=path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"delimiter": ",,"}, "delimiter must be one character"),
        ({"delimiter": '"'}, "delimiter must be one character"),
        ({"encoding": "latin-99"}, "encoding 'latin-99'"),
        ({"encoding": "hex"}, "encoding 'hex'"),
        ({"glob": "*"}, "source options.*glob"),
        ({"path": 7}, "source options.*path"),
        ({"shard": "AAPL"}, "no universe"),
        ({"window": Window(date(2024, 1, 1), date(2024, 2, 1))}, "no universe, window or start"),
    ],
)
def test_options_that_mean_nothing_here_are_refused(tmp_path: Path, options: dict[str, object], words: str) -> None:
    (tmp_path / "a.csv").write_text("id\n")
    with pytest.raises(ContractError, match=words):
        pages(tmp_path, **options)  # type: ignore[arg-type]


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
