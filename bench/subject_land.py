"""Our side of the land bench: a lake that asks the local server, one window a symbol."""

import argparse
import json
import os
from datetime import date, timedelta
from pathlib import Path

import rounds
from assay.contract import odcs
from assay.lake import bronze
from assay.land import Wanted, land
from assay.land.source import SourceSettings, load
from assay.targets.local import DiskFiles, LocalSecrets
from assay.targets.sqlite import SqliteLedger
from assay.windows import Window

CONTRACT = odcs.read(rounds.HERE.parent / "lakes/markets/contracts/price_eod.yaml")


def run(lake: Path) -> None:
    asked = json.loads((lake / "asked.json").read_text())
    os.environ["ASSAY_SECRET_FMP_API_KEY"] = "bench"
    load(CONTRACT.source)
    begun = rounds.begin()
    # The bench's windows are half-open, the server's `to` is not.
    window = Window(date.fromisoformat(asked["from"]), date.fromisoformat(asked["to"]) + timedelta(days=1))
    settings = SourceSettings(asked["base"] + "/stable", "synthetic", allow_private=True, requests=1_000_000, per=1.0)
    files, ledger = DiskFiles(lake), SqliteLedger(lake / "ledger.db")
    wanted = [Wanted(CONTRACT, symbol, window, window) for symbol in asked["symbols"]]
    found = land(wanted, settings=settings, files=files, ledger=ledger, secrets=LocalSecrets(lake), run="bench")
    for one in found:
        if one.error:
            raise one.error
    parts = [part.name for entry, _ in bronze.since(files, CONTRACT.dataset, 0) for part in entry.parts]
    rounds.report(begun, files=[str(files.root / name) for name in parts])
    ledger.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["prepare", "run"])
    parser.add_argument("lake", type=Path)
    parser.add_argument("base", nargs="?")
    parser.add_argument("--symbols")
    parser.add_argument("--from", dest="start")
    parser.add_argument("--to")
    asked = parser.parse_args()
    if asked.what == "prepare":
        asked.lake.mkdir(parents=True, exist_ok=True)
        body = {"base": asked.base, "symbols": asked.symbols.split(","), "from": asked.start, "to": asked.to}
        (asked.lake / "asked.json").write_text(json.dumps(body))
        print(json.dumps({}))
    else:
        run(asked.lake)


if __name__ == "__main__":
    main()
