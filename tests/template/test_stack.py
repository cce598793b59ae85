"""Deploys schedule.yaml, as it stands, into ministack, an emulator of AWS, and uses the stack: EventBridge Scheduler starts the
function every minute, Secrets Manager's events start it for one secret, and its own events become messages of the topic.

ministack enforces the policy of the function's role. It does not do the following, so nothing here tests it:

- `rotate-secret` does not start the steps of a rotation: a test sends them.
- The other roles, the function's permissions and the policies of the topic and of the queue are not checked: see test_roles.py.
- The schedule and the rules have no retries and no queue for undelivered events, and the reserved concurrency has no effect.
- CloudWatch reads no metrics from the log: see test_alarms.py.
"""

import functools
import json
import os
import platform
import tempfile
import time
import unittest
import uuid
import zipfile
from contextlib import ExitStack
from pathlib import Path

import boto3
import pages
from emulator import INVALID_GRANT, Provider, append_to_functions_log
from template import FILE, REGION, source

BUCKET = "your-bucket-of-tests"
# What the command of the page sets, and the tests replace.
PAGE_STACK, PAGE_PARAMETERS = "--stack-name token-refresher ", "SecretName=myapp/prod/upwork AlarmEmail=you@example.com"
# Of the stack for many tokens. The two stacks share no secret.
PREFIX, PUBLISHED = "myapp/customers/", "myapp/access/"
ARCHITECTURE = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
HOUR = 3600
# ministack looks for due schedules every ten seconds.
TICK_SECONDS = 60 + 10 + 20
EVENT_SECONDS = 20


@functools.cache
def client(service: str):
    credentials = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client(service, endpoint_url=os.environ["PEER_MINISTACK_URL"], region_name=REGION, **credentials)


