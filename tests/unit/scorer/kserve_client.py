"""Scores with KServe's own client, in a process with its own packages: `python kserve_client.py URL < columns.json`."""

# mypy: ignore-errors
import asyncio
import json
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

MODEL = "credit-risk"


async def infer(client, url, columns, *, binary):
    inputs = []
    for name, values in columns.items():
        words = isinstance(values[0], str)
        inputs.append(InferInput(name, [len(values)], "BYTES" if words else "FP64"))
        inputs[-1].set_data_from_numpy(np.array(values, object if words else np.float64), binary_data=binary)
    answer = await client.infer(url, InferRequest(MODEL, inputs), model_name=MODEL)
    return {output.name: list(output.data) for output in answer.outputs}


async def main(url):
    client, columns = InferenceRESTClient(RESTConfig(protocol="v2", timeout=20)), json.load(sys.stdin)
    said = {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model ready": await client.is_model_ready(url, MODEL),
        "unknown ready": await client.is_model_ready(url, "no-such-model"),
        "as JSON": await infer(client, url, columns, binary=False),
        "as binary tensors": await infer(client, url, columns, binary=True),
    }
    print(json.dumps(said))


asyncio.run(main(sys.argv[1]))
