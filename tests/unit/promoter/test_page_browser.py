"""The page in a real Chromium: three widths, both color schemes, changes that arrive, keyboard, names and contrast."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from browser import browser_errors, chromium, wait, wait_for_text
from promoter.page.access import KeyAccess
from promoter.page.streams import Streams
from unit.promoter.page_rollouts import (
    Clock,
    failed_state,
    hostile_state,
    judgment,
    move,
    progressing,
    promotion,
    resting,
    roll_out,
)
from unit.promoter.page_service import PageService, page_service

pytestmark = pytest.mark.slow

WIDTHS = {"phone": 360, "tablet": 768, "desktop": 1280}
PATHS = ("/", "/credit-risk/credit-risk", "/credit-risk/cards", "/credit-risk/hostile")
LIVE = "#live[data-state=live]"
# Texts with too little contrast to what is behind them (WCAG 2.2, 1.4.3), as "text: ratio".
CONTRAST = """
const parse = (color) => (color.match(/[\\d.]+/g) || []).map(Number);
const luminance = ([r, g, b]) => [r, g, b].map((part) => part / 255)
  .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = parse(getComputedStyle(at).backgroundColor);
    if (color.length === 3 || color[3] > 0) return color;
  }
  return [255, 255, 255];
};
const ratio = (one, other) => {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
const found = [];
let seen = 0;
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  const style = getComputedStyle(element);
  const line = element.matches(".chart .value, .chart .limit");
  if (!(own || line) || element.closest(".unseen, .skip") || style.display === "none") continue;
  seen += 1;
  const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
  const reached = ratio(parse(line ? style.stroke : style.color), behind(element));
  if (reached < (line || large ? 3 : 4.5)) found.push(`${element.textContent.slice(0, 40)}: ${reached.toFixed(2)}`);
}
return seen ? found : ["no text was found"];
"""
# What an accessibility checker would report, as words.
STRUCTURE = """
const found = [];
const levels = [...document.querySelectorAll("h1, h2, h3, h4")].map((heading) => Number(heading.tagName[1]));
if (levels.filter((level) => level === 1).length !== 1 || levels[0] !== 1) found.push(`headings: ${levels}`);
levels.forEach((level, index) => index && level > levels[index - 1] + 1 && found.push(`heading skipped: ${levels}`));
for (const landmark of ["header", "main"]) {
  if (document.querySelectorAll(`body > ${landmark}`).length !== 1) found.push(`landmark ${landmark}`);
}
const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
if (new Set(ids).size !== ids.length) found.push(`ids: ${ids}`);
for (const table of document.querySelectorAll("table")) {
  if (!table.caption || !table.caption.textContent.trim()) found.push("a table without a caption");
  if (![...table.querySelectorAll("th")].every((cell) => cell.scope)) found.push("a heading cell without a scope");
}
for (const image of document.querySelectorAll("svg")) {
  if (image.getAttribute("role") !== "img" || !image.getAttribute("aria-label")) found.push("an image without a name");
}
for (const part of document.querySelectorAll("[aria-labelledby]")) {
  if (!document.getElementById(part.getAttribute("aria-labelledby"))) found.push(`no label of ${part.id}`);
}
if (!document.documentElement.lang || !document.title) found.push("no language or title");
if (!document.querySelector("[role=status][aria-live=polite]")) found.push("nothing announces changes");
return found;
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with chromium() as made:
        yield made


@pytest.fixture
def clock() -> Clock:
    """A clock that agrees with the browser's at the end of a rollout with 24 analyses."""
    return Clock(time.time() - 24 * 30)


@pytest.fixture
def service(clock: Clock, browser: webdriver.Chrome) -> Iterator[PageService]:
    # Errors of earlier tests are still in the log.
    browser_errors(browser)
    with page_service(clock, root="/promotions") as found:
        yield found
        # Otherwise the browser would look for the service that has ended.
        browser.get("about:blank")


def show_all(service: PageService, clock: Clock) -> None:
    service.do(roll_out, service.board, clock, promotion("credit-risk", resting(clock.now)))
    others = {"cards": failed_state(clock.now), "mortgage": resting(clock.now), "hostile": hostile_state(clock.now)}
    for name, state in others.items():
        other = promotion(name, state)
        service.do(service.board.show, other)
        service.do(move, service.board, other, state)


