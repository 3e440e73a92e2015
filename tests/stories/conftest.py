"""The markets lake, built once for the stories that only read it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import assay_sandbox
from assay import run
from assay.run import Lake
from tests.conftest import ROOT
from tests.stories.proxy import Proxy


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lake, Proxy]]:
    """The demo lake with its first release; its source was asked through a proxy that kept every byte."""
    root = tmp_path_factory.mktemp("built") / "markets"
    shutil.copytree(ROOT / "lakes/markets", root)
    with assay_sandbox.Sandbox().running() as url, Proxy(url) as proxy:
        path = root / "assay.toml"
        path.write_text(path.read_text().replace("http://127.0.0.1:8321/stable", proxy.url))
        lake = run.open(root)
        done = run.apply(lake, run.plan(lake))
        assert not done.errors
        assert done.release
        assert run.plan(lake) == []
        yield lake, proxy
        lake.close()


@pytest.fixture
def copied(built: tuple[Lake, Proxy], tmp_path: Path) -> Iterator[Path]:
    """A copy of the built lake's directory, with a sandbox of its own behind it, to be changed at will."""
    # Iceberg metadata holds absolute paths, so the copy is landed and refined anew; gold is not built.
    root = tmp_path / "markets"
    shutil.copytree(ROOT / "lakes/markets", root)
    with assay_sandbox.Sandbox().running() as url:
        path = root / "assay.toml"
        path.write_text(path.read_text().replace("http://127.0.0.1:8321/stable", url))
        yield root
