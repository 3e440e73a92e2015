"""Work groups: where results go, whether the client may say otherwise, and how many bytes a query may scan."""

import re
import threading
import time
from typing import Any

from assay_cloudsim.athena.errors import Refused

ENGINE = {"SelectedEngineVersion": "Athena engine version 3", "EffectiveEngineVersion": "Athena engine version 3"}
_KNOWN = frozenset(
    [
        "ResultConfiguration",
        "EnforceWorkGroupConfiguration",
        "PublishCloudWatchMetricsEnabled",
        "BytesScannedCutoffPerQuery",
        "RequesterPaysEnabled",
        "EngineVersion",
        "ResultConfigurationUpdates",
        "RemoveBytesScannedCutoffPerQuery",
    ]
)


def _configuration(given: dict[str, Any]) -> dict[str, Any]:
    if unknown := set(given) - _KNOWN:
        raise Refused(f"{', '.join(sorted(unknown))} of a work group is not emulated by this double of Athena")
    check_results(given.get("ResultConfiguration", {}))
    engine = given.get("EngineVersion", ENGINE).get("SelectedEngineVersion", "AUTO")
    if engine not in ("AUTO", "Athena engine version 3"):
        raise Refused(f"{engine} is not emulated by this double of Athena: it is engine version 3")
    return {
        "ResultConfiguration": dict(given.get("ResultConfiguration", {})),
        "EnforceWorkGroupConfiguration": given.get("EnforceWorkGroupConfiguration", True),
        "PublishCloudWatchMetricsEnabled": given.get("PublishCloudWatchMetricsEnabled", True),
        "RequesterPaysEnabled": given.get("RequesterPaysEnabled", False),
        "EngineVersion": {**ENGINE, "SelectedEngineVersion": engine},
    } | (
        {"BytesScannedCutoffPerQuery": given["BytesScannedCutoffPerQuery"]}
        if "BytesScannedCutoffPerQuery" in given
        else {}
    )


def check_results(given: dict[str, Any]) -> None:
    """Refused for what a ResultConfiguration asks beyond a place: nothing here encrypts results or sets their owner."""
    known = {"OutputLocation", "ExpectedBucketOwner", "RemoveOutputLocation"}
    if unknown := set(given) - known:
        raise Refused(f"{', '.join(sorted(unknown))} of results is not emulated by this double of Athena")


class WorkGroups:
    """The account's work groups; `primary` is always there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: dict[str, dict[str, Any]] = {}
        self.create({"Name": "primary", "Configuration": {"EnforceWorkGroupConfiguration": False}})

    def get(self, name: str) -> dict[str, Any]:
        with self._lock:
            if name not in self._groups:
                raise Refused("WorkGroup is not found.")
            return self._groups[name]

    def create(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["Name"]
        if not re.fullmatch(r"[a-zA-Z0-9._-]{1,128}", name):
            raise Refused(f"WorkGroup name is not valid: {name}")
        made = {
            "Name": name, "State": "ENABLED", "Configuration": _configuration(asked.get("Configuration", {})),
            "Description": asked.get("Description", ""), "CreationTime": time.time(),
        }  # fmt: skip
        with self._lock:
            if name in self._groups:
                raise Refused("WorkGroup is already created")
            self._groups[name] = made
        return {}

    def update(self, asked: dict[str, Any]) -> dict[str, Any]:
        group = self.get(asked["WorkGroup"])
        changes = dict(asked.get("ConfigurationUpdates", {}))
        if unknown := set(changes) - _KNOWN:
            raise Refused(f"{', '.join(sorted(unknown))} of a work group is not emulated by this double of Athena")
        check_results(changes.get("ResultConfigurationUpdates", {}))
        with self._lock:
            configuration = dict(group["Configuration"])
            if changes.pop("RemoveBytesScannedCutoffPerQuery", False):
                configuration.pop("BytesScannedCutoffPerQuery", None)
            for key, value in changes.pop("ResultConfigurationUpdates", {}).items():
                results = dict(configuration["ResultConfiguration"])
                if key == "RemoveOutputLocation":
                    results.pop("OutputLocation", None)
                else:
                    results[key] = value
                configuration["ResultConfiguration"] = results
            group["Configuration"] = configuration | changes
            group["State"] = asked.get("State", group["State"])
            group["Description"] = asked.get("Description", group["Description"])
        return {}

    def delete(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["WorkGroup"] == "primary":
            raise Refused("Can not delete primary WorkGroup.")
        self.get(asked["WorkGroup"])
        with self._lock:
            del self._groups[asked["WorkGroup"]]
        return {}

    def listed(self, asked: dict[str, Any]) -> dict[str, Any]:
        del asked
        with self._lock:
            groups = sorted(self._groups.values(), key=lambda g: str(g["Name"]))
        return {
            "WorkGroups": [
                {k: g[k] for k in ("Name", "State", "Description", "CreationTime")}
                | {"EngineVersion": g["Configuration"]["EngineVersion"]}
                for g in groups
            ]
        }
