"""The pages in a real Chromium that reaches no other host: the form, the keyboard, errors, and /docs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from browser import assert_pages_work, browser_errors, chromium, wait
from unit.scorer.graded_model import GRADED_CONTRACT
from unit.scorer.missing_model import write_model
from unit.scorer.service_process import Service, service

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with chromium() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    async with service(model_folder, tmp_path_factory.mktemp("service")) as found:
        yield found


def fill(browser: webdriver.Chrome, name: str, text: str) -> None:
    control = browser.find_element(By.ID, f"field-{name}")
    control.clear()
    control.send_keys(text)


async def test_an_application_is_scored_and_explained(browser: webdriver.Chrome, running: Service) -> None:
    browser.get(running.url)
    wait(browser, "#score")
    assert "credit-risk, version 7" in browser.find_element(By.ID, "served").text
    fill(browser, "credit_score", "420")
    fill(browser, "interest_rate", "19.5")
    Select(browser.find_element(By.ID, "field-employment_status")).select_by_visible_text("Unemployed")
    browser.find_element(By.ID, "score").click()
    wait(browser, "#answer")
    assert browser.find_element(By.ID, "decision").text in {"Approve", "Decline"}
    assert re.search(r"Probability of default\s+\d+\.\d %", browser.find_element(By.ID, "figures").text)
    rows = browser.find_elements(By.CSS_SELECTOR, "#reasons tbody tr")
    weights = [float(row.find_elements(By.TAG_NAME, "td")[0].text) for row in rows]
    assert 1 <= len(weights) <= 4
    assert weights == sorted(weights, reverse=True)
    widths = [float(rect.get_attribute("width") or 0)
              for rect in browser.find_elements(By.CSS_SELECTOR, "#reasons rect:last-child")]  # fmt: skip
    assert widths == pytest.approx([100 * weight / weights[0] for weight in weights], abs=2)
    assert not browser_errors(browser)


async def test_the_form_and_the_documentation_work_under_a_path_prefix(
    browser: webdriver.Chrome, model_folder: Path, tmp_path: Path
) -> None:
    async with service(model_folder, tmp_path, root_path="/lending/scoring") as running:
        assert_pages_work(browser, f"{running.url}/lending/scoring")


async def test_the_form_can_be_used_by_keyboard_alone(browser: webdriver.Chrome, running: Service) -> None:
    browser.get(running.url)
    wait(browser, "#score")
    seen = []
    for _ in range(20):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        seen.append(browser.switch_to.active_element.get_attribute("id"))
        if seen[-1] == "score":
            break
    assert len([name for name in seen if name and name.startswith("field-")]) == 11
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    wait(browser, "#answer")
    assert browser.switch_to.active_element.get_attribute("id") == "result-title"


async def test_invalid_fields_are_marked_with_what_is_allowed(browser: webdriver.Chrome, running: Service) -> None:
    browser.get(running.url)
    wait(browser, "#score")
    fill(browser, "credit_score", "9000")
    fill(browser, "loan_amount", "much")
    browser.find_element(By.ID, "score").click()
    notice = wait(browser, "#problem")
    assert browser.switch_to.active_element == notice
    invalid = browser.find_elements(By.CSS_SELECTOR, "[aria-invalid=true]")
    assert {control.get_attribute("name") for control in invalid} == {"loan_amount", "credit_score"}
    assert "300 to 850" in browser.find_element(By.ID, "field-credit_score-error").text
    assert "not a number" in browser.find_element(By.ID, "field-loan_amount-error").text
    fill(browser, "credit_score", "700")
    fill(browser, "loan_amount", "9000")
    browser.find_element(By.ID, "score").click()
    wait(browser, "#answer")
    assert not browser.find_elements(By.CSS_SELECTOR, "[aria-invalid=true]")
    assert not browser.find_element(By.ID, "problem").is_displayed()


async def test_every_control_has_a_label(browser: webdriver.Chrome, running: Service) -> None:
    browser.get(running.url)
    wait(browser, "#score")
    for control in browser.find_elements(By.CSS_SELECTOR, "#fields input, #fields select"):
        assert control.accessible_name, control.get_attribute("id")
        for name in (control.get_attribute("aria-describedby") or "").split():
            assert browser.find_elements(By.ID, name)


async def test_values_may_be_left_out_where_the_model_allows_it_and_unusual_ones_are_told(
    browser: webdriver.Chrome, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    async with service(write_model(tmp_path / "model"), tmp_path) as running:
        browser.get(running.url)
        wait(browser, "#score")
        region = Select(browser.find_element(By.ID, "field-region"))
        assert [option.text for option in region.options] == ["north", "south", "Not provided"]
        assert [option.text for option in Select(browser.find_element(By.ID, "field-home")).options] == ["own", "rent"]
        assert "leave it empty" in browser.find_element(By.ID, "field-bureau_score-hint").text
        assert "leave it empty" not in browser.find_element(By.ID, "field-income-hint").text
        region.select_by_visible_text("Not provided")
        fill(browser, "bureau_score", "")
        fill(browser, "purpose", "Boat")
        browser.find_element(By.ID, "score").click()
        wait(browser, "#answer")
        assert wait(browser, "#warnings").text == "Purpose is not one of the model's categories; scored as another one."
        assert "Bureau score is not provided" in browser.find_element(By.ID, "reasons").text
        fill(browser, "purpose", "")
        fill(browser, "income", "")
        browser.find_element(By.ID, "score").click()
        wait(browser, "#problem")
        invalid = browser.find_elements(By.CSS_SELECTOR, "[aria-invalid=true]")
        assert [control.get_attribute("name") for control in invalid] == ["income"]
        fill(browser, "income", "40000")
        browser.find_element(By.ID, "score").click()
        WebDriverWait(browser, 15).until(lambda _: not browser.find_element(By.ID, "warnings").is_displayed())


async def test_a_grade_is_shown_with_the_default_rate_that_is_expected_in_it(
    browser: webdriver.Chrome, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    async with service(write_model(tmp_path / "model", **GRADED_CONTRACT), tmp_path) as running:
        # Errors of earlier tests are still in the log.
        browser_errors(browser)
        browser.get(running.url)
        wait(browser, "#score").click()
        wait(browser, "#answer")
        assert "Grade\nB- (50.0 % are expected to default)" in browser.find_element(By.ID, "figures").text
        assert not browser_errors(browser)


async def test_a_decline_shows_what_an_adverse_action_notice_says(browser: webdriver.Chrome, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    texts = {"bureau_score": "Your credit history is too weak"}
    features = [
        {**feature, "adverse_action": texts.get(feature["name"], "")} for feature in GRADED_CONTRACT["features"]
    ]
    contract = {**GRADED_CONTRACT, "features": features}
    async with service(write_model(tmp_path / "model", **contract), tmp_path) as running:
        browser.get(running.url)
        wait(browser, "#score")
        fill(browser, "bureau_score", "310")
        fill(browser, "employer", "B")
        browser.find_element(By.ID, "score").click()
        assert wait(browser, "#decision").text == "Decline"
        hints = [hint.text for hint in browser.find_elements(By.CSS_SELECTOR, "#reasons tbody .hint")]
        assert hints == ["For the notice: Your credit history is too weak"]
        fill(browser, "bureau_score", "655")
        fill(browser, "employer", "A")
        browser.find_element(By.ID, "score").click()
        WebDriverWait(browser, 15).until(lambda _: browser.find_element(By.ID, "decision").text == "Approve")
        assert "Bureau score is 655" in browser.find_element(By.ID, "reasons").text
        assert not browser.find_elements(By.CSS_SELECTOR, "#reasons tbody .hint")


async def test_the_page_asks_for_a_key_if_one_is_required(
    browser: webdriver.Chrome, model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "lender").write_text(hashlib.sha256(b"k-1").hexdigest())
    async with service(model_folder, tmp_path, access_mode="apiKeys", access_dir=tmp_path / "keys") as running:
        # Errors of earlier tests are still in the log.
        browser_errors(browser)
        browser.get(running.url)
        wait(browser, "#key").send_keys("wrong" + Keys.ENTER)
        WebDriverWait(browser, 10).until(
            lambda _: "Unknown API key" in browser.find_element(By.ID, "access-error").text
        )
        wait(browser, "#key").send_keys("k-1" + Keys.ENTER)
        wait(browser, "#score").click()
        assert wait(browser, "#answer").is_displayed()
        # The two refused requests are errors in the browser's log; nothing else is.
        assert all("401" in message for message in browser_errors(browser))


async def test_the_documentation_loads_nothing_from_other_hosts(browser: webdriver.Chrome, running: Service) -> None:
    browser.get(f"{running.url}/docs")
    wait(browser, ".swagger-ui .opblock")
    assert "/v1/score" in browser.find_element(By.ID, "swagger-ui").text
    assert not browser_errors(browser)
