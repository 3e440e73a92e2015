"""Measures how long the whole platform takes until it answers, against a bare Prefect server; and what it costs at rest.

    scripts/bench up [--rounds 3] [--idle 20]

Both were started once before, so that Prefect's database is made. Ours is `assay up` of `lakes/csv` with nothing due, until
it says that it is ready: server, deploy, workers, API. The yardstick is `prefect server start` of the same version, until its
health answers. Wall time: both sides wait for the same imports on the same cores. Last line: `up ratio R`.
"""

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import rounds

HERE = Path(__file__).parents[1]
BIN = HERE / ".venvs/prefect/bin"
MARK = "ASSAY_BENCH_UP"


def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def tree(mark: str) -> list[int]:
    """Every process whose environment has the mark."""
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}".encode() in (one / "environ").read_bytes().split(b"\0"):
                found.append(int(one.name))
    return found


def cpu(pids: list[int]) -> float:
    """CPU seconds of these processes and of their children that ended."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return total


def memory(pids: list[int]) -> float:
    """Megabytes of these processes, what they share counted once."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                total += int(line.split()[1]) if line.startswith("Pss:") else 0
    return total / 1024


def ended(process: subprocess.Popen[str], mark: str) -> None:
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(60)
    for pid in tree(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(10)


def ours(lake: Path, idle: float) -> rounds.Figures:
    mark, began = f"ours{time.monotonic_ns()}", time.monotonic()
    command = [BIN / "assay", "--lake", lake, "up", "--port", str(free()), "--prefect-port", str(free())]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ | {MARK: mark}
    )
    assert process.stderr
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("ready after"):
            break
    else:
        raise SystemExit("".join(said))
    found = {"ready": time.monotonic() - began, "rest": 0.0, "memory": 0.0}
    if idle:
        time.sleep(10)  # what starting left behind
        pids = tree(mark)
        before = cpu(pids)
        time.sleep(idle)
        found |= {"rest": (cpu(pids) - before) / idle, "memory": memory(pids)}
    ended(process, mark)
    process.stderr.close()
    return found


def bare(home: Path) -> rounds.Figures:
    mark, port, began = f"bare{time.monotonic_ns()}", free(), time.monotonic()
    environment = os.environ | {
        MARK: mark, "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{port}/api", "PREFECT_SERVER_UI_V2_ENABLED": "false",
    }  # fmt: skip
    process = subprocess.Popen(
        [BIN / "prefect", "server", "start", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, env=environment
    )  # fmt: skip
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5):
            break
        if process.poll() is not None:
            raise SystemExit("prefect server start ended")
        time.sleep(0.1)
    found = {"ready": time.monotonic() - began}
    ended(process, mark)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=float, default=20.0, help="seconds of rest that are measured, once")
    parser.add_argument("--limit", type=float, help="exit 1 where the ratio is above")
    asked = parser.parse_args()
    if not (BIN / "prefect").exists():
        raise SystemExit("scripts/extras prefect makes the environment that has Prefect")
    with tempfile.TemporaryDirectory(prefix="bench-up-") as root:
        lake, home = Path(root) / "lake", Path(root) / "home"
        shutil.copytree(HERE / "lakes/csv", lake)
        subprocess.run(
            [sys.executable, "-m", "assay.cli", "--lake", lake, "--quiet", "apply"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        home.mkdir()
        ours(lake, 0)
        bare(home)
        rest = ours(lake, asked.idle)
        found = rounds.interleave(
            {"assay up": lambda _: ours(lake, 0), "prefect server start": lambda _: bare(home)}, asked.rounds
        )
    print("seconds until it answers, started before")
    for name, runs in found.items():
        print(rounds.line(f"  {name}", [one["ready"] for one in runs], "s"))
    print(f"  at rest: {100 * rest['rest']:.1f} % of a core over {asked.idle:.0f} s, {rest['memory']:.0f} MB")
    rounds.close("up", rounds.ratios(found["assay up"], found["prefect server start"], "ready"), asked.limit)


if __name__ == "__main__":
    main()
