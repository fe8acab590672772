"""Ask the service for its model's contract, score the contract's reference applicant, and check the answer."""

import json
import sys
import urllib.request

BASE = "http://scoring:8000"

with urllib.request.urlopen(f"{BASE}/v1/model", timeout=10) as response:
    model = json.load(response)
applicant = json.dumps(model["contract"]["reference_applicant"]).encode()
request = urllib.request.Request(f"{BASE}/v1/score", applicant, {"Content-Type": "application/json"})
with urllib.request.urlopen(request, timeout=10) as response:
    answer = json.load(response)
print(json.dumps(answer))
probability = answer["probability_of_default"]
sys.exit(0 if 0.0 <= probability <= 1.0 else f"{probability} is no probability")
