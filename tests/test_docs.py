"""The docs are true: every block runs, every command, setting, error, effect, law and word has its entry, every link leads somewhere.

`python -m tests.test_docs` writes docs/cli.md anew.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from assay import cli, crash, errors, settings
from assay.build import dbt
from assay.contract import rules, syntax
from tests import odcs

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("lakes/*/README.md")),
]
FENCE = re.compile(r"^```(\w*)[ \t]*(?:file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\n$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file it becomes, its text, why it is not run."""

    line: int
    language: str
    file: str | None
    text: str
    not_run: str | None


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    text = page.read_text()
    for found in FENCE.finditer(text):
        before = text[: found.start()]
        skipped = NOT_RUN.search(before)
        yield Block(before.count("\n") + 1, found[1], found[2], found[3], skipped[1] if skipped else None)


def script(page: Path) -> str:
    """All that a page says to do, as one shell script: files are written, `sh` and `python` are run."""
    out = ["set -euo pipefail"]
    for one in blocks(page):
        if one.not_run:
            continue
        if one.file:
            out += [
                f"mkdir -p {shlex.quote(str(Path(one.file).parent))}",
                f"cat > {one.file} <<'=== END ==='\n{one.text}=== END ===",
            ]
        elif one.language == "sh":
            out += [f"echo '=== line {one.line}'", one.text]
        elif one.language == "python":
            out += [f"echo '=== line {one.line}'", f"python - <<'=== END ==='\n{one.text}=== END ==="]
    return "\n".join(out) + "\n"


