"""A Lambda function in Python that calls an API with the token kept by token-refresher, read through the AWS
Parameters and Secrets Lambda Extension; it imports the standard library only.

Runtime python3.11 or newer, handler `python_extension.handler`, timeout 30 seconds or more, and the layer
AWS-Parameters-and-Secrets-Lambda-Extension of your Region. Its role needs:

    {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "<the secret's ARN>"}
    {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "<the refresher's ARN>"}

Settings: SECRET_ID, API_URL, and, with the second statement, REFRESHER_FUNCTION (name or ARN), which is asked for a
new token when the API refuses the current one. `{"paths": ["/v1/orders"]}` is answered with what the API said to each.

The extension answers from a cache of its own for SECRETS_MANAGER_TTL seconds (300, the most it can be) and cannot be
told to read past it; for tokens that live for less than 20 minutes set a quarter of their lifetime. A version that is
asked for by its id is always right, since a version never changes: after a refusal the refresher tells the id of the
current one. Where SECRET_ID is a secret that tokens are published to (`publishTo`), TOKEN_SECRET_ID names the token
secret.
"""

import hmac
import json
import os
import time
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from http.client import HTTPException
from urllib.parse import quote, urlencode, urlsplit

SECRET_ID, API_URL = os.environ["SECRET_ID"], os.environ["API_URL"]
REFRESHER_FUNCTION = os.environ.get("REFRESHER_FUNCTION")
TOKEN_SECRET_ID = os.environ.get("TOKEN_SECRET_ID", SECRET_ID)
# Where the refresher's report has the id of the version that is current in the secret read here.
CURRENT = "versionId" if TOKEN_SECRET_ID == SECRET_ID else "publishedVersionId"
EXTENSION_PORT = os.environ.get("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", "2773")

MARGIN_SECONDS = 60  # this long before its expiry a token is looked for anew,
PAUSE_SECONDS = 5  # and again this often, until the new one is there
UNKNOWN_SECONDS = 120  # how long a token is used that does not say when it expires
WAIT_SECONDS = 15  # for a refresh that was asked for
ASK_SECONDS = 600  # at most one request in this time: an API that refuses all would use up the secret's versions


class AsAnswered(urllib.request.HTTPErrorProcessor):
    """Follows no redirect, which would take the token along, and makes no exception of a status."""

    def http_response(self, _request, response):
        return response

    https_response = http_response


web = urllib.request.build_opener(AsAnswered)


@dataclass
class Token:
    text: str = field(repr=False)
    version_id: str
    expires_at: float  # seconds since the epoch
    look_again_at: float


class StoreFailed(Exception):
    """For now, as it seems."""


# Plain variables: an execution environment runs one invocation at a time, so there is nothing to lock.
cached: Token | None = None
refused_text: str | None = None
asked_at = -ASK_SECONDS


def seconds_since_epoch(moment) -> float:
    """Milliseconds or seconds, as a number or a string of digits, or RFC 3339."""
    try:
        number = float(moment)
    except ValueError:
        return datetime.fromisoformat(moment).timestamp()
    return number / 1000 if number >= 1e11 else number


def read(**version) -> Token:
    query = urlencode({"secretId": SECRET_ID} | (version or {"versionStage": "AWSCURRENT"}))
    # Only in an invocation: before the first one the extension is not ready.
    headers = {"X-Aws-Parameters-Secrets-Token": os.environ["AWS_SESSION_TOKEN"]}
    request = urllib.request.Request(f"http://localhost:{EXTENSION_PORT}/secretsmanager/get?{query}", headers=headers)
    try:
        with web.open(request, timeout=5) as response:
            status, body = response.status, response.read()
    except (OSError, HTTPException) as error:
        raise StoreFailed(f"the extension did not answer: {error}") from error
    if status >= 500 or status == 429:
        raise StoreFailed(f"the extension answered {status}")
    if status != 200:
        raise RuntimeError(f"the extension answered {status} for {SECRET_ID}; is it there, may the role read it?")
    answer = json.loads(body)
    secret = json.loads(answer["SecretString"])
    text = secret.get("accessToken") or secret.get("access_token")
    if not text:
        raise RuntimeError(f"{SECRET_ID} holds no access token; has the refresher run?")
    moment, now = secret.get("expiresAt") or secret.get("expires_at"), time.time()
    expires_at = seconds_since_epoch(moment) if moment else now + UNKNOWN_SECONDS
    return Token(text, answer["VersionId"], expires_at, max(expires_at - MARGIN_SECONDS, now + PAUSE_SECONDS))


