"""Fetch the served model's contract, score its reference applicant, and check the answer.

If the service requires a key or token, check first that it rejects requests without one. This pod has a key only if the
chart generated it; without a key the test ends there.
"""

import json
import os
import sys
import urllib.error
import urllib.request

BASE = "http://scoring:8000"
KEY = os.environ.get("API_KEY", "")
HEADERS = {"Content-Type": "application/json", **({"Authorization": f"Bearer {KEY}"} if KEY else {})}


def fetch(path: str, body: bytes | None = None, headers: dict[str, str] = HEADERS) -> tuple[int, dict]:
    """Send a request (a POST if it has a body) and return the status and the JSON of the answer."""
    request = urllib.request.Request(f"{BASE}{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


if os.environ["ACCESS_MODE"] != "none":
    status, answer = fetch("/v1/model", headers={})
    print(status, json.dumps(answer))
    if status != 401:
        sys.exit(f"GET /v1/model without a key or token: expected status 401, got {status}")
    if not KEY:
        print("this pod has no key or token: skip scoring")
        sys.exit(0)
status, model = fetch("/v1/model")
if status != 200:
    sys.exit(f"GET /v1/model: expected status 200, got {status}: {model}")
status, answer = fetch("/v1/score", json.dumps(model["contract"]["reference_applicant"]).encode())
print(json.dumps(answer))
if status != 200 or not 0.0 <= answer["probability_of_default"] <= 1.0:
    sys.exit(f"POST /v1/score: expected status 200 and a probability of default, got {status}: {answer}")
