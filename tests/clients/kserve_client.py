"""kserve_client.py PORT: KServe's inference client, REST and gRPC, through its whole API; runs in the SDK's environment."""
import asyncio
import inspect
import sys

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

PORT = sys.argv[1]
URL = f"http://127.0.0.1:{PORT}"
X = np.arange(12, dtype=np.float32).reshape(3, 4)
WANT = X @ np.full((4, 3), 0.25, np.float32) + np.array([1, 2, 3], np.float32)
KNOWN = {"close", "infer", "explain", "is_model_ready", "is_server_live", "is_server_ready"}


def check(name, good, detail=""):
    print(f"{'ok' if good else 'not ok'} - {name}" + ("" if good else f"   # {detail!r:.300}"), flush=True)


def request(binary, model="lin", **more):
    x = InferInput("x", [3, 4], "FP32")
    x.set_data_from_numpy(X, binary_data=binary)
    return InferRequest(model_name=model, infer_inputs=[x], **more)


async def rest():
    name = "REST"
    c = InferenceRESTClient(RESTConfig(protocol="v2"))
    public = {n for n, f in inspect.getmembers(c) if callable(f) and not n.startswith("_")}
    check(f"{name}: every method is known", public <= KNOWN, public)
    check(f"{name}: is_server_live, is_server_ready", await c.is_server_live(URL) and await c.is_server_ready(URL))
    check(f"{name}: is_model_ready", await c.is_model_ready(URL, "lin") and not await c.is_model_ready(URL, "none"))
    for binary in (True, False):
        r = await c.infer(URL, request(binary, request_id="7"), model_name="lin")
        check(f"{name}: infer, binary {binary}", np.allclose(r.outputs[0].as_numpy(), WANT) and r.id == "7", r)
        out = [RequestedOutput("y", parameters={"binary_data": binary})]
        r = await c.infer(URL, request(True, request_outputs=out), model_name="lin")
        check(f"{name}: infer, an output asked for, binary {binary}", np.allclose(r.outputs[0].as_numpy(), WANT), r)
    seen = {}
    await c.infer(URL, request(True), model_name="lin", headers={"winnow-pin": "version=1"}, response_headers=seen)
    check(f"{name}: headers both ways", seen.get("winnow-version") == "1", seen)
    try:
        await c.infer(URL, request(False, "none"), model_name="none")
        check(f"{name}: an unknown model", False)
    except httpx.HTTPStatusError as e:
        check(f"{name}: an unknown model", e.response.status_code == 404 and "'none'" in str(e), str(e))
    try:
        await c.explain(URL, "lin", {})
        check(f"{name}: explain is not offered", False)
    except Exception as e:
        check(f"{name}: explain is not offered", True, str(e))
    await c.close()


async def rpc():
    c = InferenceGRPCClient(url=f"127.0.0.1:{PORT}", retries=0)
    public = {n for n, f in inspect.getmembers(c) if callable(f) and not n.startswith("_")}
    check("gRPC: every method is known", public <= KNOWN, public)
    check("gRPC: is_server_live, is_server_ready", await c.is_server_live() and await c.is_server_ready())
    check("gRPC: is_model_ready", await c.is_model_ready("lin") and not await c.is_model_ready("none"))
    for binary in (True, False):
        r = await c.infer(request(binary, request_id="7"))
        check(f"gRPC: infer, raw {binary}", np.allclose(r.outputs[0].as_numpy(), WANT) and r.id == "7", r)
    try:
        await c.infer(request(True, "none"))
        check("gRPC: an unknown model", False)
    except grpc.RpcError as e:
        check("gRPC: an unknown model", e.code() == grpc.StatusCode.NOT_FOUND, str(e))
    await c.close()


async def main():
    await rest()
    await rpc()


asyncio.run(main())
