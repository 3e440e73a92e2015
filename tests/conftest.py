"""Every test runs without secrets of the machine, in UTC, and may talk to this machine only."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

import assay_sandbox
from assay import cli, clock, run
from assay.build import dbt
from assay.run import Lake
from tests import clouds
from tests.forked import Said
from tests.kept import begun
from tests.making import Made, make
from tests.stories.proxy import Proxy

ROOT = Path(__file__).resolve().parents[1]
NIGHT = 120  # seconds before midnight in which no test begins

# The same commit always gets the same verdict, however loaded the machine; --hypothesis-profile=search draws new examples.
settings.register_profile("search", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("search"), derandomize=True, database=None)
if os.environ.get("QUICK"):  # a mutant is seen red; which example is the smallest nobody asks
    settings.register_profile("same", settings.get_profile("same"), phases=set(Phase) - {Phase.shrink, Phase.explain})
settings.load_profile("same")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What holds on a disk is tried on a store at its worst, and on the doubles of AWS, by `scripts/test --all`."""
    for item in items:
        if {"store", "make_on_store", "s3", "dynamodb", "make_on_aws"} & {
            *getattr(getattr(item, "callspec", None), "id", "").split("-")
        }:
            item.add_marker("slow")


def pytest_configure(config: pytest.Config) -> None:
    """Tests that run side by side, and the commands they start, have their dbt run by one process."""
    if config.getoption("numprocesses", None) and "PYTEST_XDIST_WORKER" not in os.environ:
        one = ExitStack()
        one.enter_context(dbt.shared())
        config.add_cleanup(one.close)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """A plan is of a day in UTC: a test that plans before midnight and looks again after it would see more to do."""
    left = 86_400 - clock.now().timestamp() % 86_400
    if left < NIGHT:
        time.sleep(left)


@pytest.fixture(autouse=True, scope="session")
def _quiet_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    for name in [n for n in os.environ if n.startswith(("AWS_", "FMP_", "ASSAY_")) or n.lower().endswith("_proxy")]:
        if name != dbt.SHARED:
            del os.environ[name]
    os.environ.pop("COLUMNS", None)  # --help is wrapped by it
    os.environ["HOME"] = str(tmp_path_factory.mktemp("home"))
    os.environ["ASSAY_SECRET_FMP_API_KEY"] = "sandbox-key"
    connect = socket.socket.connect

    def only_here(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and not str(address[0]).startswith(("127.", "::1", "localhost")):
            raise AssertionError(f"a test tried to reach {address}")
        return connect(self, address)

    socket.socket.connect = only_here  # type: ignore[method-assign]
    yield
    socket.socket.connect = connect  # type: ignore[method-assign]


@pytest.fixture
def assay(capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Runs one command in this process."""

    def call(*args: object) -> Said:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(one) for one in args])
        found = capfd.readouterr()
        return Said(int(ended.value.code or 0), found.out, found.err)

    return call


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    """An empty small lake."""
    lake = make(tmp_path / "lake")
    yield lake
    lake.close()


@pytest.fixture
def markets(tmp_path: Path) -> Iterator[Path]:
    """A copy of the demo lake's directory whose source is a sandbox that runs while the test does."""
    root = tmp_path / "markets"
    begun(root, "markets")
    with assay_sandbox.Sandbox().running() as url:
        path = root / "assay.toml"
        path.write_text(path.read_text().replace("http://127.0.0.1:8321/stable", url))
        yield root


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lake, Proxy]]:
    """The demo lake with its first release; its source was asked through a proxy that kept every byte."""
    root = tmp_path_factory.mktemp("built") / "markets"
    begun(root, "markets")
    with assay_sandbox.Sandbox().running() as url, Proxy(url) as proxy:
        path = root / "assay.toml"
        path.write_text(path.read_text().replace("http://127.0.0.1:8321/stable", proxy.url))
        lake = run.open(root)
        done = lake.apply(lake.plan())
        assert not done.errors
        assert done.release
        assert lake.plan() == []
        yield lake, proxy
        lake.close()


@pytest.fixture(scope="session")
def cloud() -> clouds.Cloud:
    """The doubles of AWS; tests share them, so each names what it makes by itself."""
    return clouds.shared()
