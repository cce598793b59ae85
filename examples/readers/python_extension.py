"""A Lambda function in Python that calls an API with the access token of a token secret. It reads the token through the
AWS Parameters and Secrets Lambda Extension.

Packages: none. It imports the standard library only.

Runtime python3.11 or newer, handler `python_extension.handler`, timeout 30 seconds or more, and the layer
AWS-Parameters-and-Secrets-Lambda-Extension of your Region. The role needs:

    {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "<the secret's ARN>"}
    {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "<the refresher's ARN>"}

Environment variables:

    SECRET_ID            name or ARN of the secret to read
    API_URL              start of every URL of the API
    REFRESHER_FUNCTION   optional: name or ARN of the refresher, which is asked for a new token after a 401.
                         Only this needs the second statement
    TOKEN_SECRET_ID      only if SECRET_ID is a published secret (`publishTo`): the token secret
    SECRETS_MANAGER_TTL  the extension's own: how many seconds it caches a secret (300, which is also the most). For
                         tokens that live for less than 20 minutes, set a quarter of their lifetime

Events, and what the function returns:

    {"paths": ["/v1/orders"]}                         GET of each path: the responses, as a list
    {"path": "/v1/orders", "body": {"item": "book"}}  POST of the body: the response

No request can bypass the extension's cache, so after a 401 the extension may still return the rejected version. This
function then asks the refresher, which reports the id of the current version, and reads that version by its id. A
version never changes, so a cached version is never out of date.
"""

import hmac
import json
import os
import re
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from http.client import HTTPException
from urllib.parse import quote, urlencode, urlsplit


def setting(name: str, meaning: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise RuntimeError(f"{name} is not set; {meaning}")
    return value


SECRET_ID = setting("SECRET_ID", "set it to the name or ARN of the secret to read, such as myapp/prod/upwork")
API_URL = setting("API_URL", "set it to the start of every URL of the API, such as https://api.example.com")
REFRESHER_FUNCTION = os.environ.get("REFRESHER_FUNCTION")
TOKEN_SECRET_ID = os.environ.get("TOKEN_SECRET_ID") or SECRET_ID
# The member of the refresher's report that holds the current version of SECRET_ID.
CURRENT = "versionId" if TOKEN_SECRET_ID == SECRET_ID else "publishedVersionId"
EXTENSION_PORT = os.environ.get("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT") or "2773"

MARGIN_SECONDS = 60  # how long before the token expires the secret is read again
PAUSE_SECONDS = 5  # the least time between two such reads
UNKNOWN_SECONDS = 120  # how long a token is used if its expiry is unknown
WAIT_SECONDS = 15  # how long to wait while another request for a refresh is under way
ASK_SECONDS = 600  # the least time between two requests for a refresh: each refresh adds versions to the secret

# Other programs' names for the expiry of the token, and for when it was issued. Those in snake_case are read too.
EXPIRIES = ["expiry", "expiryDate", "expiryTime", "expiresOn", "accessExpiry", "accessTokenExpiresAt", "tokenExpiry"]
EXPIRIES += ["tokenExpiryDate", "tokenExpiresAt", "expirationTimeMilliseconds"]
STARTS = ["created", "createdAt", "IssuedUtc", "auth_time"]
FIRST_TIME = 1_325_376_000  # seconds. `expires` is a time from here on (the year 2012), and a lifetime below


class AnyStatus(urllib.request.HTTPErrorProcessor):
    """Returns a response of any status. Follows no redirect: the token would go to the new URL."""

    def http_response(self, _request, response):
        return response

    https_response = http_response


web = urllib.request.build_opener(AnyStatus)


@dataclass
class Token:
    text: str = field(repr=False)
    version_id: str
    expires_at: float  # seconds since the epoch
    read_again_at: float


class StoreFailed(Exception):
    """The secret cannot be read now; a later read may succeed."""


# No lock: an execution environment runs one invocation at a time.
cached: Token | None = None
rejected_texts: list[str] = []  # the last tokens that the API rejected
asked_at = -ASK_SECONDS  # seconds since the epoch


def in_camel_case(members: dict) -> dict:
    """Adds a name in camelCase to each member in snake_case: `accessToken` to `access_token`."""
    return {re.sub("_([a-z])", lambda found: found[1].upper(), name): members[name] for name in members} | members


def has_refresh_token(value) -> bool:
    tokens = [value.get("refreshToken"), value.get("refresh_token")] if isinstance(value, dict) else []
    return any(isinstance(token, str) and token for token in tokens)


def tokens_in(secret: dict) -> dict:
    """Returns the object with the tokens, with names in camelCase: the secret, or if it has no refresh token, its only
    member that is an object with one. What `memberNames` names is moved there."""
    names = secret.get("memberNames") or secret.get("member_names") or {}
    named = {}
    for name, pointer in (json.loads(names) if isinstance(names, str) else names).items():
        *outer, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
        place = secret
        for part in outer:
            place = place.get(part) or {}
        # Moved, because it could be taken for something else under its old name.
        named[name] = place.pop(last, None)
    ours = ["tokenResponse", "token_response", "memberNames", "member_names"]
    inner = [value for name, value in secret.items() if name not in ours and has_refresh_token(value)]
    is_inside = len(inner) == 1 and not has_refresh_token(secret | named)
    tokens = in_camel_case(inner[0] if is_inside else secret) | in_camel_case(named)
    # google-auth calls the access token `token`. Without a refresh token beside it, a `token` may mean anything.
    if "accessToken" not in tokens and has_refresh_token(tokens) and isinstance(tokens.get("token"), str):
        tokens["accessToken"] = tokens["token"]
    return tokens


def seconds_since_epoch(point) -> float:
    """Accepts milliseconds or seconds, as a number or a string of digits, and RFC 3339. Without a zone it is UTC."""
    if type(point) in (int, float) or str(point).isdecimal():
        number = float(point)
        return number / 1000 if number >= 1e11 else number
    form = r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(?:\.\d+)?)(Z|[+-]\d\d:\d\d)?"
    found = re.fullmatch(form, str(point).upper())
    if not found:
        raise ValueError(f"the expiry of the token in {SECRET_ID} is not a point in time")
    date, clock, zone = found.groups("Z")
    return datetime.fromisoformat(f"{date}T{clock}{zone}").timestamp()


