"""Every `Files` keeps the same promises: on a disk, and on an object store at its worst."""

import errno
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from assay.errors import LakeBusy, LakeDamaged, SettingsError
from assay.lake.files import SCRATCH
from assay.ports import Files
from assay.targets.local import DiskFiles
from tests import clouds
from tests.every.stores import TRIES, Answer, StoreFiles, WorstStore

KINDS = ("disk", "store", "s3")
EFFECT = "tables.data"


def make(kind: str, root: Path, seed: int = 0) -> Files:
    if kind == "s3":
        return clouds.files(root)
    return DiskFiles(root) if kind == "disk" else StoreFiles(WorstStore(root, seed))


def calm(files: Files) -> None:
    if isinstance(files, StoreFiles):
        files.store.calm()


def leftovers(root: Path) -> list[Path]:
    return [one for one in (root / SCRATCH).rglob("*") if one.is_file() and one.parent.name != "copies"]


@pytest.fixture(params=KINDS)
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return make(request.param, tmp_path / "lake")


directories = st.sampled_from(["a", "a-b", "a.b", "ab", "A", "é", "a b", "𐍈", "[x]*", "_tmp2", "z"])
names = st.builds(
    lambda above, last: "/".join([*above, last]),
    st.lists(directories, max_size=2),
    st.sampled_from(["a.x", "a-b.x", "b.x", "é.x", "￿.x", "0.x", "a/b.x"]),
)
contents = st.sampled_from([b"", b"0", b"1", b"01", bytes(range(256)) * 9])


class Machine(RuleBasedStateMachine):
    kind = "disk"

    def __init__(self) -> None:
        super().__init__()
        self.home = tempfile.TemporaryDirectory()
        self.root = Path(self.home.name) / "lake"
        self.files = make(self.kind, self.root, seed=7)
        self.model: dict[str, bytes] = {}
        self.gone: set[str] = set()

    def teardown(self) -> None:
        self.home.cleanup()

    @rule(name=names, data=contents, by_path=st.booleans())
    def put(self, name: str, data: bytes, by_path: bool) -> None:
        given: bytes | Path = data
        if by_path:
            given = self.files.scratch()
            given.write_bytes(data)
        assert self.files.put_new(name, given, EFFECT) is (self.model.setdefault(name, data) == data)

    @rule(name=names, start=st.integers(0, 300), end=st.none() | st.integers(0, 3000))
    def read(self, name: str, start: int, end: int | None) -> None:
        if name not in self.model:
            with pytest.raises(LakeDamaged, match="is not there"):
                self.files.read(name, start, end)
            return
        assert self.files.read(name) == self.model[name]
        wanted = self.model[name][start:] if end is None else self.model[name][start : max(start, end)]
        assert self.files.read(name, start, end) == wanted

    @rule(name=names)
    def look(self, name: str) -> None:
        assert self.files.exists(name) is (name in self.model)
        if name in self.model and name not in self.gone:  # names are not used twice: a copy knows none of that
            data = self.model[name]
            assert self.files.local(name, hashlib.sha256(data).hexdigest()).read_bytes() == data
            assert Path(self.files.url(name)).read_bytes() == data

    @rule(name=names)
    def delete(self, name: str) -> None:
        self.files.delete(name)
        if self.model.pop(name, None) is not None:
            self.gone.add(name)

    @rule(
        prefix=st.just("") | names.flatmap(lambda n: st.integers(0, len(n)).map(lambda i: n[:i])),
        after=st.just("") | names.flatmap(lambda n: st.integers(0, len(n)).map(lambda i: n[:i])),
    )
    def list(self, prefix: str, after: str) -> None:
        wanted = sorted(n for n in self.model if n.startswith(prefix) and n > after)
        found = [*self.files.names(prefix, after)]
        assert found == sorted(found)
        if self.kind == "disk":
            assert found == wanted
        assert set(found) <= set(wanted)

    @invariant()
    def nothing_is_left(self) -> None:
        assert not leftovers(self.root)


class StoreMachine(Machine):
    kind = "store"

    def teardown(self) -> None:
        calm(self.files)
        assert [*self.files.names("")] == sorted(self.model)
        super().teardown()


class S3Machine(Machine):
    kind = "s3"


few = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
TestDisk = Machine.TestCase
TestDisk.settings = few
TestStore = StoreMachine.TestCase
TestStore.settings = few
TestS3 = pytest.mark.slow(S3Machine.TestCase)
TestS3.settings = settings(few, max_examples=4)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", KINDS)
def test_of_many_writers_one_wins_and_the_others_hear_it(kind: str, seed: int, tmp_path: Path) -> None:
    files = make(kind, tmp_path / "lake", seed)
    for round_ in range(6):
        name = f"a/{round_}/c.x"
        written = [bytes([i // 2]) * 50_000 for i in range(12)]  # each by two writers
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda data, name=name: files.put_new(name, data, EFFECT), written))
        stored = files.read(name)
        assert stored in written
        assert won == [data == stored for data in written]
    assert not leftovers(tmp_path / "lake")


def test_a_repeated_put_of_the_same_bytes_is_a_success(files: Files) -> None:
    for n in range(30):
        for _ in range(3):
            assert files.put_new(f"log/{n:03}.x", b"mine %d" % n, EFFECT)
        assert not files.put_new(f"log/{n:03}.x", b"other", EFFECT)
        assert not files.put_new(f"log/{n:03}.x", b"", EFFECT)


def test_a_copy_with_other_bytes_is_damage(tmp_path: Path) -> None:
    store = WorstStore(tmp_path)
    files = StoreFiles(store)
    files.put_new("a/b.x", b"right", EFFECT)
    right = hashlib.sha256(b"right").hexdigest()
    store.objects["a/b.x"] = b"wrong"
    with pytest.raises(LakeDamaged, match=r"a/b\.x does not have the bytes"):
        files.local("a/b.x", right)
    store.objects["a/b.x"] = b"right"
    assert files.local("a/b.x", right).read_bytes() == b"right"
    StoreFiles(store).local("a/b.x", right).write_bytes(b"wrong")  # the copy itself rots: another process looks again
    with pytest.raises(LakeDamaged, match=r"a/b\.x does not have the bytes"):
        StoreFiles(store).local("a/b.x", right)


def test_a_store_that_never_answers_is_busy(tmp_path: Path) -> None:
    class Silent(WorstStore):
        def _trouble(self, *_: object) -> None:
            self.asked = getattr(self, "asked", 0) + 1
            raise Answer(503)

    store = Silent(tmp_path)
    files = StoreFiles(store)
    finished = files.scratch()
    finished.write_bytes(b"x")
    for ask in (
        lambda: files.put_new("a/b.x", finished, EFFECT),
        lambda: files.read("a/b.x"),
        lambda: files.exists("a/b.x"),
        lambda: [*files.names("a")],
        lambda: files.delete("a/b.x"),
    ):
        store.asked = 0
        with pytest.raises(LakeBusy, match="does not answer"):
            ask()
        assert store.asked <= TRIES + 1
    assert not finished.exists()


def test_what_is_gone_is_damage(files: Files) -> None:
    for ask in (
        lambda: files.read("a/b.x"),
        lambda: files.local("a/b.x", "0" * 64),
        lambda: files.url("a/b.x"),
    ):
        with pytest.raises(LakeDamaged, match=r"a/b\.x is named by the lake but is not there"):
            ask()
    assert files.put_new("a/b.x", b"x", EFFECT)
    files.delete("a/b.x")
    files.delete("a/b.x")
    files.delete("never/was.x")
    assert not files.exists("a/b.x")
    with pytest.raises(LakeDamaged):
        files.read("a/b.x/c.x")  # an object is no directory


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "a//x", "a/./x", "", "a/", "_tmp/x", "a\0b"])
def test_no_name_leads_elsewhere(files: Files, name: str) -> None:
    for ask in (lambda: files.put_new(name, b"x", EFFECT), lambda: files.read(name), lambda: files.delete(name)):
        with pytest.raises(LakeDamaged, match="no object of a lake can have that name"):
            ask()


def test_listing_goes_on_while_others_write(files: Files) -> None:
    calm(files)
    for n in range(0, 60, 2):
        files.put_new(f"l/{n:03}.x", b"", EFFECT)
    seen = []
    for at, name in enumerate(files.names("l/")):
        seen.append(name)
        files.put_new(f"l/{at * 2 + 1:03}.x", b"", EFFECT)
    assert seen == sorted(set(seen))
    assert {f"l/{n:03}.x" for n in range(0, 60, 2)} <= set(seen)


@contextmanager
def readable_only() -> Iterator[Path]:
    """A directory with a lake in it that this process may read and not write; root becomes nobody for it."""
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o755)
        root = Path(home) / "lake"
        assert DiskFiles(root).put_new("a/b.x", b"x", EFFECT)
        (root / SCRATCH).rmdir()
        kept = [(one, one.stat().st_mode) for one in (root, root / "a")]
        for one, _ in kept:
            one.chmod(0o555)
        was = os.geteuid()
        if was == 0:
            os.seteuid(65534)
        try:
            yield root
        finally:
            os.seteuid(was)
            for one, mode in kept:
                one.chmod(mode)


def test_a_disk_that_cannot_be_written_can_be_read() -> None:
    with readable_only() as root:
        files = DiskFiles(root)
        assert files.read("a/b.x") == b"x"
        assert files.exists("a/b.x")
        assert [*files.names("")] == ["a/b.x"]
        assert Path(files.url("a/b.x")).read_bytes() == b"x"
        for refused in (
            lambda: files.put_new("a/c.x", b"y", EFFECT),
            files.scratch,
            lambda: files.delete("a/b.x"),
        ):
            with pytest.raises(SettingsError, match="cannot be written"):
                refused()
        assert not (root / SCRATCH).exists()


