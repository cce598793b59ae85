"""A Lambda function in Python that calls an API with the token kept by token-refresher, read with boto3.

Runtime python3.11 or newer, handler `python_boto3.handler`, timeout 30 seconds or more; boto3 is in the runtime. Its
role needs:

    {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "<the secret's ARN>"}
    {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "<the refresher's ARN>"}

Settings: SECRET_ID, API_URL, and, with the second statement, REFRESHER_FUNCTION (name or ARN), which is asked for a
new token when the API refuses the current one; where SECRET_ID is a secret that tokens are published to (`publishTo`),
TOKEN_SECRET_ID names the token secret. `{"paths": ["/v1/orders"]}` is answered with what the API said to each.
"""

import json
import os
import time
from dataclasses import dataclass, field
from datetime import datetime

import boto3
import urllib3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

SECRET_ID, API_URL = os.environ["SECRET_ID"], os.environ["API_URL"]
REFRESHER_FUNCTION = os.environ.get("REFRESHER_FUNCTION")
TOKEN_SECRET_ID = os.environ.get("TOKEN_SECRET_ID", SECRET_ID)

MARGIN_SECONDS = 60  # this long before its expiry a token is looked for anew,
PAUSE_SECONDS = 5  # and again this often, until the new one is there
UNKNOWN_SECONDS = 120  # how long a token is used that does not say when it expires
WAIT_SECONDS = 15  # for a refresh that was asked for
ASK_SECONDS = 600  # at most one request in this time: an API that refuses all would use up the secret's versions

# Short: a failing store must not use up the invocation while the token at hand is still good.
quick = Config(connect_timeout=2, read_timeout=3, retries={"total_max_attempts": 2})
secrets_manager = boto3.client("secretsmanager", config=quick)
http = urllib3.PoolManager(timeout=10, retries=False)


@dataclass
class Token:
    text: str = field(repr=False)
    version_id: str
    expires_at: float  # seconds since the epoch
    look_again_at: float


# Plain variables: an execution environment runs one invocation at a time, so there is nothing to lock.
cached: Token | None = None
asked_at = -ASK_SECONDS


def seconds_since_epoch(moment) -> float:
    """Milliseconds or seconds, as a number or a string of digits, or RFC 3339."""
    try:
        number = float(moment)
    except ValueError:
        return datetime.fromisoformat(moment).timestamp()
    return number / 1000 if number >= 1e11 else number


def read() -> Token:
    answer = secrets_manager.get_secret_value(SecretId=SECRET_ID, VersionStage="AWSCURRENT")
    secret = json.loads(answer["SecretString"])
    text = secret.get("accessToken") or secret.get("access_token")
    if not text:
        raise RuntimeError(f"{SECRET_ID} holds no access token; has the refresher run?")
    moment, now = secret.get("expiresAt") or secret.get("expires_at"), time.time()
    expires_at = seconds_since_epoch(moment) if moment else now + UNKNOWN_SECONDS
    return Token(text, answer["VersionId"], expires_at, max(expires_at - MARGIN_SECONDS, now + PAUSE_SECONDS))


def is_transient(error: BotoCoreError | ClientError) -> bool:
    if not isinstance(error, ClientError):
        return True  # no answer
    status, code = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
    return status >= 500 or status == 429 or code == "ThrottlingException"


def access_token() -> Token:
    """The cached token, or what the store has; a store that fails is bridged while the cached token is valid."""
    global cached
    now = time.time()
    if cached is None or now >= cached.look_again_at:
        try:
            cached = read()
        except (BotoCoreError, ClientError) as error:
            if cached is None or now >= cached.expires_at or not is_transient(error):
                raise
            print(f"{SECRET_ID} could not be read, version {cached.version_id} goes on: {error}")
            cached.look_again_at = now + PAUSE_SECONDS
    if now >= cached.expires_at:
        raise RuntimeError(f"version {cached.version_id} of {SECRET_ID} has expired; see the refresher's log")
    return cached


def ask_for_refresh(version_id: str) -> None:
    """Asks once. However many readers ask for the same version, one exchange is made."""
    global asked_at
    asked_at = time.time()
    event = {"secretId": TOKEN_SECRET_ID, "force": True, "ifVersionId": version_id}
    once = Config(connect_timeout=2, read_timeout=60, retries={"total_max_attempts": 1})
    client = boto3.client("lambda", config=once)
    try:
        answer = client.invoke(FunctionName=REFRESHER_FUNCTION, Payload=json.dumps(event))
    except client.exceptions.TooManyRequestsException:
        return print(f"another's request to refresh {SECRET_ID} is under way")
    report = json.load(answer["Payload"])
    if "FunctionError" in answer:
        what = f"{report.get('errorType')}: {report.get('errorMessage')}"
        raise RuntimeError(f"{TOKEN_SECRET_ID} was not refreshed: {what}")
    print(f"asked for a refresh of {SECRET_ID}, version {version_id}: {report['outcome']}")


def token_after(refused: Token) -> Token:
    """What takes the place of a token that the API refused before its time."""
    global cached
    cached = read()
    if cached.text == refused.text and REFRESHER_FUNCTION and time.time() >= asked_at + ASK_SECONDS:
        ask_for_refresh(cached.version_id)
        give_up_at = time.monotonic() + WAIT_SECONDS
        while (cached := read()).text == refused.text and time.monotonic() < give_up_at:
            time.sleep(0.5)
    if cached.text == refused.text:
        raise RuntimeError(f"the API refuses version {cached.version_id} of {SECRET_ID}, and there is no newer one")
    return cached


def get(path: str):
    """Asks the API, and once more with another token where it refuses the first one."""

    def ask(token: Token):
        headers = {"Authorization": f"Bearer {token.text}", "Accept": "application/json"}
        return http.request("GET", API_URL + path, headers=headers, redirect=False)

    token = access_token()
    answer = ask(token)
    if answer.status == 401:
        token = token_after(token)
        answer = ask(token)
    if answer.status >= 300:
        raise RuntimeError(f"{API_URL}{path} answered {answer.status} to version {token.version_id} of {SECRET_ID}")
    return answer.json()


def handler(event, _context):
    return [get(path) for path in event["paths"]]