def relative(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


WITH_PREFECT = {"docs/operate.md"}
"""Pages whose `assay` is the one of the environment that has Prefect."""
RUN = [page for page in PAGES if any(one.language in ("sh", "python") and not one.not_run for one in blocks(page))]
SEEN = {
    "README.md": [
        "16490.1",
        "(equal)",
        "quantity:type",
        '{"trade_id":"T-0003"',
        "'symbol': 'AAPL'",
        "land price_eod AAPL",
    ],
    "CONTRIBUTING.md": ["amount = 124.50 USD", "(equal)", "1 batch of 1 row"],
    "docs/api.md": ["['AAPL', 'IBM']", "cursor=", "AAPL,16490.100000", "'equal': True"],
    "docs/backfill.md": ["48 windows", "running", "paused", "done", "nothing is missing"],
    "docs/decide.md": [
        "price 184.250000 → 184.260000",
        "written by hand by ada",
        "deleted by ada: it was cancelled",
        "11 versions are the same",
        "trades is paused by ada",
        "nothing is missing",
        "1 captured row written by hand",
        "1 batch, 10 rows: every place agrees",
    ],
    "docs/environments.md": [
        "gold.mart_position",
        "there is no data of environment 'prdo'; there is dev, prod",
        "exit code 2",
    ],
    "docs/erase.md": [
        "would erase trades: 2 keys, 2 lines, 1 kept answer in 1 position",
        "exit code 1",
        "no file of the lake's data holds it",
        "2 erased",
        "every place agrees",
    ],
    "docs/gold.md": ["mart_month.yml: to paste and fill in", "exit code 2", "2024-01-01", "(equal)", "ERROR=0"],
    "docs/keys.md": [
        "`assay keys create NAME` makes one",
        "exit code 2",
        "no key: 401",
        "by a program: 200",
        "by a browser: 200",
        "revoked: 401",
        "revoked: research, reads trades and gold made of these alone",
    ],
    "docs/lineage.md": ["COMPLETE build", "gold.mart_position.cost: silver.trades.quantity silver.trades.price"],
    "docs/operate.md": [
        "ready after",
        '"symbol":"AAPL"',
        "change pool ingest\n         concurrency_limit: 4 -> 2\n",
        "exit code 1",
        "0 added, 2 changed, 0 removed",
        "Prefect holds what this lake wants",
        "1 of 1 windows  apply",
        "\nstopped\n",
    ],
    "docs/recover.md": [
        "trades: 10 versions are the same",
        "gold.mart_position: the same, 4 rows",
        "duckdb is lost; `assay build` makes it anew",
        "ndjson.gz is named by the lake but is not there; restore it from a copy",
        "this lake was moved",
    ],
    "docs/upgrade.md": [
        "there is nothing to do: the lake has format 2",
        "nothing was changed; without --dry-run it is done",
        "upgraded from format 1 to 2",
        "trades: 10 versions are the same",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=relative)
def test_what_a_page_says_to_do_works_in_an_empty_directory(page: Path, tmp_path: Path) -> None:
    environment = {n: value for n, value in os.environ.items() if n == dbt.SHARED or not n.startswith("ASSAY_")}
    place = ROOT / ".venvs/prefect/bin" if relative(page) in WITH_PREFECT else Path(sys.executable).parent
    environment["PATH"] = f"{place}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script(page)], check=False, cwd=tmp_path, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    for words in SEEN[relative(page)]:
        assert words in done.stdout, f"{words}\n{done.stdout[-6000:]}"


def test_the_pages_that_run_are_those_that_are_checked() -> None:
    assert [relative(page) for page in RUN] == list(SEEN)


def test_what_is_not_run_is_listed_with_its_reason() -> None:
    skipped = [f"{relative(page)}: {one.not_run}" for page in PAGES for one in blocks(page) if one.not_run]
    assert skipped == (ROOT / "docs/not-run.txt").read_text().splitlines()


# ------------------------------------------------------------------ names have entries


def commands(group: click.Group = cli.cli, prefix: str = "assay") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with the words that call it."""
    for name, one in group.commands.items():
        if isinstance(one, click.Group):
            yield from commands(one, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", one


def cli_page() -> str:
    """docs/cli.md, as --help says it."""

    def told(name: str, one: click.Command) -> str:
        context = click.Context(
            one, info_name=name, terminal_width=100, max_content_width=100, help_option_names=["-h", "--help"]
        )
        return f"```text\n{one.get_help(context)}\n```\n"

    head = "# Commands\n\nWritten by `scripts/docs write` from `--help`; what each may answer stands in [faults](faults.md).\n\n"
    return head + told("assay", cli.cli) + "".join(f"\n## {name}\n\n{told(name, one)}" for name, one in commands())


def test_the_page_of_commands_is_what_help_says() -> None:
    assert (ROOT / "docs/cli.md").read_text() == cli_page(), "run `scripts/docs write`"


def odcs_page(text: str) -> str:
    """docs/contract.md with the table of keys as the code has it."""
    return re.sub(r"(?<=\n)\| key \| \| meaning here \|\n(?:\|.*\n)*", lambda _: odcs.table(), text)


def test_the_table_of_keys_is_what_the_code_says() -> None:
    text = (ROOT / "docs/contract.md").read_text()
    assert odcs.table() in text, "run `scripts/docs write`"
    assert text == odcs_page(text)


def rows(page: str, heading: str | None = None) -> list[list[str]]:
    """The cells of a page's tables, below a heading if one is named."""
    text = (ROOT / page).read_text()
    if heading:
        assert f"\n## {heading}\n" in text, heading
        text = re.split(r"^## ", text.split(f"\n## {heading}\n", 1)[1], flags=re.MULTILINE)[0]
    found = [
        [cell.strip() for cell in line.strip("|\n").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return [
        one
        for i, one in enumerate(found)
        if not set(one[0]) <= set("-: ") and not (i + 1 < len(found) and set(found[i + 1][0]) == {"-"})
    ]


def test_every_setting_has_a_row() -> None:
    assert {one[0] for one in rows("docs/settings.md", "[lake]")} == {f"`lake.{key}`" for key in settings._LAKE}
    assert {one[0] for one in rows("docs/settings.md", "[upkeep]")} == {f"`upkeep.{key}`" for key in settings._UPKEEP}
    assert {one[0] for one in rows("docs/settings.md", "[source.NAME]")} == {
        f"`source.NAME.{key}`" for key in settings._SOURCE
    }
    listed = {one[0] for one in rows("docs/settings.md", "[alert.NAME]")}
    assert listed == {f"`alert.NAME.{key}`" for key in settings._ALERT} | {f"`{word}`" for word in settings.WHEN}


@pytest.mark.parametrize(
    ("heading", "keys"),
    [
        ("customProperties of the contract", syntax._OURS),
        ("customProperties of a column", syntax._COLUMN_OURS),
        ("customProperties of a rule", rules.OURS),
    ],
)
def test_every_property_of_a_contract_has_a_row(heading: str, keys: set[str]) -> None:
    assert {key for one in rows("docs/contract.md", heading) for key in re.findall(r"`(\w+)`", one[0])} == keys


def test_every_error_has_a_row_with_its_exit_code() -> None:
    classes = {
        name: one for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.AssayError)
    }
    listed = {one[0]: int(one[1]) for one in rows("docs/faults.md", "Errors and exit codes")}
    assert listed == {name: one.exit_code for name, one in classes.items()}


def test_every_effect_has_a_row_in_the_order_of_its_step() -> None:
    assert tuple(one[0].strip("`") for one in rows("docs/faults.md", "Effects")) == crash.EFFECTS


def test_every_law_has_its_tests_or_says_what_it_waits_for() -> None:
    found = re.split(r"^## (\d+)\. .*\n", (ROOT / "docs/laws.md").read_text(), flags=re.MULTILINE)
    laws = dict(zip(found[1::2], found[2::2], strict=True))
    assert list(laws) == [str(n) for n in range(1, 13)]
    for number, law in laws.items():
        assert "\nTests: `tests/" in law, number


def test_every_test_a_page_names_exists() -> None:
    named = {
        (relative(page), one)
        for page in PAGES
        for one in re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", page.read_text())
    }
    assert len(named) > 40
    for page, one in named:
        path, _, function = one.partition("::")
        assert (ROOT / path).is_file(), f"{page}: {path}"
        assert not function or f"def {function}(" in (ROOT / path).read_text(), f"{page}: {one}"


def test_every_fault_names_who_acts_and_a_test() -> None:
    for heading in ("The source", "The records", "The machine", "Gold and its readers"):
        for fault, happens, acts, test in rows("docs/faults.md", heading):
            assert happens, fault
            assert acts, fault
            assert "::test_" in test, fault


def test_words_have_one_meaning_each_and_are_in_use() -> None:
    words = [one[0] for one in rows("docs/words.md")]
    assert words == sorted(set(words))
    assert 60 <= len(words) <= 100
    assert len({one[1] for one in rows("docs/words.md")}) == len(words)
    used = "\n".join(path.read_text() for path in [*ROOT.glob("src/assay/**/*.py"), *PAGES] if path.name != "words.md")
    for word in words:
        assert re.search(rf"\b{word}", used, re.IGNORECASE), f"nobody says {word}"


def test_every_room_has_a_row() -> None:
    rooms = {
        path.name
        for path in (ROOT / "src/assay").iterdir()
        if path.name not in ("__init__.py", "__main__.py", "__pycache__")
    }
    text = " ".join(one[0] for one in rows("docs/design.md", "Rooms"))
    assert {room.removesuffix(".py") for room in rooms if room != "py.typed"} == {
        one.strip("/").removesuffix(".py") for one in re.findall(r"`([\w./]+)`", text)
    }


def test_decisions_are_numbered_and_say_why() -> None:
    found = sorted((ROOT / "docs/decisions").glob("*.md"))
    for number, path in enumerate(found, 1):
        text = path.read_text()
        assert path.name.startswith(f"{number:04}-")
        assert text.startswith(f"# {number:04} ")
        assert [one for one in ("**Decision.**", "**Why.**", "**Evidence.**") if one not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_link_leads_to_something_that_is_here(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    headings = {
        re.sub(r"[^\w -]", "", one.lower()).strip().replace(" ", "-")
        for one in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        assert not path or (page.parent / path).exists(), target
        assert path or anchor in headings, target


if __name__ == "__main__":
    (ROOT / "docs/cli.md").write_text(cli_page())
    page = ROOT / "docs/contract.md"
    page.write_text(odcs_page(page.read_text()))
