"""Ask the service for its model's contract, score the contract's reference applicant, and check the answer.

Where the service wants a key or token and this pod has none, check that it lets nobody in without.
"""

import json
import os
import sys
import urllib.error
import urllib.request

BASE = "http://scoring:8000"
KEY = os.environ.get("API_KEY", "")
HEADERS = {"Content-Type": "application/json", **({"Authorization": f"Bearer {KEY}"} if KEY else {})}


def ask(path: str, body: bytes | None = None, headers: dict[str, str] = HEADERS) -> tuple[int, dict]:
    """Return the status and the JSON of an answer."""
    request = urllib.request.Request(f"{BASE}{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


if os.environ["ACCESS_MODE"] != "none":
    status, answer = ask("/v1/model", headers={})
    print(status, json.dumps(answer))
    if status != 401:
        sys.exit(f"without a key or token the answer is {status}, not 401")
    if not KEY:
        print("this pod has no key or token: no loan is scored")
        sys.exit(0)
status, model = ask("/v1/model")
if status != 200:
    sys.exit(f"/v1/model answers {status}: {model}")
status, answer = ask("/v1/score", json.dumps(model["contract"]["reference_applicant"]).encode())
print(json.dumps(answer))
if status != 200 or not 0.0 <= answer["probability_of_default"] <= 1.0:
    sys.exit(f"status {status}, and no probability")
