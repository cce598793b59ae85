"""Small servers on loopback: a token endpoint, a Secrets Manager and a Runtime API. For cost.py, and for tests that need several token
secrets, or a provider or a store that fails. Every token and client's secret in them begins with `unseen-`: see tests/check-no-secrets."""

import itertools
import json
import os
import subprocess
import tempfile
import threading
import time
import urllib.parse
import uuid
from collections import Counter
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = "127.0.0.1"
INVALID_GRANT = {"error": "invalid_grant", "error_description": 'The user said: "no more access".'}


class Responder(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def respond(self, status: int, document, headers=()):
        text = json.dumps(document).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


class Server(ThreadingHTTPServer):
    daemon_threads, block_on_close = True, False

    def handle_error(self, *_):
        """The function is killed while its connections are open: that is not an error."""


class TokenEndpoint(Responder):
    """Issues new tokens, or returns what the test has set for the path. Counts the exchanges of each path."""

    def do_POST(self):
        parameters = dict(urllib.parse.parse_qsl(self.body().decode()))
        assert parameters["grant_type"] == "refresh_token", parameters.keys()
        provider = self.server.owner
        provider.exchanges[self.path] += 1
        number = next(provider.numbers)
        tokens = {"access_token": f"unseen-access-{number}", "refresh_token": f"unseen-refresh-{number}", "expires_in": 3600}
        self.respond(*provider.responses.get(self.path, (200, tokens)))


class SecretsManager(Responder):
    """The calls that a run and a sweep make, for any number of secrets."""

    def do_POST(self):
        request, store = json.loads(self.body()), self.server.owner
        operation = self.headers["X-Amz-Target"].split(".")[1]
        with store.lock:
            self.respond(*store.result(operation, request))


class RuntimeApi(Responder):
    """Sends one event and receives the response."""

    def do_GET(self):
        invocation = self.server.owner
        if invocation.sent.is_set():
            threading.Event().wait(60)
            return
        invocation.sent.set()
        deadline = str(int((time.time() + invocation.seconds) * 1000))
        headers = {"Aws-Request-Id": "1", "Deadline-Ms": deadline, "Invoked-Function-Arn": "arn:aws:lambda:::f", "Trace-Id": "t"}
        self.respond(200, invocation.event, [(f"Lambda-Runtime-{name}", value) for name, value in headers.items()])

    def do_POST(self):
        invocation = self.server.owner
        invocation.result = json.loads(self.body())
        invocation.has_failed = self.path.endswith("/error")
        self.respond(202, {})
        invocation.responded.set()


def serve(stack: ExitStack, handler: type[Responder], owner) -> str:
    """Starts a server that ends with the stack. Returns its address."""
    server = stack.enter_context(Server((HOST, 0), handler))
    server.owner = owner
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    stack.callback(server.shutdown)
    return f"{HOST}:{server.server_port}"


class Provider:
    """Token endpoints, one for each path. `responses` has the status and the document of a path that issues no tokens."""

    def __init__(self, stack: ExitStack):
        self.responses, self.exchanges, self.numbers = {}, Counter(), itertools.count(2)
        self.url = f"http://{serve(stack, TokenEndpoint, self)}"

    def token(self, path: str, seconds_left: int, **members) -> dict:
        """The document of a token secret whose access token expires in so many seconds."""
        document = {"tokenEndpoint": self.url + path, "clientId": "client", "clientSecret": "unseen-client-secret"}
        document |= {"accessToken": "unseen-access-1", "refreshToken": "unseen-refresh-1"}
        return document | {"expiresAt": milliseconds_from_now(seconds_left)} | members


class Store:
    """Secrets with versions and labels. Counts the calls. `error` may refuse a call: it gets the operation and returns None or an error's
    type."""

    def __init__(self, stack: ExitStack, secrets: dict[str, dict], error=lambda operation: None):
        self.lock, self.error, self.calls = threading.Lock(), error, 0
        # Labels, time and text of each version, by secret and version.
        self.secrets = {
            name: {str(uuid.uuid4()): (["AWSCURRENT"], time.time(), json.dumps(document))} for name, document in secrets.items()
        }
        self.address = serve(stack, SecretsManager, self)

    def result(self, operation: str, request: dict) -> tuple[int, dict]:
        self.calls += 1
        error = self.error(operation)
        if error:
            return 400, {"__type": error, "message": "refused by the test"}
        if operation == "BatchGetSecretValue":
            return 200, self.batch(request)
        name = request["SecretId"].rsplit(":secret:", 1)[-1].removesuffix("-AbCdEf")
        found = getattr(self, operation)(name, self.secrets.get(name, {}), request)
        if found is None:
            return 400, {"__type": "ResourceNotFoundException", "message": "it does not exist"}
        return 200, {"ARN": arn(name), "Name": name} | found

    def batch(self, request: dict) -> dict:
        """All on one page."""
        if "Filters" in request:
            (prefix,) = request["Filters"][0]["Values"]
            names = [name for name in self.secrets if name.startswith(prefix)]
        else:
            names = [each.rsplit(":secret:", 1)[-1].removesuffix("-AbCdEf") for each in request["SecretIdList"]]
        stage = {"VersionStage": "AWSCURRENT"}
        found = {name: self.GetSecretValue(name, self.secrets[name], stage) for name in names if name in self.secrets}
        return {"SecretValues": [{"ARN": arn(name), "Name": name} | value for name, value in found.items()], "Errors": []}

    def GetSecretValue(self, name: str, versions: dict, request: dict) -> dict | None:
        wanted, stage = request.get("VersionId"), request.get("VersionStage", "AWSCURRENT")
        for version, (labels, created, text) in versions.items():
            if version == wanted if wanted else stage in labels:
                return {"VersionId": version, "VersionStages": labels, "CreatedDate": created, "SecretString": text}
        return None

    def PutSecretValue(self, name: str, versions: dict, request: dict) -> dict:
        version, stages = request["ClientRequestToken"], request["VersionStages"]
        assert version not in versions, "a run without others puts no version twice"
        for labels, _, _ in versions.values():
            labels[:] = [label for label in labels if label not in stages]
        versions[version] = stages, time.time(), request["SecretString"]
        return {"VersionId": version}

    def UpdateSecretVersionStage(self, name: str, versions: dict, request: dict) -> dict:
        label = request["VersionStage"]
        if "RemoveFromVersionId" in request:
            versions[request["RemoveFromVersionId"]][0].remove(label)
        if "MoveToVersionId" in request:
            versions[request["MoveToVersionId"]][0].append(label)
        return {}

    def ListSecretVersionIds(self, name: str, versions: dict, request: dict) -> dict:
        return {
            "Versions": [
                {"VersionId": id, "VersionStages": labels, "CreatedDate": created} for id, (labels, created, _) in versions.items()
            ]
        }


class Invocation:
    """One invocation of the function, by its schedule if no event is given: its result, whether it has failed, and the lines of its
    log."""

    def __init__(self, stack: ExitStack, store: Store, settings: dict[str, str], seconds: int, event: dict | None = None):
        self.event, self.seconds, self.has_failed, self.result = event or {}, seconds, True, None
        self.sent, self.responded = threading.Event(), threading.Event()
        environment = {
            "AWS_LAMBDA_RUNTIME_API": serve(stack, RuntimeApi, self), "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_LAMBDA_FUNCTION_VERSION": "1", "AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": f"http://{store.address}",
        }  # fmt: skip
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            binary = os.environ["TOKEN_REFRESHER_BIN"]
            process = subprocess.Popen([binary], env=environment | settings, stdout=output, stderr=errors)
            ends_at = time.monotonic() + seconds
            # It ends without a response if it cannot start.
            while not self.responded.wait(0.02) and process.poll() is None and time.monotonic() < ends_at:
                pass
            process.kill()
            process.wait()
            printed, errors = text_of(output), text_of(errors)
        append_to_functions_log(printed + errors)
        self.output_bytes = len(printed.encode())
        self.lines = [json.loads(line) for line in printed.splitlines()]


def text_of(file) -> str:
    file.seek(0)
    return file.read().decode()


def arn(name: str) -> str:
    return f"arn:aws:secretsmanager:eu-central-1:123456789012:secret:{name}-AbCdEf"


def milliseconds_from_now(seconds: int) -> int:
    return int(time.time() + seconds) * 1000


def append_to_functions_log(output: str) -> None:
    """tests/run searches this log for secrets."""
    with open(os.environ.get("FUNCTIONS_LOG", os.devnull), "a") as log:
        log.write(output)
