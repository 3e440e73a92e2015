"""Foreign text never leaves the lake's directory, and a lake is opened by whoever comes, as often as they like."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay import targets
from assay.errors import LakeDamaged, SettingsError
from assay.lake.files import checked, safe
from assay.settings import Settings


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
    assert checked(f"bronze/{name}/x") == f"bronze/{name}/x"


@given(st.lists(st.sampled_from(["..", ".", "", "a", "..a", "_tmp", "a\0"]), min_size=1, max_size=4))
def test_a_checked_name_stays_inside(parts: list[str]) -> None:
    name = "/".join(parts)
    try:
        checked(name)
    except LakeDamaged:
        assert parts[0] == "_tmp" or set(parts) & {"..", ".", "", "a\0"}
    else:
        assert Path(os.path.normpath(f"/lake/{name}")) == Path("/lake") / name


def settings(root: Path) -> Settings:
    return Settings(root=root, name="lake", env="dev", data=root / "data" / "dev")


def test_a_target_is_opened_by_name_and_opens_its_parts_late(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no target 'moon'; there is local"):
        targets.open("moon", settings(tmp_path))
    code = (
        "import sys; from pathlib import Path; from assay import targets; from assay.settings import Settings\n"
        f"root = Path({str(tmp_path)!r})\n"
        "lake = targets.open('local', Settings(root=root, name='x', env='dev', data=root / 'data' / 'dev'))\n"
        "lake.files.put_new('a/b', b'x', 'tables.data')\n"
        "print(sorted({'pyiceberg', 'sqlalchemy', 'pyarrow'} & set(sys.modules)))\n"
        "print(lake.catalog.list_namespaces(), lake.catalog is lake.catalog)\n"
        "lake.close()"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["[]", "[] True"]
    assert (tmp_path / "data/dev").stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
def test_processes_open_a_new_lake_at_once(tmp_path: Path) -> None:
    code = (
        "import os, time; from pathlib import Path; from assay import targets; from assay.settings import Settings\n"
        f"root = Path({str(tmp_path)!r})\n"
        "(root / f'{os.getpid()}.ready').touch()\n"
        "while not (root / 'go').exists(): time.sleep(0.001)\n"
        "lake = targets.open('local', Settings(root=root, name='x', env='dev', data=root / 'data' / 'dev'))\n"
        "lake.catalog.create_namespace_if_not_exists('silver')\n"
        "print(lake.catalog.list_namespaces())"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(6)]
    try:
        while len(list(tmp_path.glob("*.ready"))) < 6:
            assert all(p.poll() is None for p in processes)
            time.sleep(0.01)
        (tmp_path / "go").touch()
        assert [p.communicate(timeout=300)[0].strip() for p in processes] == ["[('silver',)]"] * 6
    finally:
        for one in processes:
            with one:  # its pipes too: left open, they would fail another test
                one.kill()