def emulate(browser: webdriver.Chrome, width: int, scheme: str) -> None:
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def screenshot(browser: webdriver.Chrome, file: Path) -> bytes:
    """Keep a picture of the whole page, and return it."""
    width, height = browser.execute_script("return [innerWidth, document.documentElement.scrollHeight]")
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    file.write_bytes(base64.b64decode(shot["data"]))
    return file.read_bytes()


def script(browser: webdriver.Chrome, text: str) -> Any:
    return browser.execute_script(text)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", WIDTHS)
def test_every_page_is_readable_and_fits(
    browser: webdriver.Chrome, service: PageService, clock: Clock, tmp_path: Path, device: str, scheme: str
) -> None:
    show_all(service, clock)
    emulate(browser, WIDTHS[device], scheme)
    for path in PATHS:
        browser.get(service.url + path)
        wait(browser, LIVE)
        picture = screenshot(browser, tmp_path / f"{device}-{scheme}-{path.rpartition('/')[2] or 'list'}.png")
        assert len(picture) > 15_000, "a blank page is smaller"
        assert script(browser, "return document.documentElement.scrollWidth - innerWidth") <= 0, path
        outside = script(browser, "return [...document.querySelectorAll('section *:not(.unseen)')].filter((e) => "
                                  "e.getClientRects().length && e.getBoundingClientRect().right > innerWidth + 1 "
                                  "&& !e.closest('thead')).map((e) => e.outerHTML.slice(0, 80))")  # fmt: skip
        assert outside == [], path
        assert script(browser, CONTRAST) == [], path
        assert script(browser, STRUCTURE) == [], path
        ground = script(browser, "return getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(15, 22, 38)") == (scheme == "dark")
    assert not browser_errors(browser)


def test_a_change_arrives_without_a_reload_and_is_announced(
    browser: webdriver.Chrome, service: PageService, clock: Clock
) -> None:
    shown = promotion("credit-risk", resting(clock.now))
    service.do(roll_out, service.board, clock, shown)
    emulate(browser, 1280, "light")
    browser.get(f"{service.url}/credit-risk/credit-risk")
    wait(browser, LIVE)
    script(
        browser, "window.kept = document.getElementById('history'); window.before = document.getElementById('steps')"
    )
    state = progressing(clock.now, step_index=3, step="4/4", weight=50, verified_weight=50,
                        analysis=judgment(clock.now, 1, failed=True))  # fmt: skip
    service.do(move, service.board, shown, state)
    wait_for_text(browser, "#overview", "50 % of")
    assert "4: 50 % for 10m" in wait(browser, "[aria-current=step]").text
    said = browser.find_element(By.ID, "announcer")
    assert said.get_attribute("textContent") == "Progressing, step 4/4, weight 50 %, checks Failed"
    assert script(browser, "return window.kept.isConnected"), "what is the same stays"
    assert not script(browser, "return window.before.isConnected")
    assert not browser_errors(browser)


def test_what_somebody_opened_stays_open_and_focused(
    browser: webdriver.Chrome, service: PageService, clock: Clock
) -> None:
    shown = promotion("credit-risk", resting(clock.now))
    service.do(roll_out, service.board, clock, shown)
    for weight in range(30, 50):
        service.do(move, service.board, shown, progressing(clock.now, weight=weight, verified_weight=weight))
    emulate(browser, 1280, "light")
    browser.get(f"{service.url}/credit-risk/credit-risk")
    wait(browser, LIVE)
    script(browser, "document.querySelector('#earlier summary').focus()")
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert wait(browser, "#earlier ol").is_displayed()
    service.do(move, service.board, shown, progressing(clock.now, weight=50, verified_weight=50))
    wait_for_text(browser, "#timeline", "answers 50 %")
    assert browser.find_element(By.CSS_SELECTOR, "#earlier ol").is_displayed()
    assert browser.switch_to.active_element.text == "13 earlier events"
    assert script(browser, STRUCTURE) == []


def test_clocks_move_on_between_changes(browser: webdriver.Chrome, service: PageService, clock: Clock) -> None:
    service.do(roll_out, service.board, clock, promotion("credit-risk", resting(clock.now)))
    browser.get(f"{service.url}/credit-risk/credit-risk")
    left = wait(browser, "#next time")
    assert left.text in {"in 2m58s", "in 2m57s", "in 2m56s"}
    WebDriverWait(browser, 10, 0.1).until(lambda _: left.text == "in 2m54s")


