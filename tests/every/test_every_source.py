"""What every source must do: fmp against the sandbox, CSV files, and the example for an HTTP API of one's own."""

import asyncio
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import assay_sandbox
from assay import land
from assay.contract import odcs
from assay.errors import AssayError, ContractError, SettingsError, SourceSuspect
from assay.lake import bronze
from assay.land import source as sources
from assay.land.source import Ask, Page, SourceSettings
from assay.ports import Secrets
from assay.run import lake as lakes
from assay.targets.local import LocalSecrets
from assay.windows import Window
from tests.conftest import ROOT
from tests.kept import begun
from tests.making import Made

SECRET = "canary-7f3a"
RATES = [
    {"date": "2024-01-03", "currency": "EUR", "rateInUsd": "1.0919"},
    {"date": "2024-01-03", "currency": "CHF", "rateInUsd": 1.17680000},
    {"date": "2024-01-04", "currency": "EUR", "rateInUsd": 1.0953},
]


@dataclass
class Api:
    """A JSON API with pages of two records; `answers` replaces what it says."""

    url: str = ""
    answer: Callable[[web.Request], web.Response] | None = None
    seen: list[dict[str, str]] = field(default_factory=list)

    async def reply(self, request: web.Request) -> web.Response:
        self.seen.append(dict(request.query))
        if self.answer:
            return self.answer(request)
        if request.headers.get("Authorization") != f"Bearer {SECRET}":
            return web.Response(status=401, text="who are you?")
        start = 2 * (int(request.query["page"]) - 1)
        return web.Response(text=json.dumps(RATES[start : start + 2], indent=2), content_type="application/json")


@contextmanager
def served(api: Api) -> Iterator[Api]:
    """The API on this machine while the block runs."""
    ready, ended = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/v1/{path:.*}", api.reply)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        api.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        loops.append(asyncio.get_running_loop())
        ready.set()
        await ended.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(60)
        yield api
    finally:
        loops[0].call_soon_threadsafe(ended.set)
        thread.join()


class Keys(dict):
    """Secrets from a dictionary; a missing one says so as the local target does."""

    def get(self, name: str) -> str:  # type: ignore[override]
        return self[name] if name in self else LocalSecrets(Path("/nowhere")).get(name)


@dataclass(frozen=True)
class Case:
    """One source, something it has, something it has not, and how to make it give nonsense."""

    name: str
    settings: SourceSettings
    ask: Ask
    rows: int
    contract: Path
    unknown: Callable[[], Ask]
    nonsense: Callable[[], None]
    secret: str | None = None

    def secrets(self) -> Secrets:
        return Keys({self.secret: SECRET} if self.secret else {})

    def pages(self, ask: Ask | None = None, secrets: Secrets | None = None, **changed: Any) -> list[Page]:
        found = sources.load(self.name, ROOT / "lakes/http")

        async def work() -> list[Page]:
            async with found.connect(
                self.secrets() if secrets is None else secrets, replace(self.settings, **changed)
            ) as remote:
                return [page async for page in found.fetch(ask or self.ask, remote)]

        return asyncio.run(work())


QUICK = {"attempts": 2, "backoff": 0, "timeout": 60}


@contextmanager
def _fmp(_: Path) -> Iterator[Case]:
    sandbox = assay_sandbox.Sandbox({SECRET: assay_sandbox.Plan(requests=10**6)})
    with sandbox.running() as url:
        ask = Ask("splits", {"path": "splits", "shard_param": "symbol", "date_field": "date"}, "AAPL", None)
        yield Case(
            "fmp", SourceSettings(url, "sandbox", True, 10**6, 0.01, options=QUICK), ask, 2, ROOT / "lakes/markets/contracts/splits.yaml",
            lambda: replace(ask, shard="NOSUCH"),
            lambda: sandbox.faults.add(assay_sandbox.Fault("garbage", times=None, params={"body": b"[nonsense"})), "FMP_API_KEY",
        )  # fmt: skip


@contextmanager
def _files(tmp: Path) -> Iterator[Case]:
    shutil.copytree(ROOT / "lakes/csv/files", tmp / "files")
    ask = Ask("trades", {"path": "trades.csv"}, "all", None)
    yield Case(
        "files", SourceSettings(f"file:{tmp / 'files'}", "synthetic"), ask, 10, ROOT / "lakes/csv/contracts/trades.yaml",
        lambda: replace(ask, options={"path": "nosuch.csv"}), lambda: (tmp / "files/trades.csv").write_bytes(b'a,b\n"\xff'), None,
    )  # type: ignore[arg-type,return-value]  # fmt: skip


@contextmanager
def _http(_: Path) -> Iterator[Case]:
    api = Api()
    with served(api):
        ask = Ask("rates", {"path": "rates", "params": {"base": "USD"}}, "all", None)

        def unknown() -> Ask:
            api.answer = lambda _: web.json_response([])
            return ask

        def nonsense() -> None:
            api.answer = lambda _: web.Response(text="[nonsense")

        yield Case(
            "sources.my_source", SourceSettings(api.url, "synthetic", True, 10**6, 0.01, options=QUICK), ask, 3,
            ROOT / "lakes/http/contracts/rates.yaml", unknown, nonsense, "MY_API_KEY",
        )  # fmt: skip


CASES = {"fmp": _fmp, "files": _files, "http": _http}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    with CASES[request.param](tmp_path) as made:
        yield made


def test_every_source_we_ship_is_here() -> None:
    shipped = {path.stem for path in (ROOT / "src/assay/land/sources").glob("[a-z]*.py")}
    assert shipped | {"http"} == set(CASES)


