"""A lake's own source is a file of that lake: no other lake gets it, and a changed file is another source."""

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest
from isal import igzip

from assay.errors import ContractError, SourceBusy
from assay.land import source as sources
from assay.land.source import Original, sha256_of
from assay.plan import Land
from assay.run import lake as lakes
from tests.conftest import ROOT
from tests.kept import begun

SOURCE = """
from contextlib import asynccontextmanager
from assay.land.source import Page, Request, Source, sha256_of
from assay.clock import now

@asynccontextmanager
async def connect(secrets, settings):
    yield None

async def fetch(ask, remote):
    row = b'{"trade_id":"NAME","date":"2024-01-03","symbol":"IBM","quantity":"1","price":"2"}'
    yield Page(Request("x", {}, now(), 200, len(row), sha256_of([row]), 1), [row])

source = Source(connect, fetch, "NAME")
"""


def own(root: Path, name: str, text: str = SOURCE) -> Path:
    """`sources/my.py` of a lake."""
    path = root / "sources/my.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace("NAME", name))
    return path


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_two_lakes_in_one_process_land_each_their_own_records(tmp_path: Path) -> None:
    for name in ("ONE", "TWO"):
        root = begun(tmp_path / name, "csv")
        own(root, name)
        for path, old, new in (
            (root / "contracts/trades.yaml", "value: files", "value: sources.my"),
            (root / "assay.toml", "[source.files]", '[source."sources.my"]'),
        ):
            path.write_text(path.read_text().replace(old, new).replace("{path: trades.csv}", "{}"))
        before = list(sys.path)
        with lakes.open(root) as lake:
            done = lake.apply([step for step in lake.plan() if isinstance(step, Land)])
            assert not done.errors
            [part] = root.glob("data/dev/bronze/trades/**/*.ndjson.gz")
            line = json.loads(igzip.decompress(part.read_bytes()))
            assert line["_record"]["trade_id"] == name
            assert sys.path == before
    first, second = (sources.load("sources.my", tmp_path / name) for name in ("ONE", "TWO"))
    assert (first.version, second.version) == ("ONE", "TWO")
    assert "sources" not in sys.modules


def test_the_code_of_a_source_is_the_hash_of_its_file(tmp_path: Path) -> None:
    path = own(tmp_path, "a")
    assert sources.load("sources.my", tmp_path).code == sha256(path.read_bytes())
    file = ROOT / "src/assay/land/sources/files.py"
    assert sources.load("files").code == sha256(file.read_bytes())


def test_an_unchanged_file_is_the_same_source_and_a_changed_one_another(tmp_path: Path) -> None:
    path = own(tmp_path, "1")
    first = sources.load("sources.my", tmp_path)
    os.utime(path, (1, 1))
    assert sources.load("sources.my", tmp_path) is first
    for name in ("2", "3", "1"):  # as long, and at the same second: only its bytes tell
        own(tmp_path, name)
        os.utime(path, (1, 1))
        again = sources.load("sources.my", tmp_path)
        assert (again.version, again.code) == (name, sha256(path.read_bytes()))
    assert again.code == first.code
    assert not list(tmp_path.rglob("__pycache__"))


def test_neighbours_are_imported_relatively_and_belong_to_the_code(tmp_path: Path) -> None:
    text = SOURCE.replace('"NAME")', "helper.NAME + deep.DEPTH)") + "\nfrom . import helper\nfrom .more import deep\n"
    text = "from . import helper\nfrom .more import deep\n" + text
    path = own(tmp_path, "NAME", text)
    (tmp_path / "sources/helper.py").write_text("NAME = 'h1'")
    (tmp_path / "sources/more").mkdir()
    deep = tmp_path / "sources/more/deep.py"
    deep.write_text("from ..helper import NAME\nDEPTH = f'+{NAME}'")
    (tmp_path / "sources/unused.py").write_text("raise SystemExit")
    first = sources.load("sources.my", tmp_path)
    assert first.version == "h1+h1"
    files = ("sources/helper.py", "sources/more/deep.py", "sources/my.py")
    listed = sorted(f"{sha256((tmp_path / one).read_bytes())}  {one}\n" for one in files)
    assert first.code == sha256("".join(listed).encode())
    (tmp_path / "sources/helper.py").write_text("NAME = 'h2'")
    again = sources.load("sources.my", tmp_path)
    assert again.version == "h2+h2"
    assert again.code != first.code
    deep.unlink()
    with pytest.raises(ContractError, match=r"no source 'sources\.my'"):
        sources.load("sources.my", tmp_path)
    assert path.is_file()