def expiry_of(tokens: dict) -> float | None:
    """Returns when the access token expires, in seconds since the epoch, or None if the secret does not say it."""

    def times(*names: str) -> list[float]:
        found = []
        for name in names:
            with suppress(ValueError):  # a value that is not a time has another meaning
                found.append(seconds_since_epoch(tokens.get(name)))
        return found

    if tokens.get("expiresAt"):
        return seconds_since_epoch(tokens["expiresAt"])
    ends = times(*EXPIRIES) + [end for end in times("expires") if end >= FIRST_TIME]
    starts, lifetimes = times(*STARTS), [length for length in times("expiresIn", "expires") if length < FIRST_TIME]
    if ends:
        return min(ends)
    return starts[0] + lifetimes[0] if starts and lifetimes else None


def read(**version) -> Token:
    query = urlencode({"secretId": SECRET_ID} | (version or {"versionStage": "AWSCURRENT"}))
    # The extension is ready only during an invocation, so nothing is read at import.
    session_token = setting("AWS_SESSION_TOKEN", "the extension requires it in every request, and Lambda sets it")
    headers = {"X-Aws-Parameters-Secrets-Token": session_token}
    request = urllib.request.Request(f"http://localhost:{EXTENSION_PORT}/secretsmanager/get?{query}", headers=headers)
    try:
        with web.open(request, timeout=5) as response:
            status, body = response.status, response.read()
    except (OSError, HTTPException) as error:
        raise StoreFailed(f"the extension did not respond (is its layer attached?): {error}") from error
    if status >= 500 or status == 429:
        raise StoreFailed(f"the extension answered {status}")
    if status != 200:
        raise RuntimeError(f"the extension answered {status} for {SECRET_ID}; check the name and the role's policy")
    found = json.loads(body)
    tokens = tokens_in(json.loads(found.get("SecretString") or "{}"))
    text = tokens.get("accessToken")
    if not text:
        raise RuntimeError(f"{SECRET_ID} holds no access token; the refresher writes one when it runs, see its log")
    expiry, now = expiry_of(tokens), time.time()
    expires_at = now + UNKNOWN_SECONDS if expiry is None else expiry
    return Token(text, found["VersionId"], expires_at, max(expires_at - MARGIN_SECONDS, now + PAUSE_SECONDS))


def access_token() -> Token:
    """Returns the cached token, or reads the secret. If the store fails, the cached token is used until it expires."""
    global cached
    now = time.time()
    if cached is None or now >= cached.read_again_at:
        try:
            token = read()
        except StoreFailed as error:
            if cached is None or now >= cached.expires_at:
                raise
            print(f"{SECRET_ID} could not be read, version {cached.version_id} is used: {error}")
            token = cached
        # The extension's cache may still hold a rejected version.
        if cached is None or token.text not in rejected_texts:
            cached = token
        cached.read_again_at = max(cached.read_again_at, now + PAUSE_SECONDS)
    if now >= cached.expires_at:
        raise RuntimeError(f"version {cached.version_id} of {SECRET_ID} has expired; see the refresher's log")
    return cached