def access_token() -> Token:
    """The cached token, or what the store has; a store that fails is bridged while the cached token is valid."""
    global cached
    now = time.time()
    if cached is None or now >= cached.look_again_at:
        try:
            token = read()
        except StoreFailed as error:
            if cached is None or now >= cached.expires_at:
                raise
            print(f"{SECRET_ID} could not be read, version {cached.version_id} goes on: {error}")
            token = cached
        # The extension's cache may still hold the version that was refused.
        if cached is None or token.text != refused_text:
            cached = token
        cached.look_again_at = max(cached.look_again_at, now + PAUSE_SECONDS)
    if now >= cached.expires_at:
        raise RuntimeError(f"version {cached.version_id} of {SECRET_ID} has expired; see the refresher's log")
    return cached


def invoke_refresher(event: dict) -> tuple[int, dict]:
    """Lambda's Invoke, signed with Signature Version 4: the status and the report, or the error."""
    region, body = os.environ["AWS_REGION"], json.dumps(event).encode()
    endpoint = os.environ.get("AWS_ENDPOINT_URL_LAMBDA", f"https://lambda.{region}.amazonaws.com")
    path = f"/2015-03-31/functions/{quote(REFRESHER_FUNCTION, safe='')}/invocations"
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = [now[:8], region, "lambda", "aws4_request"]
    headers = {"host": urlsplit(endpoint).netloc, "x-amz-date": now}
    headers["x-amz-security-token"] = os.environ["AWS_SESSION_TOKEN"]
    signed = ";".join(headers)
    lines = [f"{name}:{value}" for name, value in headers.items()]
    canonical = "\n".join(["POST", quote(path), "", *lines, "", signed, sha256(body).hexdigest()])
    to_sign = "\n".join(["AWS4-HMAC-SHA256", now, "/".join(scope), sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{os.environ['AWS_SECRET_ACCESS_KEY']}".encode()
    for part in [*scope, to_sign]:
        key = hmac.digest(key, part.encode(), "sha256")
    credential = f"Credential={os.environ['AWS_ACCESS_KEY_ID']}/{'/'.join(scope)}"
    headers["authorization"] = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={signed}, Signature={key.hex()}"
    headers["content-type"] = "application/json"
    with web.open(urllib.request.Request(endpoint + path, body, headers), timeout=60) as response:
        return response.status, json.load(response)


def ask_for_refresh(version_id: str) -> str:
    """Asks until no refresh is under way, and tells the version that is current then. However many readers ask for the
    same version, one exchange is made."""
    global asked_at
    asked_at = time.time()
    give_up_at = time.monotonic() + WAIT_SECONDS
    while True:
        status, report = invoke_refresher({"secretId": TOKEN_SECRET_ID, "force": True, "ifVersionId": version_id})
        if status != 429 and "outcome" not in report:
            what = report.get("errorType") or report.get("Message") or status
            raise RuntimeError(f"{TOKEN_SECRET_ID} was not refreshed: {what}: {report.get('errorMessage')}")
        outcome = "another's request is under way" if status == 429 else report["outcome"]
        print(f"asked for a refresh of {SECRET_ID}, version {version_id}: {outcome}")
        if (status != 429 and outcome != "in_progress") or time.monotonic() >= give_up_at:
            return report.get(CURRENT, version_id)
        time.sleep(0.5)


def token_after(refused: Token) -> Token:
    """What takes the place of a token that the API refused before its time."""
    global cached, refused_text
    refused_text = refused.text
    cached = read()
    if cached.text == refused.text and REFRESHER_FUNCTION and time.time() >= asked_at + ASK_SECONDS:
        cached = read(versionId=ask_for_refresh(cached.version_id))
    if cached.text == refused.text:
        raise RuntimeError(f"the API refuses version {cached.version_id} of {SECRET_ID}, and there is no newer one")
    return cached


def get(path: str):
    """Asks the API, and once more with another token where it refuses the first one."""

    def ask(token: Token):
        headers = {"Authorization": f"Bearer {token.text}", "Accept": "application/json"}
        with web.open(urllib.request.Request(API_URL + path, headers=headers), timeout=10) as response:
            return response.status, response.read()

    token = access_token()
    status, body = ask(token)
    if status == 401:
        token = token_after(token)
        status, body = ask(token)
    if status >= 300:
        raise RuntimeError(f"{API_URL}{path} answered {status} to version {token.version_id} of {SECRET_ID}")
    return json.loads(body)


def handler(event, _context):
    return [get(path) for path in event["paths"]]