def test_the_list_follows_new_and_deleted_promotions_and_keeps_the_focus(
    browser: webdriver.Chrome, service: PageService, clock: Clock
) -> None:
    emulate(browser, 1280, "light")
    browser.get(f"{service.url}/")
    wait(browser, LIVE)
    assert "There is no ModelPromotion" in browser.find_element(By.ID, "picture").text
    loans, cards = promotion("loans", resting()), promotion("cards", resting())
    service.do(service.board.show, loans)
    wait(browser, "main a")
    script(browser, "document.querySelector('main a').focus()")
    service.do(service.board.show, cards)
    WebDriverWait(browser, 10).until(lambda _: len(browser.find_elements(By.CSS_SELECTOR, "main a")) == 2)
    assert browser.switch_to.active_element.text == "credit-risk/loans"
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    wait(browser, "#overview")
    wait(browser, LIVE)
    service.do(service.board.forget, loans.owner)
    wait_for_text(browser, "#live", "Deleted")
    assert browser.find_element(By.ID, "announcer").get_attribute("textContent") == "This ModelPromotion was deleted"
    assert not browser_errors(browser)


def test_the_keyboard_reaches_everything_in_order_and_shows_where_it_is(
    browser: webdriver.Chrome, service: PageService, clock: Clock
) -> None:
    show_all(service, clock)
    emulate(browser, 1280, "light")
    browser.get(f"{service.url}/credit-risk/credit-risk")
    wait(browser, LIVE)
    order = []
    for _ in range(2):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        focused = browser.switch_to.active_element
        order.append(focused.accessible_name)
        assert focused.value_of_css_property("outline-style") == "solid"
        assert focused.rect["y"] >= 0
    assert order == ["Skip to the content", "All model promotions"]
    browser.get(f"{service.url}/")
    wait(browser, LIVE)
    browser.switch_to.active_element.send_keys(Keys.TAB)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("id") == "main"
    browser.switch_to.active_element.send_keys(Keys.TAB)
    assert browser.switch_to.active_element.accessible_name == "credit-risk/cards"


def test_hostile_texts_stay_text(browser: webdriver.Chrome, service: PageService, clock: Clock) -> None:
    show_all(service, clock)
    for path in ("/", "/credit-risk/hostile"):
        browser.get(service.url + path)
        wait(browser, LIVE)
        assert "<script>document.title=" in browser.find_element(By.ID, "main").text
        assert browser.title != "taken"
        assert not browser.find_elements(By.CSS_SELECTOR, "main script, main img")
    assert not browser_errors(browser)


def test_the_page_works_without_scripts(browser: webdriver.Chrome, service: PageService, clock: Clock) -> None:
    show_all(service, clock)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(f"{service.url}/credit-risk/credit-risk")
        text = browser.find_element(By.TAG_NAME, "body").text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    for words in ("As of 20", "step 2/4", "in 2m58s", "DecisionShift", "Version 6"):
        assert words in text
    assert service.streams.clients == 0


def test_a_browser_sends_the_key_with_the_events_too(browser: webdriver.Chrome, clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "on-call").write_text(hashlib.sha256(b"k-1").hexdigest())
    browser_errors(browser)
    with page_service(clock, access=KeyAccess(tmp_path)) as service:
        service.do(service.board.show, promotion("loans", resting(clock.now)))
        # As if it had been typed into the browser's dialog, which no driver can reach.
        browser.get(service.url.replace("http://", "http://on-call:k-1@") + "/")
        browser.get(f"{service.url}/credit-risk/loans")
        wait(browser, LIVE)
        assert service.streams.clients == 1
        assert browser.get_cookies() == []
        assert not browser_errors(browser)
        browser.get("about:blank")


def test_a_browser_that_was_refused_comes_back(browser: webdriver.Chrome, clock: Clock) -> None:
    streams = Streams(0)
    with page_service(clock, streams=streams) as service:
        browser.get(f"{service.url}/")
        wait(browser, "#live[data-state=lost]")
        streams._most = 1
        WebDriverWait(browser, 20).until(lambda _: browser.find_elements(By.CSS_SELECTOR, LIVE))
        browser.get("about:blank")
    browser_errors(browser)
