"""What CloudWatch takes metrics from, by the rules of its Embedded Metric Format, and what it would take."""

import json
import re
from typing import Any

UNITS = {
    "Seconds", "Microseconds", "Milliseconds", "Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes", "Bits", "Kilobits", "Megabits",
    "Gigabits", "Terabits", "Percent", "Count", "Bytes/Second", "Kilobytes/Second", "Megabytes/Second", "Gigabytes/Second",
    "Terabytes/Second", "Bits/Second", "Kilobits/Second", "Megabits/Second", "Gigabits/Second", "Terabits/Second", "Count/Second", "None",
}  # fmt: skip
ASCII = re.compile(r"[\x20-\x7e]*[\x21-\x7e][\x20-\x7e]*")


def metrics(line: str, at: float) -> tuple[dict[str, str], dict[str, float]]:
    """The dimensions and values of a log event; AssertionError where it breaks a rule. `at` is when it was written, in seconds.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html, its JSON Schema
    included; limits of names: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_Dimension.html.
    """
    assert len(line.encode()) <= 256 * 1024
    root = json.loads(line, parse_constant=lambda name: (_ for _ in ()).throw(AssertionError(f"{name} is no JSON")))
    assert isinstance(root, dict)
    meta = root["_aws"]
    assert set(meta) == {"Timestamp", "CloudWatchMetrics"}
    assert type(meta["Timestamp"]) is int
    assert abs(meta["Timestamp"] / 1000 - at) < 3600  # milliseconds since the epoch
    (directive,) = meta["CloudWatchMetrics"]
    assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
    assert re.fullmatch(r"[A-Za-z0-9._/#:-]{1,255}", directive["Namespace"])
    assert not directive["Namespace"].startswith("AWS/")
    (names,) = directive["Dimensions"]
    assert len(set(names)) == len(names) <= 30
    for name in names:
        value = root[name]
        assert isinstance(value, str)
        assert ASCII.fullmatch(name)
        assert len(name) <= 250
        assert not name.startswith(":")
        assert ASCII.fullmatch(value)
        assert len(value) <= 1024
    assert 1 <= len(directive["Metrics"]) <= 100
    values: dict[str, float] = {}
    for metric in directive["Metrics"]:
        assert set(metric) == {"Name", "Unit"}
        assert 1 <= len(metric["Name"]) <= 1024
        assert metric["Unit"] in UNITS
        value: Any = root[metric["Name"]]
        assert type(value) in (int, float)
        assert metric["Name"] not in values
        values[metric["Name"]] = value
    assert not values.keys() & set(names)
    return {name: root[name] for name in names}, values
