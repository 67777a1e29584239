"""test_openapi.py: /openapi.json is valid OpenAPI 3.1, has every route, and real answers are what it says they are.

Needs openapi-spec-validator in the test environment. Prints TAP-like lines."""
import json
import os
import pathlib
import re
import sys
import tempfile
import urllib.parse

import jsonschema
from openapi_spec_validator import OpenAPIV31SpecValidator

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common  # noqa: E402
from common import check, end, wait_for  # noqa: E402

CONFIG = """
server: {listen: ["127.0.0.1:0"]}
models: {repositories: [repo], state: state, poll: 200ms, settle: 0}
jobs: {worker: %s, evaluator: %s}
"""


def table():
    """Method and path of every ROUTE line, as the sources have them."""
    root = pathlib.Path(__file__).resolve().parents[2]
    text = "".join((root / "daemon" / room / "routes.def").read_text() for room in ("api", "jobs"))
    return set(re.findall(r'^ROUTE\((\w+), *"([^"]*)"', text, re.M))


NAMES = {"{m}": "{model}", "{v}": "{version}", "{f}": "{file}", "{j}": "{job}", "{r}": "{name}"}


def spelt(path):
    for short, name in NAMES.items():
        path = path.replace(short, name)
    return path


def checker(doc):
    def judge(name, operation, status, text, kind):
        """The answer's body against the schema that the operation gives it."""
        replies = operation["responses"]
        reply = replies.get(str(status), replies["default"])
        content = reply.get("content", {})
        if not content:
            return check(f"{name}: {status}, no body", text == b"", text[:200])
        media = kind.partition(";")[0]
        if media not in content:
            return check(f"{name}: {status}, {media} is declared", False, (media, list(content)))
        schema = content[media].get("schema")
        if schema is None:
            return check(f"{name}: {status}, {media}", True)
        value = json.loads(text)
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "components": doc["components"], **schema}
        errors = [e.message for e in jsonschema.Draft202012Validator(schema).iter_errors(value)]
        check(f"{name}: {status}, as {schema.get('$ref', '')[21:]}", not errors, (errors[:3], value))
    return judge


def main():
    with tempfile.TemporaryDirectory() as tmp:
        common.make_base(f"{tmp}/repo/shapes/1")
        d = common.Daemon(tmp, CONFIG % (common.WORKER, common.CLI))
        try:
            wait_for(lambda: d.curl("/v2/health/ready")[0] == 200)
            status, doc = d.curl("/openapi.json")
            check("there is a document", status == 200 and doc["openapi"] == "3.1.0", doc)
            errors = [f"{e.message} at {list(e.absolute_path)[:6]}" for e in OpenAPIV31SpecValidator(doc).iter_errors()]
            check("it is OpenAPI 3.1", not errors, errors[:3])
            there = {(m.upper(), p) for p, item in doc["paths"].items() for m in item}
            want = {(m, spelt(p)) for m, p in table()}
            check(f"it has all {len(want)} routes and no others", there == want, there ^ want)
            ids = [o["operationId"] for item in doc["paths"].values() for o in item.values()]
            check("operation ids are unique", len(ids) == len(set(ids)), ids)
            walk(d, doc)
        finally:
            code = d.stop()
            check("it drains and ends", code == 0, code)
    return end()


def walk(d, doc):
    import http.client
    judge = checker(doc)

    def ask(method, path, body=None, kind=None, **values):
        target = path
        for name, value in values.items():
            target = target.replace("{" + name + "}", urllib.parse.quote(str(value), safe=""))
        c = http.client.HTTPConnection("127.0.0.1", d.port, timeout=60)
        c.request(method, target, body, {"Content-Type": kind} if kind else {})
        r = c.getresponse()
        text = r.read()
        judge(f"{method} {path.partition('?')[0]}", doc["paths"][path.partition("?")[0]][method.lower()], r.status,
              text, r.getheader("content-type") or "")
        c.close()
        return r.status, text
    picture = common.png(common.SIDE, common.SIDE, [0] * common.SIDE ** 2)
    _, text = ask("PUT", "/v1/files/{file}?purpose=fine-tune", b"bytes", file="a.zip")
    file_id = json.loads(text)["id"]
    values = {"model": "shapes", "version": 1, "file": file_id, "job": "ftjob-0", "name": "region"}
    x = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [__import__("base64").b64encode(
        picture).decode()], "parameters": {"content_type": "base64"}}]}
    for path in ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"):
        check(f"POST {path} works", ask("POST", path, json.dumps(x), **values)[0] == 200)
        ask("POST", path, picture, "image/png", **values)
        ask("POST", path, "{", **values)
        y = json.loads(json.dumps(x))
        y["parameters"] = {"binary_data_output": True}
        ask("POST", path, json.dumps(y), **values)
    gets = [p for p, item in doc["paths"].items() if "get" in item]
    codes = {p: ask("GET", p, **values)[0] for p in gets}
    check(f"{len(gets)} GETs", sum(c == 200 for c in codes.values()) >= len(gets) - 8, codes)
    for p in gets:
        if "{model}" in p:
            ask("GET", p, **{**values, "model": "nobody"})
    for p in ("/v2/repository/index", "/v2/repository/{name}/index", "/v2/repository/{name}/models/{model}/load",
              "/v2/repository/{name}/models/{model}/unload", "/v2/trace/setting", "/v2/models/{model}/trace/setting",
              "/v2/logging", "/v2/systemsharedmemory/region/{name}/register", "/v2/systemsharedmemory/unregister",
              "/v2/systemsharedmemory/region/{name}/unregister", "/v2/cudasharedmemory/region/{name}/register",
              "/v2/cudasharedmemory/unregister", "/v2/cudasharedmemory/region/{name}/unregister",
              "/v2/repository/models/{model}/load", "/v2/repository/models/{model}/versions/{version}/promote",
              "/v2/repository/models/{model}/rollback", "/v2/repository/models/{model}/unload",
              "/v1/fine_tuning/jobs/{job}/cancel", "/v1/fine_tuning/jobs/{job}/promote", "/v1/fine_tuning/jobs"):
        ask("POST", p, "{}", **values)
    ask("DELETE", "/v1/files/{file}", **values)
    ask("DELETE", "/v1/files/{file}", **values)


if __name__ == "__main__":
    sys.exit(main())
