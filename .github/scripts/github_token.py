#!/usr/bin/env python3
"""Log in to Kubernetes as this GitHub job: a kubectl exec plugin that prints the job's own token.

A token is valid for five minutes; kubectl and helm call this again when it has expired. The audience is the first
argument. The job needs the permission `id-token: write`.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import urllib.parse
import urllib.request
from datetime import UTC, datetime


def main() -> int:
    """Get a token from GitHub and print it as an ExecCredential."""
    address = os.environ["ACTIONS_ID_TOKEN_REQUEST_URL"] + "&audience=" + urllib.parse.quote(sys.argv[1])
    headers = {"Authorization": f"Bearer {os.environ['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"}
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=30) as response:  # noqa: S310
        token = json.load(response)["value"]
    payload = token.split(".")[1]
    expires = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"]
    until = datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    status = {"token": token, "expirationTimestamp": until}
    kind = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    sys.stdout.write(json.dumps({**kind, "status": status}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