def invoke_refresher(event: dict) -> tuple[int, dict]:
    """Calls Lambda's Invoke, signed with Signature Version 4. Returns the status and the report, or the error."""
    region = setting("AWS_REGION", "set it to the refresher's Region, such as eu-central-1 (Lambda sets it)")
    for_signature = "the request to the refresher is signed with it, and Lambda sets it"
    access_key_id, secret_access_key, session_token = (
        setting(name, for_signature) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    )
    china = ".cn" if region.startswith("cn-") else ""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_LAMBDA") or f"https://lambda.{region}.amazonaws.com{china}"
    path = f"/2015-03-31/functions/{quote(REFRESHER_FUNCTION, safe='')}/invocations"
    body, now = json.dumps(event).encode(), datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = [now[:8], region, "lambda", "aws4_request"]
    headers = {"host": urlsplit(endpoint).netloc, "x-amz-date": now, "x-amz-security-token": session_token}
    signed = ";".join(headers)
    lines = [f"{name}:{value}" for name, value in headers.items()]
    canonical = "\n".join(["POST", quote(path), "", *lines, "", signed, sha256(body).hexdigest()])
    to_sign = "\n".join(["AWS4-HMAC-SHA256", now, "/".join(scope), sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret_access_key}".encode()
    for part in [*scope, to_sign]:
        key = hmac.digest(key, part.encode(), "sha256")
    credential = f"Credential={access_key_id}/{'/'.join(scope)}"
    headers["authorization"] = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={signed}, Signature={key.hex()}"
    headers["content-type"] = "application/json"
    with web.open(urllib.request.Request(endpoint + path, body, headers), timeout=60) as response:
        return response.status, json.load(response) or {}


def may_ask() -> bool:
    """Whether the last request is long ago. A clock that was set back does not prolong that time."""
    return not 0 <= time.time() - asked_at < ASK_SECONDS


def ask_for_refresh(version_id: str) -> str:
    """Invokes the refresher, again while another request is under way. Returns the id of the version that is current
    then. However many readers ask for the same version, there is one exchange."""
    global asked_at
    give_up_at = time.monotonic() + WAIT_SECONDS
    while True:
        status, report = invoke_refresher({"secretId": TOKEN_SECRET_ID, "force": True, "ifVersionId": version_id})
        if status == 200 and report.get("outcome") != "in_progress":
            asked_at = time.time()
        if status != 429 and "outcome" not in report:
            unknown = "the response is not a refresher report; check REFRESHER_FUNCTION"
            what = report.get("errorMessage") or report.get("Message") or unknown
            raise RuntimeError(f"{TOKEN_SECRET_ID} was not refreshed: {report.get('errorType') or status}: {what}")
        outcome = "another request is under way" if status == 429 else report["outcome"]
        print(f"asked for a refresh of {SECRET_ID}, version {version_id}: {outcome}")
        if (status != 429 and outcome != "in_progress") or time.monotonic() >= give_up_at:
            return report.get(CURRENT, version_id)
        time.sleep(0.5)


def token_after(rejected: Token) -> Token:
    """Returns another token than the one that the API rejected."""
    global cached
    rejected_texts[:] = [*rejected_texts[-7:], rejected.text]
    token = read()
    if token.text in rejected_texts and REFRESHER_FUNCTION and may_ask():
        token = read(versionId=ask_for_refresh(rejected.version_id))
    if token.text in rejected_texts:
        raise RuntimeError(f"the API rejects version {rejected.version_id} of {SECRET_ID}, and there is no newer one")
    cached = token
    return cached


def call(method: str, path: str, body: object = None) -> object:
    """Sends a request with the token, and after a 401 once more with another token. Returns the JSON response."""

    def send(token: Token) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {token.text}", "Accept": "application/json"}
        data = None
        if body is not None:
            headers["Content-Type"], data = "application/json", json.dumps(body).encode()
        with web.open(urllib.request.Request(API_URL + path, data, headers, method=method), timeout=10) as response:
            return response.status, response.read()

    token = access_token()
    status, text = send(token)
    if status == 401:
        token = token_after(token)
        status, text = send(token)
    if status >= 300:
        raise RuntimeError(f"{API_URL}{path} answered {status} to version {token.version_id} of {SECRET_ID}")
    return json.loads(text) if text else None


def handler(event, _context):
    if "paths" in event:
        return [call("GET", path) for path in event["paths"]]
    if "path" in event and "body" in event:
        return call("POST", event["path"], event["body"])
    raise ValueError('the event has neither "paths" (for GET) nor "path" and "body" (for POST)')
