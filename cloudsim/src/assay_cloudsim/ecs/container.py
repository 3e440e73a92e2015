"""The first process of a task: starts the command, passes SIGTERM on, and kills all of its session when its stdin is closed.

Run as a script with nothing of the package, since each task pays for its start.
"""

import os
import signal
import subprocess
import sys
import threading


def main(command: list[str]) -> int:
    """The command's exit code, as a shell says it: 128 and the number of the signal that ended it."""
    asked = threading.Event()
    children: list[subprocess.Popen[bytes]] = []

    def stop(*_: object) -> None:
        asked.set()
        for child in children:
            child.terminate()

    signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=_tether, daemon=True).start()
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"exec: {command[0]!r}: {error.strerror}", file=sys.stderr, flush=True)
        return 126
    children.append(child)
    if asked.is_set():
        child.terminate()
    code = child.wait()
    return code if code >= 0 else 128 - code


def _tether() -> None:
    while os.read(0, 512):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