def until(condition, seconds: float = EVENT_SECONDS):
    """Waits until a condition holds. Returns its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)
    return value


def shell(command: str, folder: Path):
    return pages.shell(command, folder, AWS_ENDPOINT_URL=os.environ["PEER_MINISTACK_URL"])


@functools.cache
def folder() -> Path:
    """A folder from which the commands of the page work: with the template, and with the zip, which is uploaded."""
    folder = Path(unittest.enterModuleContext(tempfile.TemporaryDirectory()))
    (folder / FILE.name).write_bytes(FILE.read_bytes())
    target = folder / "target/lambda/token-refresher/bootstrap.zip"
    target.parent.mkdir(parents=True)
    binary = Path(os.environ["TOKEN_REFRESHER_BIN"])
    built = binary.with_name("bootstrap.zip")
    if built.is_file():
        # tests/zips has built both.
        target.symlink_to(built.resolve())
    else:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.write(binary, "bootstrap")
    client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    (upload,) = pages.commands("Deploy", "aws s3 cp")
    done = shell(upload.replace("YOUR-BUCKET", BUCKET), folder)
    assert done.returncode == 0, done.stderr
    return folder


def deploy_command(name: str, parameters: str) -> str:
    """The command of the page, with this name of the stack and these parameters in place of its own."""
    (command,) = pages.commands("Deploy", "aws cloudformation deploy")
    for old, new in [(PAGE_STACK, f"--stack-name {name} "), (PAGE_PARAMETERS, parameters), ("YOUR-BUCKET", BUCKET)]:
        assert old in command, command
        command = command.replace(old, new)
    return command


class Deployed:
    """A stack that is deleted at the end of a test, or of a class."""

    def __init__(self, name: str, parameters: str):
        self.name = name
        self.update(parameters)
        self.log_group = self.resource("LogGroup")

    def update(self, parameters: str) -> None:
        command = deploy_command(self.name, f"{parameters} Architecture={ARCHITECTURE}")
        done = shell(command, folder())
        # `deploy` names a change set after the second, so two of them in one second have the same name.
        while "AlreadyExistsException" in done.stderr and "ChangeSet" in done.stderr:
            done = shell(command, folder())
        assert done.returncode == 0, done.stdout + done.stderr

    def delete(self) -> None:
        append_to_functions_log("".join(f"{message}\n" for messages in self.messages().values() for message in messages))
        client("cloudformation").delete_stack(StackName=self.name)
        client("cloudformation").get_waiter("stack_delete_complete").wait(StackName=self.name, WaiterConfig={"Delay": 1})

    def resource(self, logical_id: str) -> str:
        found = client("cloudformation").describe_stack_resource(StackName=self.name, LogicalResourceId=logical_id)
        return found["StackResourceDetail"]["PhysicalResourceId"]

    def output(self, name: str) -> str:
        (stack,) = client("cloudformation").describe_stacks(StackName=self.name)["Stacks"]
        (value,) = (each["OutputValue"] for each in stack["Outputs"] if each["OutputKey"] == name)
        return value

    def messages(self) -> dict[str, list[str]]:
        """The lines of the log, by stream. ministack writes a stream for each invocation."""
        found = {}
        for page in client("logs").get_paginator("filter_log_events").paginate(logGroupName=self.log_group):
            for event in page["events"]:
                found.setdefault(event["logStreamName"], []).append(event["message"].rstrip("\n"))
        return found

    def runs(self, secret_id: str) -> list[dict]:
        """The lines of the log that are about this secret and do not belong to a sweep."""
        lines = (line for lines in self.invocations() if not ended_sweep(lines) for line in lines)
        return [line for line in lines if line.get("secretId") == secret_id]

    def sweeps(self) -> list[list[dict]]:
        """The lines of each sweep."""
        return [lines for lines in self.invocations() if ended_sweep(lines)]

    def invocations(self) -> list[list[dict]]:
        """What the function has logged in each invocation. ministack writes some lines of its own."""
        return [[json.loads(line) for line in messages if line.startswith("{")] for messages in self.messages().values()]

    def invoke(self, event: dict) -> dict:
        """The response of the function, and whether it failed."""
        response = client("lambda").invoke(FunctionName=self.name, Payload=json.dumps(event))
        return json.load(response["Payload"]) | ({"failed": True} if "FunctionError" in response else {})


def ended_sweep(lines: list[dict]) -> bool:
    return any(line["message"] == "sweep ended" for line in lines)


class Secret:
    """A secret in ministack, until `cleanup`: the function that registers what is done at the end of a test or of all tests."""

    def __init__(self, cleanup, name: str, document: dict):
        self.name = name
        self.arn = client("secretsmanager").create_secret(Name=name, SecretString=json.dumps(document))["ARN"]
        cleanup(client("secretsmanager").delete_secret, SecretId=name, ForceDeleteWithoutRecovery=True)

    def put(self, document: dict) -> str:
        """As a person does. Returns the version's id."""
        return client("secretsmanager").put_secret_value(SecretId=self.name, SecretString=json.dumps(document))["VersionId"]

    def current(self) -> dict:
        return json.loads(client("secretsmanager").get_secret_value(SecretId=self.name)["SecretString"])

    def labels(self) -> set[str]:
        versions = client("secretsmanager").list_secret_version_ids(SecretId=self.name, IncludeDeprecated=True)["Versions"]
        return {label for version in versions for label in version.get("VersionStages", [])}


@functools.cache
def provider() -> Provider:
    return Provider(unittest.enterModuleContext(ExitStack()))


class Sweeper(Deployed):
    """The stack for many tokens, and the secrets that its schedule finds at its first tick."""

    def __init__(self):
        super().__init__("sweeper", f"SecretPrefix={PREFIX} PublishedPrefix={PUBLISHED} SchedulePeriodSeconds=60")
        unittest.addModuleCleanup(self.delete)
        self.first = self.token("first", 5 * 60)
        self.first_report = self.invoke({})
        self.due = [self.token(f"due-{number}", 5 * 60) for number in range(3)]
        self.not_due = self.token("not-due", HOUR)
        self.password = Secret(unittest.addModuleCleanup, f"{PREFIX}database", {"password": "unseen-password"})

    def token(self, name: str, seconds_left: int) -> Secret:
        return Secret(unittest.addModuleCleanup, PREFIX + name, provider().token(f"/{name}", seconds_left))


@functools.cache
def sweeper() -> Sweeper:
    return Sweeper()


def setUpModule():
    # First of all, because its tick comes after a minute. The other tests run until then.
    sweeper()