def test_a_package_is_a_source_too_and_an_installed_one_where_the_lake_has_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "lake/sources/my/__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text("from .parts import source\n")
    (package.parent / "parts.py").write_text(SOURCE.replace("NAME", "package"))
    assert sources.load("sources.my", tmp_path / "lake").version == "package"
    installed = tmp_path / "site/assay_test_installed/api.py"
    installed.parent.mkdir(parents=True)
    installed.write_text(SOURCE.replace("NAME", "installed"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    found = sources.load("assay_test_installed.api", tmp_path / "lake")
    assert (found.version, found.code) == ("installed", sha256(installed.read_bytes()))
    own(tmp_path / "lake", "file", SOURCE)
    (tmp_path / "lake/assay_test_installed").mkdir()
    (tmp_path / "lake/assay_test_installed/api.py").write_text(SOURCE.replace("NAME", "own"))
    assert sources.load("assay_test_installed.api", tmp_path / "lake").version == "own"
    assert sources.load("assay_test_installed.api").version == "installed"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"sources\.my must be importable and hold `source`"),
        ("source = 7", r"^sources\.my\.source is a int, not an assay\.land\.source\.Source$"),
        ("import nothing_of_that_name", "No module named 'nothing_of_that_name'"),
        ("def broken(:", "SyntaxError: "),
        ("raise ValueError('odd')", "ValueError: odd"),
        ("from . import nobody", "nobody"),
    ],
)
def test_a_file_that_gives_no_source_is_the_contracts_error(tmp_path: Path, text: str, words: str) -> None:
    own(tmp_path, "x", text)
    with pytest.raises(ContractError, match=words):
        sources.load("sources.my", tmp_path)
    own(tmp_path, "mended")
    assert sources.load("sources.my", tmp_path).version == "mended"


@pytest.mark.parametrize("name", ["sources.other", "nosuch", "..up", "a..b", "a.b/c", "sources.my."])
def test_a_name_that_leads_to_no_file_is_the_contracts_error(tmp_path: Path, name: str) -> None:
    own(tmp_path, "x")
    with pytest.raises(ContractError, match="no source"):
        sources.load(name, tmp_path)


def test_importing_a_lakes_neighbour_by_its_plain_name_finds_no_other_lakes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        own(tmp_path / name, name, "import sources.helper\n" + SOURCE)
        (tmp_path / name / "sources/helper.py").write_text("")
        with pytest.raises(ContractError, match="No module named 'sources'"):
            sources.load("sources.my", tmp_path / name)


def test_an_original_is_given_whole_or_is_busy(tmp_path: Path) -> None:
    path, data = tmp_path / "a.csv", os.urandom(3 * 2**20)
    path.write_bytes(data)
    kept = Original(path, len(data), sha256(data))
    assert b"".join(kept.chunks()) == data
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(SourceBusy, match=r"a\.csv is being written"):
        list(kept.chunks())
    path.unlink()
    with pytest.raises(SourceBusy, match=r"a\.csv went away"):
        list(kept.chunks())


def test_the_hash_of_an_answer_is_that_of_its_records_as_a_list() -> None:
    assert sha256_of([b"1", b"{}"]) == sha256(b"[1,{}]")
    assert sha256_of([]) == sha256(b"[]")
