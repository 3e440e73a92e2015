"""Source to bronze: ask, judge the answer, write it down once."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.contract.model import Contract
from assay.crash import effect
from assay.errors import AssayError, ContractError, KeyRefused, SettingsError, SourceSuspect
from assay.lake import bronze, evidence
from assay.lake.bronze import Manifest
from assay.lake.files import Files
from assay.land.source import Ask, SourceSettings, load
from assay.ports import Fact, Ledger, Secrets
from assay.windows import Window

TOGETHER = 4
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """One batch to land: the window its manifest claims, and the days to ask for (None: the source takes no dates)."""

    contract: Contract
    shard: str
    window: Window
    days: Window | None


@dataclass(frozen=True)
class Landed:
    """What came of one shard's window: a manifest, or the error that kept it out.

    `asked` is false for what a refused key stopped: its error is the key's, and nothing of its own.
    """

    dataset: str
    shard: str
    window: Window
    manifest: Manifest | None
    error: AssayError | None
    asked: bool = True


def settings_of(name: str, sources: Mapping[str, Mapping[str, Any]]) -> SourceSettings:
    """The `[source.NAME]` table as settings; SettingsError if there is none."""
    if name not in sources:
        raise SettingsError(
            f"assay.toml has no [source.{name}]; it says where {name} is reached and whose records it gives"
        )
    return SourceSettings(**sources[name])


def check(contract: Contract, root: Path | None = None) -> None:
    """ContractError, with the contract's file, if the lake in `root` has no such source or it does not know its options."""
    if contract.cursor:
        raise ContractError(
            f"{contract.path or contract.dataset}: cursor is read by no source yet; say window or every"
        )
    try:
        source = load(contract.source, root)
        if source.check:
            source.check(contract.options)
    except ContractError as error:
        raise ContractError(f"{contract.path or contract.dataset}: {error}") from error


def land(
    asks: Sequence[Wanted],
    *,
    settings: SourceSettings,
    files: Files,
    ledger: Ledger,
    secrets: Secrets,
    run: str,
    root: Path | None = None,
    done: Callable[[Landed], None] = lambda _: None,
) -> list[Landed]:
    """Land what is wanted from one source, each as one batch; a refused key stops the rest.

    All contracts must name the same source; `root` is the lake's directory, where its own sources lie. An ask that
    fails leaves nothing and does not hinder the others; `done` hears of each as it ends, and not of those that were
    not asked.
    """
    try:
        return asyncio.run(_land(asks, settings, files, ledger, secrets, run, root, done))
    except (TypeError, ValueError) as error:  # what the asks raise is caught with them; this is `connect`
        kind = type(error).__name__
        raise SettingsError(
            f"[source.{asks[0].contract.source}] of assay.toml cannot be used ({kind}): see its options"
        ) from error


async def _land(
    asks: Sequence[Wanted], settings: SourceSettings, files: Files, ledger: Ledger, secrets: Secrets, run: str,
    root: Path | None, done: Callable[[Landed], None],
) -> list[Landed]:  # fmt: skip
    source = load(asks[0].contract.source, root)
    pins = {one.contract.dataset: evidence.pin(files, one.contract) for one in asks}
    out: list[Landed] = []
    waiting = list(reversed(asks))
    refused: list[KeyRefused] = []

    async def work(remote: Any) -> None:
        while waiting and not refused:
            one = waiting.pop()
            manifest: Manifest | None = None
            error: AssayError | None = None
            try:
                manifest = await _one(one, remote)
            except KeyRefused as caught:
                error = caught
                refused.append(caught)
            except AssayError as caught:
                error = caught
            except Exception as caught:  # a source is its owner's code: what it raises is not ours to know
                log.debug("source %s failed", one.contract.source, exc_info=True)
                kind = type(caught).__name__
                error = SourceSuspect(f"{one.contract.source}: its code failed with {kind}; --debug shows where")
            out.append(Landed(one.contract.dataset, one.shard, one.window, manifest, error))
            done(out[-1])

    async def _one(one: Wanted, remote: Any) -> Manifest:
        contract = one.contract
        check(contract, root)
        claim = {
            "source": contract.source, "connector": source.version, "origin": settings.origin,
            "capture_fingerprint": contract.capture_fingerprint, "contract_sha256": pins[contract.dataset],
        }  # fmt: skip
        writer = bronze.Writer(files, run, contract.dataset, one.shard, one.window, claim)
        try:
            ask = Ask(contract.dataset, contract.options, one.shard, one.days, contract.fields)
            async for page in source.fetch(ask, remote):
                writer.page(vars(page.request), list(page.records))
                if page.raw is not None:
                    raw = page.raw if isinstance(page.raw, bytes) else b"".join(page.raw.chunks())
                    writer.keep(raw, page.kind)
            manifest = writer.commit()
        finally:
            writer.discard()
        with effect("land.ledger"):
            ledger.record([fact(manifest)])
        return manifest

    async with source.connect(secrets, settings) as remote, asyncio.TaskGroup() as group:
        for _ in range(min(TOGETHER, len(asks))):
            group.create_task(work(remote))
    for one in reversed(waiting):
        error = KeyRefused("not asked: the key was refused")
        out.append(Landed(one.contract.dataset, one.shard, one.window, None, error, asked=False))
    return out


def fact(manifest: Manifest) -> Fact:
    """The ledger's entry of a manifest: enough to plan without reading it."""
    return Fact(
        "manifest", manifest.batch, manifest.dataset, manifest.captured_at,
        {
            "name": manifest.name, "shard": manifest.shard, "start": manifest.start.isoformat(), "end": manifest.end.isoformat(),
            "generation": manifest.generation, "capture": manifest.capture_fingerprint, "rows": manifest.rows,
            "bytes": sum(part.bytes for part in manifest.parts), "calls": len(manifest.requests), "origin": manifest.origin,
        },
    )  # fmt: skip


def adopt(files: Files, ledger: Ledger, dataset: str) -> int:
    """Record manifests the ledger lacks (a crash between the two, or a lost ledger); how many there were."""
    known = {one.body["name"] for one in ledger.facts("manifest", dataset)}
    fresh = [
        bronze.read_manifest(files, name)
        for name in files.names(f"bronze/{dataset}/_manifests", ".json")
        if name not in known
    ]
    ledger.record(fact(one) for one in fresh)
    return len(fresh)
