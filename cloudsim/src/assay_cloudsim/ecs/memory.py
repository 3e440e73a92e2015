"""How much memory the processes of a task hold, where the system tells (Linux)."""

from pathlib import Path

_PAGE = 4096


def held(pid: int) -> int:
    """Bytes of all processes below one, shared pages once; 0 where nobody can say."""
    return sum(_shared_once(one) for one in _below(pid))


def surely_below(pid: int, limit: int) -> bool:
    """Whether they hold less, by a figure that counts shared pages again and again but costs little."""
    return sum(_resident(one) for one in _below(pid)) <= limit


def _below(pid: int) -> list[int]:
    found, ahead = [], [pid]
    while ahead:
        for children in Path(f"/proc/{ahead.pop()}/task").glob("*/children"):
            try:
                more = [int(one) for one in children.read_text().split()]
            except OSError:
                continue
            found += more
            ahead += more
    return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _shared_once(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