class OneToken(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = Deployed("token-refresher", PAGE_PARAMETERS)
        cls.addClassCleanup(cls.stack.delete)

    def setUp(self):
        self.secret = Secret(self.addCleanup, "myapp/prod/upwork", provider().token("/upwork", 5 * 60))

    def test_the_commands_for_an_invocation_by_hand_work_with_the_deployed_function(self):
        expected = ["would_refresh", "refreshed", "refreshed", "skipped"]
        reports = []
        for command in pages.commands("Invoking by hand", "aws lambda invoke"):
            if "VERSION" in command:
                command = command.replace("VERSION", reports[1]["versionId"])
            done = shell(command, folder())
            self.assertEqual(done.returncode, 0, done.stderr)
            report, _ = json.JSONDecoder().raw_decode(done.stdout)
            reports.append(report)
        self.assertEqual([report["outcome"] for report in reports], expected)
        self.assertEqual(provider().exchanges["/upwork"], 2)

    def test_an_update_of_the_stack_changes_the_margin_of_the_next_run(self):
        self.secret.put(provider().token("/updated", HOUR))
        self.assertEqual(self.stack.invoke({"dryRun": True})["outcome"], "skipped")
        self.stack.update(f"{PAGE_PARAMETERS} RefreshMarginSeconds=7200")
        self.assertEqual(self.stack.invoke({"dryRun": True})["outcome"], "would_refresh")

    def test_a_change_of_another_secret_starts_no_run(self):
        other = Secret(self.addCleanup, "myapp/prod/upwork-2", provider().token("/other", HOUR))
        other.put(provider().token("/other", 0))
        # A run for the other secret would have started before this one ends.
        version = self.secret.put(provider().token("/upwork", 24 * HOUR))
        until(lambda: [run for run in self.stack.runs(self.secret.name) if run["versionId"] == version])
        self.assertEqual(self.stack.runs(other.name), [])


class Deletion(unittest.TestCase):
    def test_deleting_the_stack_deletes_what_it_has_created_but_no_secret(self):
        token = Secret(self.addCleanup, "myapp/prod/upwork", provider().token("/token", HOUR))
        stack = Deployed("short-lived", PAGE_PARAMETERS)
        self.assertEqual(stack.invoke({"force": True})["outcome"], "refreshed")
        until(lambda: len(stack.runs(token.name)) == 2)
        before = token.current()
        stack.delete()
        self.assertEqual(token.current(), before)
        functions = [each["FunctionName"] for each in client("lambda").list_functions()["Functions"]]
        groups = [each["logGroupName"] for each in client("logs").describe_log_groups()["logGroups"]]
        self.assertNotIn(stack.name, functions)
        self.assertNotIn(stack.log_group, groups)
        self.assertEqual([each for each in client("scheduler").list_schedules()["Schedules"] if stack.name in each["Name"]], [])


class Sweeps(unittest.TestCase):
    def setUp(self):
        self.stack = sweeper()

    def token(self, name: str, **members) -> Secret:
        """A token secret whose token is not due, so that no sweep refreshes it during the test."""
        return Secret(self.addCleanup, PREFIX + name, provider().token(f"/{name}", HOUR, **members))

    def test_the_tick_of_the_schedule_refreshes_all_due_tokens_also_those_created_since_the_last_sweep(self):
        report = self.stack.first_report
        self.assertEqual((report["secrets"], report["refreshed"]), (1, 1))
        for token in self.stack.due:
            until(lambda token=token: token.current()["accessToken"] != "unseen-access-1", TICK_SECONDS)
        _by_hand, tick, *_ = until(lambda: len(self.stack.sweeps()) > 1 and self.stack.sweeps())
        refreshed = {line["secretId"] for line in tick if line.get("outcome") == "refreshed"}
        self.assertLessEqual({token.name for token in self.stack.due}, refreshed)
        (end,) = (line for line in tick if line["message"] == "sweep ended")
        # At least, because the secrets of other tests may be there.
        for count, least in {"secrets": 6, "refreshed": 3, "skipped": 2, "ignored": 1}.items():
            self.assertGreaterEqual(end[count], least, count)
        # Neither the token that is not due nor the first one, which is new.
        exchanges = {path: count for path, count in provider().exchanges.items() if path in ("/first", "/not-due")}
        self.assertEqual(exchanges, {"/first": 1})
        self.assertEqual(self.stack.password.current(), {"password": "unseen-password"})

    def test_a_refresh_starts_one_run_more_which_makes_one_call(self):
        token = self.token("forced")
        report = self.stack.invoke({"secretId": token.name, "force": True})
        self.assertEqual(report["outcome"], "refreshed")
        until(lambda: len(self.stack.runs(token.name)) > 1)
        # A third run would have started before this one ends.
        other = self.token("other")
        other.put(other.current())
        until(lambda: self.stack.runs(other.name))
        runs = self.stack.runs(token.name)
        version = report["versionId"]
        self.assertEqual([(run["outcome"], run["versionId"]) for run in runs], [("refreshed", version), ("skipped", version)])
        self.assertEqual((runs[1]["calls"], provider().exchanges["/forced"]), (1, 1))

    def test_tokens_that_a_person_puts_in_are_published_and_refreshed_at_once(self):
        # On AWS it may also be without a value, but ministack returns such a secret as if it held bytes.
        published = Secret(self.addCleanup, f"{PUBLISHED}login", {})
        token = self.token("login", publishTo=published.name)
        document = token.current()
        version = token.put(document | {"accessToken": "unseen-access-of-a-person"})
        (run,) = until(lambda: self.stack.runs(token.name))
        self.assertEqual((run["outcome"], run["reason"], run["versionId"]), ("skipped", "not_due", version))
        self.assertEqual(published.current()["accessToken"], "unseen-access-of-a-person")
        self.assertNotIn("refreshToken", published.current())
        # An expiry of 0 is what the page for a new consent says, if the person does not know it.
        token.put(document | {"expiresAt": 0})
        until(lambda: published.current()["accessToken"] == token.current()["accessToken"] != "unseen-access-1")
        self.assertEqual(provider().exchanges["/login"], 1)

    def test_a_change_of_a_password_below_the_prefix_is_ignored(self):
        password = Secret(self.addCleanup, f"{PREFIX}password", {"password": "unseen-password-1"})
        password.put({"password": "unseen-password-2"})
        (line,) = until(lambda: self.stack.runs(password.name))
        self.assertEqual(line["message"], "event ignored: the secret is not a token secret")
        self.assertEqual(password.current(), {"password": "unseen-password-2"})

    def rotate(self, secret: Secret, steps: list[str]) -> list[dict]:
        """Does what Secrets Manager does, and returns the responses: it stages a version without a value, and calls the steps."""
        rotation = str(uuid.uuid4())
        client("secretsmanager").put_secret_value(SecretId=secret.arn, ClientRequestToken=rotation, VersionStages=["AWSPENDING"])
        event = {"SecretId": secret.arn, "ClientRequestToken": rotation, "RotationToken": str(uuid.uuid4())}
        return [self.stack.invoke(event | {"Step": step}) for step in steps]

    def test_a_rotation_refreshes_once_also_if_its_steps_are_retried_and_leaves_no_awspending(self):
        ends = [{"outcome": "ignored"}, {"outcome": "ignored"}, {"outcome": "finished"}, {"outcome": "finished"}]
        for name, steps in {
            "rotated": ["createSecret", "createSecret", "setSecret", "testSecret", "finishSecret", "finishSecret"],
            "rotated-too": ["create_secret", "create_secret", "set_secret", "test_secret", "finish_secret", "finish_secret"],
        }.items():
            token = self.token(name)
            created, retried, *others = self.rotate(token, steps)
            self.assertEqual((created["outcome"], created["reason"]), ("refreshed", "due"), name)
            self.assertEqual((retried["outcome"], retried["versionId"]), ("skipped", created["versionId"]), name)
            self.assertEqual((others, provider().exchanges[f"/{name}"]), (ends, 1), name)
            self.assertNotIn("AWSPENDING", token.labels())
            self.assertNotEqual(token.current()["accessToken"], "unseen-access-1")

    def queue(self, name: str) -> str:
        url = client("sqs").create_queue(QueueName=name)["QueueUrl"]
        self.addCleanup(client("sqs").delete_queue, QueueUrl=url)
        return url

    def received(self, url: str, text: str) -> str | None:
        """A message of a queue that contains this text."""
        for message in client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            client("sqs").delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            if text in message["Body"]:
                return message["Body"]
        return None

    def test_a_consent_that_is_withdrawn_becomes_a_message_that_a_person_can_read(self):
        queue = self.queue("people")
        arn = client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn}
        attributes = {"Policy": json.dumps({"Version": "2012-10-17", "Statement": [policy]})}
        client("sqs").set_queue_attributes(QueueUrl=queue, Attributes=attributes)
        client("sns").subscribe(TopicArn=self.stack.output("AlarmTopicArn"), Protocol="sqs", Endpoint=arn)
        provider().responses["/withdrawn"] = 400, INVALID_GRANT
        token = self.token("withdrawn")
        report = self.stack.invoke({"secretId": token.name, "force": True})
        self.assertEqual((report["failed"], report["errorType"]), (True, "ReauthorizationRequired"))
        text = json.loads(until(lambda: self.received(queue, token.name)))["Message"]
        # Not read as JSON: ministack does not escape the quotation marks in the provider's words.
        self.assertRegex(text, r'"event": ?"?Reauthorization Required"?')
        self.assertIn(f"secret `{token.name}`: ", text)
        self.assertRegex(text, r"refused the refresh \(status 400, invalid_grant.+a person must .+")
        self.assertNotIn("unseen-", text)

    def test_the_function_may_read_secrets_below_its_prefix_only(self):
        for name in (f"{PREFIX.removesuffix('/')}-2/token", "elsewhere"):
            other = Secret(self.addCleanup, name, provider().token("/elsewhere", 0))
            report = self.stack.invoke({"secretId": other.name})
            self.assertEqual((report["failed"], report["errorType"]), (True, "AccessDenied"))
            self.assertIn("not allowed to secretsmanager:GetSecretValue", report["errorMessage"])
        self.assertEqual(provider().exchanges["/elsewhere"], 0)

    def test_an_event_whose_run_fails_reaches_the_queue_of_dead_letters(self):
        event = {"secretId": f"{PREFIX}does-not-exist"}
        client("lambda").invoke(FunctionName=self.stack.name, InvocationType="Event", Payload=json.dumps(event))
        message = json.loads(until(lambda: self.received(self.stack.resource("DeadLetters"), event["secretId"])))
        self.assertEqual((message["requestPayload"], message["responsePayload"]["errorType"]), (event, "SecretNotFound"))


