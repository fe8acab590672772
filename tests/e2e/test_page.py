"""The operator's page on a real cluster: behind the ingress, with a key, and live in a browser during a rollout."""

from __future__ import annotations

import base64
import http.client

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from browser import browser_errors, chromium, wait, wait_for_text
from e2e import model_versions as versions
from e2e.namespace import OPERATOR_NAMESPACE, PAGE_HOST
from e2e.parallel import promotion_scenario
from e2e.promotion import STAYS_AT_30_PERCENT
from e2e.scenario import Scenario

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
PATIENCE_SECONDS = 120


def answer(scenario: Scenario, path: str, key: str = "") -> tuple[int, str]:
    """Return status and body of a GET through the ingress."""
    port = scenario.namespace.environment.stack.cluster.ports.http
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers={"Host": PAGE_HOST, **({"X-API-Key": key} if key else {})})
        found = connection.getresponse()
        return found.status, found.read().decode()
    finally:
        connection.close()


@promotion_scenario(steps=STAYS_AT_30_PERCENT)
def test_a_rollout_is_followed_in_a_browser_by_whoever_has_the_key(scenario: Scenario) -> None:
    environment, name = scenario.namespace.environment, scenario.namespace.name
    read_key = ("get", "secret", "operator-page-key", "-o", "jsonpath={.data.key}")
    key = base64.b64decode(environment.kubectl(OPERATOR_NAMESPACE, *read_key)).decode()
    promotion = scenario.promotion.name
    for path in ("/promotions/", f"/promotions/{name}/{promotion}", f"/promotions/{name}/{promotion}/events"):
        assert answer(scenario, path)[0] == 401
        assert answer(scenario, path, "wrong")[0] == 401
    assert answer(scenario, "/metrics", key)[0] == 404
    status, listed = answer(scenario, "/promotions/", key)
    assert (status, f"/promotions/{name}/{promotion}" in listed) == (200, True)

    address = f"{PAGE_HOST}:{environment.stack.cluster.ports.http}/promotions"
    with chromium([PAGE_HOST]) as browser:
        browser.get(f"http://on-call:{key}@{address}/")
        browser.get(f"http://{address}/{name}/{promotion}")
        wait(browser, "#live[data-state=live]")
        version = scenario.roll_out(versions.good)
        wait_for_text(browser, "#overview", "30 % of the applicants are answered", PATIENCE_SECONDS)
        wait_for_text(browser, "#announcer", "weight 30 %", PATIENCE_SECONDS)
        wait_for_text(browser, "#versions h3", f"Version {version} canary, 30 %", PATIENCE_SECONDS)
        wait_for_text(browser, "#versions .pods li", "Ready", PATIENCE_SECONDS)
        WebDriverWait(browser, PATIENCE_SECONDS).until(
            lambda _: browser.find_elements(By.CSS_SELECTOR, "#checks svg.chart")
        )
        scenario.promotion.act("abort")
        wait_for_text(browser, "#history", "RolledBack", PATIENCE_SECONDS)
        wait_for_text(browser, "#timeline", "action abort was performed", PATIENCE_SECONDS)
        assert not browser_errors(browser)
    scenario.assert_rolled_back(version, "Aborted")
