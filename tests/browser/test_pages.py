"""The console in a real browser, over the demo lake: both themes, narrow and wide, keyboard only, no complaint from the browser."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
pytestmark = pytest.mark.slow

# the contrast of each text with what lies behind it, by WCAG 2's formula
CONTRAST = """() => {
  const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d', {willReadFrequently: true});
  const rgba = c => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0);
  const behind = e => { for (let n = e; n; n = n.parentElement) { const c = rgba(getComputedStyle(n).backgroundColor); if (c[3] === 255) return c; } return [255, 255, 255, 255]; };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || ['TITLE', 'DESC', 'OPTION'].includes(e.tagName.toUpperCase()) || e.closest('.hidden, .skip')) continue;
    const style = getComputedStyle(e);
    const box = e.closest('.box');
    const front = rgba(e instanceof SVGElement ? style.fill : style.color), back = box ? rgba(getComputedStyle(box.querySelector('rect')).fill) : behind(e);
    const [a, b] = [light(front), light(back)];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) bad.push(`${ratio.toFixed(2)} ${walker.currentNode.data.trim().slice(0, 40)}`);
  }
  return bad;
}"""
# every stop of the Tab key, and where it is now: the stop's number, and what keeps its focus from being seen
STOPS = """() => { window.stops = [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
  .filter(e => e.tabIndex >= 0 && e.checkVisibility()); return window.stops.length; }"""
STOP = """() => {
  const e = document.activeElement, style = getComputedStyle(e), rect = e.querySelector(':scope > rect'), at = window.stops.indexOf(e);
  if (e === document.body) return ['left the page', ''];
  const {x, y, width, height} = e.getClientRects()[0], top = document.elementFromPoint(x + width / 2, y + height / 2);
  if (e.tagName === 'A' && top !== e && !e.contains(top)) return [at, `covered by ${top && top.tagName}`];
  if (rect) return [at, getComputedStyle(rect).strokeWidth === '2px' ? '' : 'no ring'];
  if (style.outlineStyle === 'none') return [at, 'no ring'];
  const out = parseFloat(style.outlineOffset) + parseFloat(style.outlineWidth), ring = e.getBoundingClientRect();
  for (let n = e.parentElement; n !== document.documentElement; n = n.parentElement) {
    const clip = n.getBoundingClientRect();
    if (getComputedStyle(n).overflowX !== 'visible' && (ring.left - out < clip.left - .5 || ring.right + out > clip.right + .5
      || ring.top - out < clip.top - .5 || ring.bottom + out > clip.bottom + .5)) return [at, `ring cut by ${n.tagName} ${n.className}`];
  }
  return [at, ''];
}"""


@pytest.fixture(scope="module")
def site(built) -> Iterator[str]:
    lake, _ = built
    with lake.serving("127.0.0.1", 0) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM.exists(), "these tests need a browser: apt-get install chromium"
    with sync_playwright() as play:
        made = play.chromium.launch(executable_path=str(CHROMIUM), args=SWITCHES)
        yield made
        made.close()


@pytest.fixture(scope="module")
def paths(site) -> dict[str, str]:
    row = fetch(f"{site}/v1/gold/fct_daily_price?symbol=AAPL&date=2005-02-28")["data"][0]
    key = f"security_id={row['security_id']}&date=2005-02-28"
    return {
        "overview": "/",
        "gold": "/gold/fct_daily_price?symbol=AAPL",
        "gold-all": "/gold/mart_momentum_asof",
        "dim": "/gold/dim_security",
        "silver": "/silver/price_eod",
        "list": "/silver/symbol_list",
        "explain": f"/explain/fct_daily_price?{key}&column=return_1d",
        "explain-row": f"/explain/fct_daily_price?{key}",
        "explain-null": f"/explain/fct_daily_price?security_id={row['security_id']}&date=2000-03-01&column=return_1d",
        "wrong": "/gold/nope",
    }


PAGES = ["overview", "gold", "gold-all", "dim", "silver", "list", "explain", "explain-row", "explain-null", "wrong"]


def fetch(url: str) -> dict:
    with urlopen(url) as answer:
        return json.loads(answer.read(), parse_float=str, parse_int=str)


def opened(browser: Browser, url: str, *, scheme: str = "light", width: int = 1280) -> tuple[Page, list[str]]:
    """The page, and all the browser complains of."""
    said: list[str] = []
    page = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}).new_page()
    page.set_default_timeout(120_000)  # milliseconds; a loaded machine needs more than the 30 s it would wait
    page.on(
        "console", lambda one: said.append(f"{one.type}: {one.text}") if "404 (Not Found)" not in one.text else None
    )
    page.on("pageerror", lambda one: said.append(str(one)))
    page.on("requestfailed", lambda one: said.append(f"failed: {one.url}"))
    page.on(
        "request",
        lambda one: (
            said.append(f"left the lake: {one.url}")
            if not one.url.startswith(url.split("/", 3)[0] + "//127.0.0.1")
            else None
        ),
    )
    page.goto(url)
    return page, said


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_reads_well_in_both_themes_and_widths(browser, site, paths, tmp_path, name, scheme, width):
    page, said = opened(browser, site + paths[name], scheme=scheme, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CONTRAST) == []
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", paper)[0]) > 128) == (scheme == "light")
    page.screenshot(path=tmp_path / f"{name}-{scheme}-{width}.png", full_page=True)
    assert said == []
    page.context.close()


@pytest.mark.parametrize("name", ["overview", "gold", "dim", "silver", "explain", "explain-row", "wrong"])
def test_the_tab_key_stops_at_everything_in_order_and_the_focus_is_seen(browser, site, paths, name):
    page, _ = opened(browser, site + paths[name])
    wanted = page.evaluate(STOPS)
    assert 10 < wanted < 100
    reached = []
    for key in [*["Tab"] * (wanted + 1), *["Shift+Tab"] * wanted]:
        page.keyboard.press(key)
        reached.append(page.evaluate(STOP))
    assert [at for at, _ in reached] == [*range(wanted), "left the page", *reversed(range(wanted))]
    assert [one for one in reached if one[1]] == []
    page.context.close()


def test_the_keyboard_alone_leads_to_every_figure_of_a_row(browser, site, paths):
    page, said = opened(browser, site + paths["gold"])
    figures = page.eval_on_selector_all("table.cells tbody tr:first-child a", "all => all.map(a => a.textContent)")
    page.focus("table.cells tbody tr:first-child a:not([tabindex])")
    page.keyboard.press("Enter")
    page.wait_for_url("**/explain/**")
    page.evaluate(STOPS)
    texts = page.evaluate("window.stops.filter(e => e.closest('dl.row')).map(e => e.textContent)")
    assert texts == figures
    assert page.inner_text(".again .state") == "equal"
    page.focus("dl.row div:nth-child(7) a")
    page.keyboard.press("Enter")
    page.wait_for_url("**column=close")
    assert page.inner_text("output") == figures[6]
    assert said == []
    page.context.close()


def test_the_skip_link_goes_to_the_content(browser, site):
    page, _ = opened(browser, site)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.id === 'main'")
    page.context.close()


def test_from_the_overview_to_the_record_by_clicks_alone(browser, site):
    """A visitor picks a table, a symbol, a number, and ends at the line of the file it came in."""
    page, said = opened(browser, site)
    # each page is waited for whole: a click that leaves it earlier would break off what it still loads
    page.click("main a:text('fct_daily_price')")
    page.wait_for_url("**/gold/fct_daily_price")
    page.select_option("#symbol", "AAPL")
    page.click("button")
    page.wait_for_url("**symbol=AAPL*")
    assert page.inner_text("#chart") == "Close of AAPL"
    cell = page.locator("table.cells tbody tr:nth-child(2) td:nth-child(7) a")
    figure = cell.inner_text()
    cell.click()
    page.wait_for_url("**/explain/**")
    assert page.inner_text("output") == figure
    assert page.inner_text(".again .state") == "equal"
    page.click("svg a.bronze")
    record = json.loads(page.inner_text("article:target tbody tr:first-child td code"), parse_float=str)
    told = fetch(f"{site}/v1/gold/fct_daily_price?symbol=AAPL&limit=2")["data"][1]
    assert record["date"] == told["date"]
    assert float(record["adjClose"]) == float(told["close"]) == float(figure)
    assert said == []
    page.context.close()


@pytest.mark.parametrize(
    "table",
    ["gold/fct_daily_price", "gold/dim_security", "gold/mart_momentum_asof", "silver/price_eod", "silver/symbol_list"],
)
def test_the_figures_shown_are_the_apis(browser, site, table):
    page, _ = opened(browser, f"{site}/{table}")
    shown = page.evaluate(
        "[...document.querySelectorAll('table.cells tbody tr')].map(r => [...r.cells].map(c => c.textContent.trim()))"
    )
    told = fetch(f"{site}/v1/{table}?limit=50")["data"]
    wanted = [
        ["null" if c is None else str(c).lower() if isinstance(c, bool) else c.strip() for c in row.values()]
        for row in told
    ]
    assert shown == wanted
    page.context.close()


def test_a_null_is_explained_too(browser, site, paths):
    page, said = opened(browser, site + paths["explain-null"])
    assert page.inner_text("output") == "null"
    assert page.inner_text(".again .state") == "equal"
    assert said == []
    page.context.close()


# What dbt's page asks for before its script has put an address there: Chromium asks no server for it.
UNMADE = re.compile(r"\$%7Brequire|%7B%7B%20getIcon")
COLOURS = """() => { const c = [...document.querySelectorAll('canvas')].at(-1);
  return new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size; }"""
# Who tries this from a page of the console's own origin succeeds.
TRIES = """async () => {
  const tried = {}, way = (name, what) => Promise.resolve().then(what).then(() => tried[name] = true, () => tried[name] = false);
  await way('api', () => fetch('/v1/gold'));
  await way('cookies', () => document.cookie = 'a=b');
  await way('storage', () => localStorage.setItem('a', 'b'));
  await way('picture', () => new Promise((good, bad) => Object.assign(new Image(), {onload: good, onerror: bad, src: '/icon.svg'})));
  await way('frame', () => { const f = document.body.appendChild(document.createElement('iframe')); f.src = '/'; return new Promise((good, bad) =>
    setTimeout(() => { try { f.contentDocument.body.children.length ? good() : bad(); } catch { bad(); } }, 300)); });
  return tried;
}"""


def test_dbts_documentation_shows_models_and_lineage_and_reaches_nobody(browser, site):
    page, said = opened(browser, f"{site}/gold/fct_daily_price")
    page.click('a:text("dbt\'s documentation")')
    page.wait_for_url("**/dbt#!/overview")
    answered: list[str] = []
    page.on("response", lambda one: answered.append(one.url))
    assert page.evaluate("window.origin") == "null"
    for name in ("markets", "models", "gold"):
        page.click(f"a.menu-tree:has-text('{name}'):visible")
    page.click("a.menu-node[title='fct_daily_price']")
    page.wait_for_url("**/dbt#!/model/model.markets.fct_daily_price")
    assert page.locator("h1:visible").inner_text().split() == ["fct_daily_price", "table"]
    assert "DECIMAL(28,12)" in page.inner_text("tr.column-row:has(span.text-dark:text-is('total_return_index'))")
    page.click("a:text-is('Compiled'):visible")
    page.wait_for_function("!document.querySelector('code-block pre').innerText.includes('{{')")
    assert '"lake"."stg"."stg_price"' in page.inner_text("code-block pre")
    page.click("[title='View Lineage Graph']")
    page.wait_for_selector("canvas:visible")
    assert page.evaluate(COLOURS) > 10, "the graph is drawn"
    assert [one for one in said if not UNMADE.search(one)] == []
    assert page.evaluate(TRIES) == dict.fromkeys(("api", "cookies", "storage", "picture", "frame"), False)
    assert answered == []
    page.goto(f"{site}/dbt")
    page.click("a:text-is('markets'):not(li *)")
    page.wait_for_url(f"{site}/")
    assert page.inner_text("h1") == "Overview"
    page.context.close()