def test_a_disk_that_cannot_be_read_says_so() -> None:
    with readable_only() as root:
        us = os.geteuid()
        os.seteuid(os.getuid())
        (root / "a").chmod(0o000)
        os.seteuid(us)
        files = DiskFiles(root)
        for refused in (
            lambda: files.read("a/b.x"),
            lambda: files.exists("a/b.x"),
            lambda: [*files.names("a/")],
        ):
            with pytest.raises(SettingsError, match="cannot be read"):
                refused()


def test_what_a_disk_says_is_told_by_who_must_act(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = DiskFiles(tmp_path / "lake")
    for code, error, words in (
        (errno.ENOSPC, SettingsError, "no room left"),
        (errno.EROFS, SettingsError, "cannot be written"),
        (errno.EIO, LakeDamaged, r"the disk below .* fails"),
    ):

        def link(*_: object, code: int = code) -> None:
            raise OSError(code, os.strerror(code))

        with monkeypatch.context() as patch:
            patch.setattr(os, "link", link)
            with pytest.raises(error, match=words):
                files.put_new("a/b.x", b"x", EFFECT)
        assert not leftovers(tmp_path)
    assert [*files.names("")] == []


def test_a_put_is_durable_before_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "lake"
    said: list[str] = []
    fsync, link = os.fsync, os.link

    def recorded(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        said.append("data" if path.is_file() else "root" if path == root else path.name)
        fsync(handle)

    def linked(*args: Any) -> None:
        said.append("link")
        link(*args)

    monkeypatch.setattr(os, "fsync", recorded)
    monkeypatch.setattr(os, "link", linked)

    def of(act: Callable[[], object]) -> tuple[list[str], set[str]]:
        said.clear()
        act()
        return said[:2], set(said[2:])

    files = DiskFiles(root)
    assert of(lambda: files.put_new("a/b/c.x", b"x", EFFECT)) == (["data", "link"], {"b", "a", "root", tmp_path.name})
    assert of(lambda: files.put_new("a/b/d.x", b"x", EFFECT)) == (["data", "link"], {"b"})
    assert of(lambda: files.put_new("a/b/d.x", b"y", EFFECT)) == (["data", "link"], {"b"})
    (root / "a/other").mkdir()  # by another process, which has not synced `a` so far
    assert of(lambda: files.put_new("a/other/d.x", b"x", EFFECT)) == (["data", "link"], {"other", "a"})
    again = DiskFiles(root)  # what is there may be a stopped process's, which synced nothing
    assert of(lambda: again.put_new("a/b/c.x", b"x", EFFECT)) == (["data", "link"], {"b", "a", "root", tmp_path.name})
    assert of(lambda: files.delete("a/b/c.x")) == (["b"], set())


def test_reading_makes_nothing(tmp_path: Path) -> None:
    files = DiskFiles(tmp_path / "lake")
    assert [*files.names("")] == []
    assert not files.exists("a/b.x")
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize("point", ["before", "after"])
@pytest.mark.parametrize("by", ["bytes", "path"])
def test_a_put_that_is_cut_off_is_whole_or_not_there(point: str, by: str, tmp_path: Path) -> None:
    root = tmp_path / "lake"
    code = (
        "import sys; from pathlib import Path; from assay.targets.local import DiskFiles\n"
        f"files = DiskFiles(Path({str(root)!r})); data = b'x' * 100_000\n"
        f"if {by!r} == 'path':\n    path = files.scratch(); path.write_bytes(data); data = path\n"
        f"files.put_new('a/b/c.x', data, {EFFECT!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"ASSAY_CRASH": f"{EFFECT}:{point}"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 137, done.stderr
    files = DiskFiles(root)
    assert [*files.names("")] == (["a/b/c.x"] if point == "after" else [])
    assert leftovers(root)  # upkeep's
    assert files.put_new("a/b/c.x", b"x" * 100_000, EFFECT)
    assert not files.put_new("a/b/c.x", b"y", EFFECT)


def test_processes_race_for_one_name(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from assay.targets.local import DiskFiles\n"
        f"print(DiskFiles(Path({str(tmp_path)!r})).put_new('x/y', sys.argv[1].encode(), {EFFECT!r}))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(i)], stdout=subprocess.PIPE, text=True) for i in range(4)
    ]
    said = [p.communicate(timeout=300)[0].strip() for p in processes]
    assert sorted(said) == ["False", "False", "False", "True"]
    assert DiskFiles(tmp_path).read("x/y") == str(said.index("True")).encode()
