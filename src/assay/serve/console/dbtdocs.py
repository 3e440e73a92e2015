"""dbt's own documentation page, with what a release keeps for it put in: a page of scripts, so it is served as a stranger's."""

import re
from functools import cache
from html import escape
from importlib import metadata
from pathlib import Path

from assay.lake import docs
from assay.lake.release import Release
from assay.ports import Files
from assay.serve.console.figures import templates

HEADERS = {
    # An origin of its own, which has no cookies, no key and no answer of ours, and asks nobody for anything.
    "content-security-policy": "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    # HTML has a browser refuse a page that is sandboxed and asks for a browsing context group of its own.
    "cross-origin-opener-policy": "unsafe-none",
}
_PLACES = ("<title>dbt Docs</title>", '"MANIFEST.JSON INLINE DATA"', '"CATALOG.JSON INLINE DATA"', "</body>")


def page(files: Files, release: Release, title: str) -> bytes:
    """The page of a release, which stands on it; LakeDamaged if what the release keeps is not what was written."""
    kept = docs.read(files, release.docs, release.docs_sha256)
    stamp = templates.get_template("docs.html").render(title=title, release=release)
    named = f"<title ng-non-bindable>{escape(title)}, release {release.number}</title>"
    # Inside a script element, which no text of the project may end.
    manifest, catalog = (bytes(text).replace(b"<", b"\\u003c") for text in (kept.manifest, kept.catalog))
    before, *after = _template()
    put = (named.encode(), manifest, catalog, f"{stamp}</body>".encode())
    return before + b"".join(part for pair in zip(put, after, strict=True) for part in pair)


@cache
def _template() -> list[bytes]:
    """What `dbt docs generate --static` puts its texts into (dbt/task/docs/generate.py), cut there; dbt is not imported."""
    place = metadata.distribution("dbt-core").locate_file("dbt/task/docs/index.html")
    return re.split("|".join(map(re.escape, _PLACES)).encode(), Path(str(place)).read_bytes())