def test_records_are_json_objects_without_whitespace_and_the_request_is_told(case: Case) -> None:
    pages = case.pages()
    assert sum(len(page.records) for page in pages) == case.rows
    for page in pages:
        for record in page.records:
            assert isinstance(json.loads(record), dict)
            assert b"\n" not in record
            assert b'": ' not in record
            assert b', "' not in record
        asked = page.request
        assert asked.rows == len(page.records)
        assert asked.at.tzinfo == UTC
        assert len(asked.sha256) == 64
        assert "?" not in asked.url
        assert SECRET not in repr(page)
        assert asked.sha256 == sources.sha256_of(page.records)
        if isinstance(page.raw, sources.Original):
            assert page.raw.size == len(b"".join(page.raw.chunks())) == asked.bytes
        elif page.raw is not None:
            assert len(page.raw) == asked.bytes


def test_the_same_ask_gives_the_same_records(case: Case) -> None:
    first, second = case.pages(), case.pages()
    assert [page.records for page in first] == [page.records for page in second]
    assert [page.request.sha256 for page in first] == [page.request.sha256 for page in second]


def test_what_is_not_there_is_suspect_and_never_no_data(case: Case) -> None:
    with pytest.raises(SourceSuspect):
        case.pages(case.unknown())


def test_nonsense_is_an_error_that_says_who_must_act(case: Case) -> None:
    case.nonsense()
    with pytest.raises(AssayError) as caught:
        case.pages()
    assert caught.value.exit_code in (3, 75)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"path": 7}, {"path": "x", "pth": "y"}, {"path": "../up"}])
def test_wrong_options_are_the_contracts_fault(case: Case, options: dict[str, Any]) -> None:
    with pytest.raises(ContractError):
        case.pages(replace(case.ask, options=options))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "`path`.*; it knows path, "),
        ({"path": 7}, r"`\$\.path`; it knows path, "),
        ({"path": "x", "pth": "y"}, r"no option 'pth' \(did you mean 'path'\?\); it knows path, "),
        ({"path": "x", "colour": "y"}, "no option 'colour'; it knows path, "),
        ({"path": "../up"}, r"'\.\./up'"),
    ],
)
def test_wrong_options_are_found_before_anything_is_asked(case: Case, options: dict[str, Any], words: str) -> None:
    found = sources.load(case.name, ROOT / "lakes/http")
    assert found.check
    found.check(case.ask.options)
    with pytest.raises(ContractError, match=words) as caught:
        found.check(options)
    assert "\n" not in str(caught.value)


def test_an_address_it_cannot_mean_is_the_settings_fault(case: Case) -> None:
    with pytest.raises(SettingsError):
        case.pages(base_url="gopher://example.org")


def test_a_missing_secret_is_named_with_its_place(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASSAY_SECRET_FMP_API_KEY")
    if case.secret is None:
        assert case.pages(secrets=Keys())
        return
    with pytest.raises(SettingsError, match=f"secret {case.secret} is missing"):
        case.pages(secrets=Keys())


def test_it_lands_as_one_batch_that_names_source_origin_and_requests(case: Case, made: Made) -> None:
    contract = replace(odcs.read(case.contract), options=case.ask.options, source=case.name)
    window = Window.parse("2024-01-01..2024-01-08")
    wanted = land.Wanted(contract, case.ask.shard, window, case.ask.window)
    [done] = land.land(
        [wanted],
        settings=case.settings,
        files=made.files,
        ledger=made.ledger,
        secrets=case.secrets(),
        run="run",
        root=ROOT / "lakes/http",
    )
    assert done.error is None
    [entry] = [one for one, _ in bronze.since(made.files, contract.dataset, 0) if one.kind == "landed"]
    [batch] = entry.batches
    assert (batch.rows, entry.source, entry.origin) == (case.rows, case.name, case.settings.origin)
    assert entry.code == sources.load(case.name, ROOT / "lakes/http").code
    assert sum(asked.rows for asked in batch.requests) == case.rows
    bronze.check(made.files, entry, whole=True)
    for path in made.root.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_the_http_example_knows_an_api_that_ignores_pages(tmp_path: Path) -> None:
    with _http(tmp_path) as case, served(Api(answer=lambda _: web.json_response(RATES))) as api:
        with pytest.raises(SourceSuspect, match=r"^rates: page 2 is page 1 again: rates ignores `page`"):
            case.pages(base_url=api.url)
        assert [one["page"] for one in api.seen] == ["1", "2"]


@pytest.mark.slow
def test_the_http_example_goes_all_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = begun(tmp_path / "lake", "http")
    monkeypatch.setenv("MY_API_KEY", SECRET)
    with served(Api()) as api:
        path = root / "assay.toml"
        path.write_text(
            path.read_text()
            .replace("https://api.example.com/v1", api.url)
            .replace('"vendor"', '"synthetic"\nallow_private = true')
        )
        with lakes.open(root) as lake:
            done = lake.apply(lake.plan())
            assert not done.errors
            assert [one["page"] for one in api.seen] == ["1", "2", "3"]
            assert {one["base"] for one in api.seen} == {"USD"}
            told = lake.sql("select currency, date, usd, previous_usd from gold.mart_rate order by 1, 2")
            assert [[str(cell) for cell in row] for row in told.rows] == [
                ["CHF", "2024-01-03", "1.17680000", "None"],
                ["EUR", "2024-01-03", "1.09190000", "None"],
                ["EUR", "2024-01-04", "1.09530000", "1.09190000"],
            ]
            assert list(told.columns) == ["currency", "date", "usd", "previous_usd"]
            found = lake.explain("mart_rate", {"currency": "EUR", "date": "2024-01-04"}, "previous_usd")
            assert found["recomputed"] == {"value": "1.09190000", "equal": True}
            assert lake.plan() == []
