"""A real Chromium, and what tests of pages do with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from environments import installed


@contextmanager
def chromium(hosts: Sequence[str] = ()) -> Iterator[webdriver.Chrome]:
    """Run a browser that reaches nothing but loopback: a page must get everything from its own host.

    Args:
        hosts: Names that resolve to loopback.
    """
    binary, driver = installed("chromium", "chromedriver", packages=["chromium", "chromium-driver"])
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    rules = [*(f"MAP {host} 127.0.0.1" for host in hosts), "MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1"]
    flags = ["headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1280,1000",
             f"host-resolver-rules={', '.join(rules)}"]  # fmt: skip
    for flag in flags:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield made
    finally:
        made.quit()


def wait(browser: webdriver.Chrome, selector: str) -> WebElement:
    """Return the element once it is displayed."""

    def shown(_: object) -> WebElement | None:
        found = [element for element in browser.find_elements(By.CSS_SELECTOR, selector) if element.is_displayed()]
        return found[0] if found else None

    element = WebDriverWait(browser, 15).until(shown)
    assert element
    return element


def wait_for_text(browser: webdriver.Chrome, selector: str, words: str, seconds: float = 15) -> None:
    """Wait until an element contains these words, also if a script replaces the element meanwhile."""

    def shown(_: object) -> bool:
        return any(
            words in (e.get_attribute("textContent") or "") for e in browser.find_elements(By.CSS_SELECTOR, selector)
        )

    WebDriverWait(browser, seconds, ignored_exceptions=[StaleElementReferenceException]).until(shown)


def browser_errors(browser: webdriver.Chrome) -> list[str]:
    """Return the browser's errors: broken links, failed scripts, violations of the page's policy."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]  # type: ignore[no-untyped-call]


def assert_pages_work(browser: webdriver.Chrome, url: str) -> None:
    """Assert that a service's form scores, and that its documentation sends requests to the service.

    Args:
        browser: Shows the pages.
        url: Where the service is, without a slash at the end: the redirect to the page's folder is part of it. It asks
            for no key.
    """
    browser.get(url)
    wait(browser, "#score").click()
    assert wait(browser, "#answer").is_displayed()
    browser.find_element(By.CSS_SELECTOR, "nav a").click()
    wait(browser, ".swagger-ui .opblock-summary-path[data-path='/v1/model']").click()
    wait(browser, ".try-out__btn").click()
    wait(browser, ".execute").click()
    assert wait(browser, ".request-url pre").text == f"{url}/v1/model"
    assert wait(browser, ".live-responses-table tbody .response-col_status").text.startswith("200")
    assert not browser_errors(browser)
