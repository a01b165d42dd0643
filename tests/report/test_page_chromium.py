"""The page in a real browser: it fits a phone, sorts by mouse and keyboard, is read by day and night, loads nothing."""

import json

import pytest

from mnist_loop.report.page import to_html
from mnist_loop.report.stored import StoredResults
from tests.chromium import BROWSERS, Chromium, browser
from tests.report.test_page import HOSTILE, hostile, refused
from tests.results_maker import cell, comparison, sweep

pytestmark = pytest.mark.skipif(browser() is None, reason=f"none of {', '.join(BROWSERS)} is installed")

PHONE = 360  # CSS pixels: the narrowest screen of phones in wide use
READABLE = 4.5  # the contrast that WCAG 2.2 asks of text at level AA
COLUMN = (
    "[...document.querySelectorAll('#comparison-1 table')[0].tBodies[0].rows].map(row => row.cells[{}].textContent)"
)

# Texts whose contrast with what is behind them is too small: contrast as WCAG 2.2 defines it, of computed colours.
FAINT = """(() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = channels(getComputedStyle(one).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  let seen = 0;
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    const isDrawn = element.namespaceURI.endsWith("svg");
    const style = getComputedStyle(element);
    const ink = isDrawn ? style.fill : style.color;
    if (["rgb(0, 0, 0)", "rgb(255, 255, 255)"].includes(ink) && isDrawn) continue;  // on a cell of a heat map
    const [a, b] = [light(channels(ink)), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    seen += 1;
    if (contrast < LEAST) faint.push([element.tagName, element.textContent.slice(0, 30), contrast]);
  }
  return JSON.stringify([seen, faint]);
})()""".replace("LEAST", str(READABLE))


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    tab = Chromium(tmp_path_factory.mktemp("profile"))
    yield tab
    tab.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with rates from 9 to 100 thousand, which text and number sort differently, and long names."""
    cells = tuple(cell(size, estimate=estimate) for size, estimate in ((16, 1.05), (64, 1.2), (1024, 0.9), (256, 1.1)))
    long = "a-machine-with-a-very-long-name-that-nobody-would-choose-but-that-somebody-has.jsonl"
    found = StoredResults(
        (sweep("old.json", torch="2.4.1", speed=0.9), sweep("new.json")), (comparison(long, cells=cells),), refused()
    )
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(to_html(found), encoding="utf-8")
    return file


def loud(chromium):
    """What the browser complained of: exceptions, console messages, log entries."""
    kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    return [event for event in chromium.events if event[0] in kinds]


def loaded(chromium):
    """All addresses that were asked for."""
    return [event["request"]["url"] for method, event in chromium.events if method == "Network.requestWillBeSent"]


def test_it_loads_nothing_and_complains_of_nothing(chromium, page):
    """The file itself is the only request, and our own policy lets our own style and script work."""
    chromium.open(page)
    assert chromium.run("document.fonts.ready.then(() => document.readyState)") == "complete"
    assert loaded(chromium) == [page.as_uri()]
    assert loud(chromium) == []
    assert chromium.run("getComputedStyle(document.querySelector('h1')).fontWeight") == "700"
    assert chromium.run("document.querySelectorAll('th button').length") > 10


@pytest.mark.parametrize("width", [PHONE, 768, 1280])
def test_it_fits(chromium, page, width):
    """The page itself never scrolls sideways; wide tables scroll in a box of their own, which the keyboard reaches."""
    chromium.open(page, width=width)
    assert chromium.run("innerWidth") == width
    assert chromium.run("document.documentElement.scrollWidth") == width
    each = "[...document.querySelectorAll('.scroll')].map(box => [box.scrollWidth > box.clientWidth, box.tabIndex])"
    boxes = chromium.run(each)
    assert all(tab_index == 0 for _, tab_index in boxes)
    if width == PHONE:
        assert any(scrolls for scrolls, _ in boxes)


def test_a_click_sorts_by_number(chromium, page):
    """Ascending, then descending; 118k before 35k by letters, after it by number; one heading at a time says so."""
    chromium.open(page)
    heading = "#comparison-1 table th:nth-child(4)"
    before = chromium.run(COLUMN.format(3))
    chromium.click(f"{heading} button")
    rates = chromium.run(COLUMN.format(3))
    assert chromium.run(f"document.querySelector('{heading}').ariaSort") == "ascending"
    assert rates == sorted(before, key=lambda text: float(text.removesuffix("k")))
    assert rates != sorted(before)
    chromium.click(f"{heading} button")
    assert chromium.run(COLUMN.format(3)) == rates[::-1]
    chromium.click("#comparison-1 table th:nth-child(2) button")
    assert chromium.run("document.querySelectorAll('#comparison-1 table th[aria-sort$=ending]').length") == 1
    assert [int(size) for size in chromium.run(COLUMN.format(1))] == sorted([16, 64, 256, 1024] * 2)


def test_cells_without_a_number_come_last_both_ways(chromium, page):
    """The first arm has no control: its dashes are below the figures, up or down."""
    chromium.open(page)
    for _ in range(2):
        chromium.click("#comparison-1 table th:nth-child(8) button")
        column = chromium.run(COLUMN.format(7))
        assert column[-4:] == ["-"] * 4
        assert "-" not in column[:4]


def test_the_keyboard_reaches_and_sorts(chromium, page):
    """Tab comes to the link to the content, the choice of light or dark, and a heading; Enter and space press it."""
    chromium.open(page)
    focused = "document.activeElement.{}"
    chromium.press("Tab", 9)
    assert chromium.run(focused.format("className")) == "skip"
    assert chromium.run("document.activeElement.getBoundingClientRect().left") >= 0
    chromium.press("Tab", 9)
    assert chromium.run(focused.format("id")) == "theme"
    for _ in range(60):
        chromium.press("Tab", 9)
        if chromium.run(focused.format("textContent.trim()")) == "images/s":
            break
    assert chromium.run(focused.format("tagName")) == "BUTTON"
    assert chromium.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    chromium.press("Enter", 13)
    assert chromium.run(focused.format("parentElement.ariaSort")) == "ascending"
    chromium.press(" ", 32)
    assert chromium.run(focused.format("parentElement.ariaSort")) == "descending"


def test_it_is_read_by_day_and_by_night(chromium, page):
    """Every text, in the plots too, is told from what is behind it; the two differ; a button changes over and back."""
    back = "getComputedStyle(document.body).backgroundColor"
    colours = {}
    for scheme in ("light", "dark"):
        chromium.open(page, scheme=scheme)
        colours[scheme] = chromium.run(back)
        seen, faint = json.loads(chromium.run(FAINT))
        assert seen > 100
        assert faint == []
    assert colours["light"] != colours["dark"]
    assert chromium.run("document.querySelector('#theme').textContent") == "Light"
    chromium.click("#theme")
    assert chromium.run(back) == colours["light"]
    assert json.loads(chromium.run(FAINT))[1] == []
    chromium.scheme("light")
    chromium.click("#theme")
    assert chromium.run(back) == colours["dark"]


def test_what_strangers_wrote_does_nothing(chromium, tmp_path):
    """The name is there as text; no image, no second script, no dialog, no request."""
    file = tmp_path / "report.html"
    file.write_text(to_html(hostile()), encoding="utf-8")
    chromium.open(file)
    assert chromium.run("document.images.length") == 0
    assert chromium.run("document.scripts.length") == 1
    assert chromium.run(f"document.body.innerText.includes({json.dumps(HOSTILE)})")
    assert chromium.run("document.documentElement.scrollWidth <= innerWidth")
    assert loaded(chromium) == [file.as_uri()]
    assert loud(chromium) == []
    assert not any(method == "Page.javascriptDialogOpening" for method, _ in chromium.events)


def test_the_policy_stops_a_script_that_got_in(chromium, page, tmp_path):
    """Should something ever slip through: what is not our own script or style does not run, and nothing is loaded."""
    intruder = (
        '<script>document.title = "run"</script>'
        '<img src="https://example.invalid/a.png" onerror="document.title = &quot;run&quot;">'
    )
    file = tmp_path / "report.html"
    file.write_text(page.read_text(encoding="utf-8").replace("</main>", f"{intruder}</main>"), encoding="utf-8")
    chromium.open(file)
    assert chromium.run("document.title") != "run"
    assert len(loud(chromium)) >= 2
    assert not any(address.startswith("https:") for address in _answered(chromium))


def _answered(chromium):
    return [event["response"]["url"] for method, event in chromium.events if method == "Network.responseReceived"]


def test_without_script_all_is_there(chromium, page):
    """No button that does nothing; every table is open or opens by itself."""
    chromium.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.open(page)
        document = chromium.call("DOM.getDocument", depth=0)["root"]["nodeId"]
        count = {
            selector: len(chromium.call("DOM.querySelectorAll", nodeId=document, selector=selector)["nodeIds"])
            for selector in ("th", "th button", "button[hidden]", "svg[role=img]", "tbody tr")
        }
    finally:
        chromium.call("Emulation.setScriptExecutionDisabled", value=False)
    assert count["th button"] == 0
    assert count["button[hidden]"] == 1
    assert min(count["th"], count["svg[role=img]"], count["tbody tr"]) > 5
