"""The backfill: windows of the plan in chunks, then silver, then one release."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from assay.clock import now
from assay.errors import AssayError, GateClosed, UsageError
from assay.flows import chunks as chunking
from assay.flows.chunks import Chunk
from assay.flows.here import here, named, opened
from assay.flows.steps import AT_ONCE, built, end, ingest, refined
from assay.plan import Build, Land, Refine


@flow(name="backfill-ingestion", flow_run_name=named, task_runner=ThreadPoolTaskRunner(max_workers=AT_ONCE))
def backfill_historical_data(source: str, start_date: datetime, end_date: datetime, parallel_days: int = 30) -> Any:
    """Land the days from `start_date` up to `end_date` that are missing, refine them, and release gold once.

    Args:
        source: a dataset (`price_eod`), or all datasets of a source (`fmp`, `source:fmp`).
        start_date: the first day, in UTC.
        end_date: the first day after.
        parallel_days: windows that begin within so many days are asked together.

    A chunk that fails stops no other. The flow ends Failed with what failed and why, after all else is done; run again,
    it asks for what is missing then. UsageError, before anything is asked, for names and days that there are not.
    """
    with opened(f"backfill {source}", f"source:{source}"):
        chunks = generate_date_chunks(source, start_date, end_date, parallel_days)
        what = {"command": "backfill", "select": [_word(source)], "span": f"{start_date:%Y-%m-%d}..{end_date:%Y-%m-%d}"}
        errors = ingest(chunks, what, live=False)
        if not here().cancelled:
            errors += trigger_silver_processing(source, start_date, end_date)
        return end(errors, f"{sum(len(one.steps) for one in chunks)} windows in {len(chunks)} chunks")


def generate_date_chunks(source: str, start_date: datetime, end_date: datetime, parallel_days: int) -> list[Chunk]:
    """The plan's missing landings in these days, in chunks.

    UsageError for names and days that there are not, and for more calls or bytes than a source's quotas have left.
    """
    lake = here().lake
    chunking.named(lake.contracts, source)
    span = chunking.days(start_date, end_date, now())
    if parallel_days < 1:
        raise UsageError(f"parallel_days is {parallel_days}; it is a number of days, 1 or more")
    steps, _ = lake.backfill(_word(source), span)
    return chunking.cut((step for step in steps if isinstance(step, Land)), span.start, parallel_days)


def _word(source: str) -> str:
    """As the command line names it."""
    return source if source in here().lake.contracts else f"source:{source.removeprefix('source:')}"


def trigger_silver_processing(source: str, start_date: datetime, end_date: datetime) -> Sequence[AssayError]:  # noqa: ARG001 - a log is folded in its order, whatever days it brought
    """Refine what is landed of these datasets, then build the gold that they change, into one release; what failed."""
    lake = here().lake
    names = [f"{name}+" for name in chunking.named(lake.contracts, source)]
    errors = refined([step for step in lake.plan(names, land=False) if isinstance(step, Refine)])
    if any(not isinstance(error, GateClosed) for error in errors):
        return errors
    return [*errors, *built([step for step in lake.plan(names, land=False) if isinstance(step, Build)])]
