"""What a step of a task says of itself to CloudWatch, and that nobody else need read it."""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from assay import clock
from assay.errors import SettingsError
from assay.ports import Measured
from assay.targets.aws import emf
from tests import emf as rules
from tests.forked import Said
from tests.kept import begun


def test_a_line_is_as_the_format_says_and_names_its_run() -> None:
    calls = Counter({"s3:PutObject": 3, "dynamodb:PutItem": 4})
    for dataset, figures in (("price_eod", {"rows": 7, "accepted": 5}), ("", {"tables": 2})):
        told = emf.document(Measured("refine", dataset, "01RUN", 1.23456, 0, figures), "markets", "dev", calls)
        dimensions, values = rules.metrics(json.dumps(told), clock.now().timestamp())
        assert dimensions == {"lake": "markets", "env": "dev", "step": "refine"} | (
            {"dataset": dataset} if dataset else {}
        )
        assert values == {"seconds": 1.235, "failed": 0, **figures, "calls": 7}
        assert (told["run"], told["calls_by"]) == ("01RUN", dict(calls))
    assert json.dumps(told, separators=(",", ":")).startswith(emf.MARK)


@pytest.mark.parametrize(
    "bad",
    [
        {"run": float("nan")},
        {"lake": ""},
        {"lake": 1},
        {"failed": "0"},
        {"_aws": {"Timestamp": 1, "CloudWatchMetrics": []}},
        {"_aws": {"CloudWatchMetrics": []}},
    ],
)
def test_the_rules_find_what_cloudwatch_would_drop(bad: dict[str, object]) -> None:
    told = emf.document(Measured("build", "", "01RUN", 1, 0), "markets", "dev", Counter())
    with pytest.raises((AssertionError, ValueError)):
        rules.metrics(json.dumps(told | bad), clock.now().timestamp())


def test_only_who_asks_hears_them_and_the_laptop_never(
    tmp_path: Path, assay: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not emf.asked()
    monkeypatch.setenv(emf.METRICS, "statsd")
    with pytest.raises(SettingsError, match="ASSAY_METRICS is 'statsd'; it may be emf"):
        emf.asked()
    monkeypatch.setitem(os.environ, emf.METRICS, "emf")
    assert emf.asked()
    said = assay("--lake", begun(tmp_path / "shop", "csv"), "--quiet", "apply")
    assert (said.code, emf.MARK in said.out + said.err) == (0, False)
