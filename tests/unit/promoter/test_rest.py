"""The client of the API server, against a server that answers as real ones do."""

from __future__ import annotations

from collections.abc import AsyncIterator

import kopf
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from promoter.adapters.rest import KubeClient

LISTS = {
    # Kubernetes writes an empty list of metadata without items.
    "empty": {"kind": "PartialObjectMetadataList", "metadata": {}, "items": None},
    "two": {"kind": "PartialObjectMetadataList", "items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]},
}


@pytest.fixture
async def kube() -> AsyncIterator[KubeClient]:
    async def listed(request: web.Request) -> web.Response:
        assert "as=PartialObjectMetadataList" in request.headers["Accept"]
        found = LISTS.get(request.query["labelSelector"])
        return web.json_response(found or {"message": "not found"}, status=200 if found else 404)

    app = web.Application()
    app.router.add_get("/api/v1/namespaces/bank/configmaps", listed)
    async with TestServer(app) as server:
        client = KubeClient(lambda: kopf.ConnectionInfo(server=str(server.make_url("/"))), 5)
        yield client
        await client.close()


@pytest.mark.parametrize(("selector", "names"), [("empty", set()), ("two", {"a", "b"}), ("absent", set())])
async def test_names_are_listed_without_their_objects(kube: KubeClient, selector: str, names: set[str]) -> None:
    assert await kube.names("/api/v1/namespaces/bank/configmaps", selector) == names
