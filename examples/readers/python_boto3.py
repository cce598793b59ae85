"""A Lambda function in Python that calls an API with the access token of a token secret. It reads the token with boto3.

Packages: none in Lambda, where boto3 is part of the runtime. Elsewhere: `pip install boto3`.

Runtime python3.11 or newer, handler `python_boto3.handler`, timeout 30 seconds or more. The role needs:

    {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "<the secret's ARN>"}
    {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "<the refresher's ARN>"}

Environment variables:

    SECRET_ID           name or ARN of the secret to read
    API_URL             start of every URL of the API
    REFRESHER_FUNCTION  optional: name or ARN of the refresher, which is asked for a new token after a 401.
                        Only this needs the second statement
    TOKEN_SECRET_ID     only if SECRET_ID is a published secret (`publishTo`): the token secret
    AWS_DEFAULT_REGION  outside Lambda: the Region

Events, and what the function returns:

    {"paths": ["/v1/orders"]}                         GET of each path: the responses, as a list
    {"path": "/v1/orders", "body": {"item": "book"}}  POST of the body: the response
"""

import json
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import boto3
import urllib3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError


def setting(name: str, meaning: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise RuntimeError(f"{name} is not set; {meaning}")
    return value


SECRET_ID = setting("SECRET_ID", "set it to the name or ARN of the secret to read, such as myapp/prod/upwork")
API_URL = setting("API_URL", "set it to the start of every URL of the API, such as https://api.example.com")
REFRESHER_FUNCTION = os.environ.get("REFRESHER_FUNCTION")
TOKEN_SECRET_ID = os.environ.get("TOKEN_SECRET_ID") or SECRET_ID

MARGIN_SECONDS = 60  # how long before the token expires the secret is read again
PAUSE_SECONDS = 5  # the least time between two such reads
UNKNOWN_SECONDS = 120  # how long a token is used if its expiry is unknown
WAIT_SECONDS = 15  # how long to wait for the new token after a request for a refresh
ASK_SECONDS = 600  # the least time between two requests for a refresh: each refresh adds versions to the secret

# Other programs' names for the expiry of the token, and for when it was issued. Those in snake_case are read too.
EXPIRIES = ["expiry", "expiryDate", "expiryTime", "expiresOn", "accessExpiry", "accessTokenExpiresAt", "tokenExpiry"]
EXPIRIES += ["tokenExpiryDate", "tokenExpiresAt", "expirationTimeMilliseconds"]
STARTS = ["created", "createdAt", "IssuedUtc", "auth_time"]
FIRST_TIME = 1_325_376_000  # seconds. `expires` is a time from here on (the year 2012), and a lifetime below

# Short timeouts: a failing store must not use up the invocation while the cached token is still valid.
quick = Config(connect_timeout=2, read_timeout=3, retries={"total_max_attempts": 2})
secrets_manager = boto3.client("secretsmanager", config=quick)
http = urllib3.PoolManager(timeout=10, retries=False)


@dataclass
class Token:
    text: str = field(repr=False)
    version_id: str
    expires_at: float  # seconds since the epoch
    read_again_at: float


# No lock: an execution environment runs one invocation at a time.
cached: Token | None = None
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


def read() -> Token:
    response = secrets_manager.get_secret_value(SecretId=SECRET_ID, VersionStage="AWSCURRENT")
    tokens = tokens_in(json.loads(response.get("SecretString", "{}")))
    text = tokens.get("accessToken")
    if not text:
        raise RuntimeError(f"{SECRET_ID} holds no access token; the refresher writes one when it runs, see its log")
    expiry, now = expiry_of(tokens), time.time()
    expires_at = now + UNKNOWN_SECONDS if expiry is None else expiry
    return Token(text, response["VersionId"], expires_at, max(expires_at - MARGIN_SECONDS, now + PAUSE_SECONDS))


def is_transient(error: BotoCoreError | ClientError) -> bool:
    if not isinstance(error, ClientError):
        return True  # there was no response
    status, code = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
    return status >= 500 or status == 429 or code == "ThrottlingException"


def access_token() -> Token:
    """Returns the cached token, or reads the secret. If the store fails, the cached token is used until it expires."""
    global cached
    now = time.time()
    if cached is None or now >= cached.read_again_at:
        try:
            cached = read()
        except (BotoCoreError, ClientError) as error:
            if cached is None or now >= cached.expires_at or not is_transient(error):
                raise
            print(f"{SECRET_ID} could not be read, version {cached.version_id} is used: {error}")
            cached.read_again_at = now + PAUSE_SECONDS
    if now >= cached.expires_at:
        raise RuntimeError(f"version {cached.version_id} of {SECRET_ID} has expired; see the refresher's log")
    return cached


def may_ask() -> bool:
    """Whether the last request is long ago. A clock that was set back does not prolong that time."""
    return not 0 <= time.time() - asked_at < ASK_SECONDS


def ask_for_refresh(version_id: str) -> bool:
    """Invokes the refresher once, and returns whether it has taken the request. However many readers ask for the same
    version, there is one exchange."""
    global asked_at
    event = {"secretId": TOKEN_SECRET_ID, "force": True, "ifVersionId": version_id}
    once = Config(connect_timeout=2, read_timeout=60, retries={"total_max_attempts": 1})
    client = boto3.client("lambda", config=once)
    try:
        response = client.invoke(FunctionName=REFRESHER_FUNCTION, Payload=json.dumps(event))
    except client.exceptions.TooManyRequestsException:
        print(f"{REFRESHER_FUNCTION} is busy: another request is under way, perhaps for another secret")
        return False
    report = json.load(response["Payload"])
    if not isinstance(report, dict) or report.get("outcome") != "in_progress":
        asked_at = time.time()
    if "FunctionError" in response:
        what = f"{report.get('errorType')}: {report.get('errorMessage')}"
        raise RuntimeError(f"{TOKEN_SECRET_ID} was not refreshed: {what}")
    if not isinstance(report, dict) or "outcome" not in report:
        raise RuntimeError(f"the response of {REFRESHER_FUNCTION} is not a refresher report; check the function's name")
    print(f"asked for a refresh of {SECRET_ID}, version {version_id}: {report['outcome']}")
    return True


def token_after(rejected: Token) -> Token:
    """Returns another token than the one that the API rejected."""
    global cached
    cached = read()
    if cached.text == rejected.text and REFRESHER_FUNCTION and may_ask():
        give_up_at = time.monotonic() + WAIT_SECONDS
        is_taken = False
        while time.monotonic() < give_up_at:
            is_taken = is_taken or ask_for_refresh(cached.version_id)
            cached = read()
            if cached.text != rejected.text:
                break
            time.sleep(0.5)
    if cached.text == rejected.text:
        raise RuntimeError(f"the API rejects version {cached.version_id} of {SECRET_ID}, and there is no newer one")
    return cached


def call(method: str, path: str, body: object = None) -> object:
    """Sends a request with the token, and after a 401 once more with another token. Returns the JSON response."""

    def send(token: Token):
        headers = {"Authorization": f"Bearer {token.text}", "Accept": "application/json"}
        data = None
        if body is not None:
            headers["Content-Type"], data = "application/json", json.dumps(body)
        return http.request(method, API_URL + path, body=data, headers=headers, redirect=False)

    token = access_token()
    response = send(token)
    if response.status == 401:
        token = token_after(token)
        response = send(token)
    if response.status >= 300:
        raise RuntimeError(f"{API_URL}{path} answered {response.status} to version {token.version_id} of {SECRET_ID}")
    return json.loads(response.data) if response.data else None


def handler(event, _context):
    if "paths" in event:
        return [call("GET", path) for path in event["paths"]]
    if "path" in event and "body" in event:
        return call("POST", event["path"], event["body"])
    raise ValueError('the event has neither "paths" (for GET) nor "path" and "body" (for POST)')