class Refused(unittest.TestCase):
    def test_cloudformation_refuses_parameters_that_break_a_rule_with_the_message_of_the_rule(self):
        one = "SecretName=myapp/prod/upwork"
        broken = [
            "AlarmEmail=you@example.com",
            f"{one} SecretPrefix=myapp/prod/",
            "SecretPrefix=myapp/prod/ PublishedPrefix=myapp/prod/",
            f"{one} SubnetIds=subnet-0123456789abcdef0",
            f"{one} AlarmEmail=you@example.com AlarmTopicArn=arn:aws:sns:eu-central-1:123456789012:alarms",
        ]
        rules = [each["AssertDescription"] for rule in source()["Rules"].values() for each in rule["Assertions"]]
        self.assert_refused(zip(broken, rules, strict=True))

    def test_cloudformation_refuses_a_value_with_the_description_of_what_is_allowed(self):
        values = [
            ("SecretPrefix", "myapp/prod/*"),
            ("SecretPrefix", "myapp/prod"),
            ("SecretName", "myapp/prod/*"),
            ("SecretName", "myapp/prod/upwork,myapp/prod/xero"),
        ]
        parameters = source()["Parameters"]
        self.assert_refused((f"{name}={value}", parameters[name]["ConstraintDescription"]) for name, value in values)

    def test_cloudformation_refuses_the_stack_without_the_capability_that_the_command_has(self):
        command = deploy_command("refused", PAGE_PARAMETERS).replace("--capabilities CAPABILITY_IAM", "")
        self.assertIn("InsufficientCapabilities", shell(command, folder()).stderr)

    def assert_refused(self, rows):
        for parameters, message in rows:
            with self.subTest(parameters):
                done = shell(deploy_command("refused", parameters), folder())
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(" ".join(message.split()), done.stderr)
        functions = [each["FunctionName"] for each in client("lambda").list_functions()["Functions"]]
        self.assertNotIn("refused", functions)
