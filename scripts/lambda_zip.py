"""Packs the zip of the Lambda function: the same inputs give the same bytes, wherever they lie and whenever they were made."""

import hashlib
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UNZIPPED = 250 * 10**6
"""Bytes that a function may have: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html says 250 MB."""
FIRST = (1980, 1, 1, 0, 0, 0)
# What pip writes about this machine, and what no import needs.
LEFT = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}


def files(packages: Path, lake: Path) -> Iterator[tuple[str, bytes]]:
    """What is in the zip, by name."""
    for at, below in ((packages, packages), (ROOT / "src" / "assay", ROOT / "src")):
        for path in at.rglob("*"):
            name = path.relative_to(below)
            if path.is_file() and "__pycache__" not in name.parts and name.parts[0] != "bin" and name.name not in LEFT:
                yield name.as_posix(), path.read_bytes()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    yield f"{project['name']}-{project['version']}.dist-info/METADATA", told.encode()
    yield "lake/assay.toml", (lake / "assay.toml").read_bytes()


def write(found: dict[str, bytes], output: Path) -> None:
    """The zip, sorted, each file of the same moment and readable by all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    making = output.with_name(f"{output.name}.making")
    with zipfile.ZipFile(making, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as into:
        for name in sorted(found):
            one = zipfile.ZipInfo(name, FIRST)
            one.compress_type, one.create_system, one.external_attr = zipfile.ZIP_DEFLATED, 3, 0o100644 << 16
            into.writestr(one, found[name])
    making.replace(output)


def main(packages: str, lake: str, output: str) -> int:
    """Write it, and say its size and hash."""
    if not (Path(lake) / "assay.toml").is_file():
        print(f"lambda: {lake} is no lake: it has no assay.toml", file=sys.stderr)
        return 2
    found = dict(files(Path(packages), Path(lake)))
    size = sum(map(len, found.values()))
    if size >= UNZIPPED:
        print(
            f"lambda: {size / 1e6:.0f} MB unzipped, and AWS takes less than 250: leave something out", file=sys.stderr
        )
        return 1
    write(found, Path(output))
    made = Path(output).read_bytes()
    print(
        f"{output}: {len(made) / 1e6:.1f} MB, {size / 1e6:.1f} MB unzipped, sha256 {hashlib.sha256(made).hexdigest()}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
