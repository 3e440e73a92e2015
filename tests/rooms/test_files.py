"""Objects are written once, whole, and never outside the lake."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import LakeBusy, SettingsError
from assay.lake import bronze
from assay.lake.files import Files, safe
from tests.making import Made, every_type, record


def test_of_many_writers_one_wins_and_nobody_sees_a_part(tmp_path: Path) -> None:
    files = Files(tmp_path)
    contents = [bytes([i]) * 100_000 for i in range(16)]
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda data: files.put_new("a/b/c", data, "land.part"), contents))
    assert sum(won) == 1
    assert files.read("a/b/c") == contents[won.index(True)]
    assert list(files.names("_tmp")) == []


def test_processes_race_for_one_name(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from assay.lake.files import Files\n"
        f"print(Files(Path({str(tmp_path)!r})).put_new('x', sys.argv[1].encode(), 'land.part'))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(i)], stdout=subprocess.PIPE, text=True) for i in range(4)
    ]
    said = [p.communicate(timeout=300)[0].strip() for p in processes]
    assert sorted(said) == ["False", "False", "False", "True"]
    assert Files(tmp_path).read("x") == str(said.index("True")).encode()


@given(st.text(min_size=1, max_size=40))
def test_foreign_text_stays_one_path_segment(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    name = safe(text)
    assert "/" not in name
    assert name.strip(".")
    assert "\0" not in name


def test_symbols_become_paths_that_stay_inside(made: Made) -> None:
    contract = every_type()
    for shard in ("../../etc", "BRK/B", "..", "a\nb", "é", "%2e%2e"):
        manifest = made.land(contract, [record()], shard=shard)
        path = made.files.path(manifest.name).resolve()
        assert path.is_relative_to((made.root / "bronze/things/_manifests").resolve())
        assert bronze.read_manifest(made.files, manifest.name).shard == shard


def test_a_late_twin_loses_and_its_parts_do_not_exist(made: Made) -> None:
    contract = every_type()
    claim = {
        "source": "fmp",
        "connector": "1",
        "origin": "synthetic",
        "capture_fingerprint": "c",
        "contract_sha256": "s",
    }
    from datetime import date

    from assay import clock
    from assay.windows import Window

    asked = {"url": "u", "params": {}, "at": clock.now(), "status": 200, "bytes": 1, "sha256": "0", "rows": 1}
    window = Window(date(2024, 1, 1), date(2024, 1, 2))
    late, quick = (bronze.Writer(made.files, run, contract.dataset, "all", window, claim) for run in ("late", "quick"))
    for writer in (late, quick):
        writer.page(asked, [record()])
    won = quick.commit()
    with pytest.raises(LakeBusy, match="was written by another run meanwhile"):
        late.commit()
    assert [m.batch for m in bronze.manifests(made.files, contract.dataset)] == [won.batch]
    again = bronze.Writer(made.files, "again", contract.dataset, "all", window, claim)
    assert again.generation == 2


def test_a_read_only_lake_says_who_must_act(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        target = Files(Path("/proc/assay"))
    else:
        tmp_path.chmod(0o500)
        target = Files(tmp_path)
    with pytest.raises((SettingsError, FileNotFoundError)):
        target.put_new("a", b"x", "land.part")


def test_parts_are_cut_by_size_and_keep_every_line(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = every_type()
    monkeypatch.setattr(bronze, "PART_BYTES", 3000)
    records = [record(id=f'"{i}"', note='"' + "x" * (i * 17 % 700) + '"') for i in range(60)]
    manifest = made.land(contract, records)
    assert len(manifest.parts) > 5
    bronze.check(made.files, manifest, whole=True)
    assert all(p.bytes <= 3000 for p in manifest.parts)
    for seq, one in enumerate(records):
        assert bronze.line(made.files, manifest, seq)[2].split(b'"_record":', 1)[1] == one + b"}"
    done = made.refine(contract, [manifest])
    assert done.evidence
    assert done.evidence.verdicts[0].accepted == 60


def test_processes_open_a_new_lake_at_once(tmp_path: Path) -> None:
    code = (
        "import os, time; from pathlib import Path; from assay.lake.tables import open_catalog\n"
        f"root = Path({str(tmp_path)!r})\n"
        "(root / f'{os.getpid()}.ready').touch()\n"
        "while not (root / 'go').exists(): time.sleep(0.001)\n"
        "print(open_catalog(root / 'lake').list_namespaces())"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(6)]
    try:
        while len(list(tmp_path.glob("*.ready"))) < 6:
            assert all(p.poll() is None for p in processes)
            time.sleep(0.01)
        (tmp_path / "go").touch()
        assert [p.communicate(timeout=300)[0].strip() for p in processes] == ["[]"] * 6
    finally:
        for one in processes:
            with one:  # its pipes too: left open, they would fail another test
                one.kill()
