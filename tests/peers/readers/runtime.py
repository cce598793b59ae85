# Runs a Python handler like Lambda, with a clock that the test sets.
"""
    python runtime.py <file with a handler>

The time is in the file CLOCK_FILE, in milliseconds since the epoch.
"""

import importlib.util
import json
import os
import sys
import time
import traceback
import urllib.request
from pathlib import Path

API = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime/invocation"


def call(path: str, body: object = None) -> tuple[str, bytes]:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{API}/{path}", data)) as response:
        return response.headers.get("lambda-runtime-aws-request-id"), response.read()


time.time = lambda: int(Path(os.environ["CLOCK_FILE"]).read_text()) / 1000
spec = importlib.util.spec_from_file_location(Path(sys.argv[1]).stem, sys.argv[1])
function = importlib.util.module_from_spec(spec)
spec.loader.exec_module(function)
while True:
    request_id, event = call("next")
    try:
        call(f"{request_id}/response", function.handler(json.loads(event), None))
    except Exception as error:
        traceback.print_exc()
        call(f"{request_id}/error", {"errorType": type(error).__name__, "errorMessage": str(error)})
