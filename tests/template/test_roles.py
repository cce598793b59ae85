"""What the roles may do with which resource: a public IAM simulator evaluates the policies of schedule.yaml, and those of the example in
docs/deploy.md."""

import functools
import json
import os
import subprocess
import unittest

import pages
from template import ACCOUNT, ARN, SECRET, Stack, secret_arn

PREFIX = "myapp/prod/"
MINE, OTHERS = secret_arn(SECRET), secret_arn("myapp/test/upwork")
PUBLISHED = secret_arn("myapp/access/upwork")
CLIENT = f"arn:aws:secretsmanager:eu-central-1:{ACCOUNT}:secret:client-AbCdEf"
CLIENTS_BELOW = secret_arn("myapp/client")
KEY = f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
OTHER_KEY = KEY.replace("1234abcd", "00000000")
READER, WRITER, ADMIN = (f"arn:aws:iam::{ACCOUNT}:role/{name}" for name in ("team/reader", "writer", "admin"))
ROOT = f"arn:aws:iam::{ACCOUNT}:root"

EVERYTHING = [{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}]
# The default policy of a KMS key: the policies of the account's roles decide.
KEY_POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "kms:*", "Resource": "*"}],
}
VIA = {"kms:ViaService": "secretsmanager.eu-central-1.amazonaws.com"}


FUNCTION = Stack().value_of("FunctionRole", "Arn")
USED = ["GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage", "ListSecretVersionIds"]
UNUSED = ["DeleteSecret", "UpdateSecret", "DescribeSecret", "PutResourcePolicy", "DeleteResourcePolicy", "RotateSecret", "TagResource"]


def readers(**parameters) -> list[dict]:
    """The documents of ReaderPolicy."""
    (policy,) = Stack(**parameters).of_type("AWS::IAM::ManagedPolicy").values()
    return [policy["PolicyDocument"]]


def simulation(policies, action, resource, principal=READER, resource_policy=None, context=None):
    simulated = {
        "request": {
            "principal": principal,
            "action": action,
            "resource": {"resource": resource, "accountId": ACCOUNT},
            "contextVariables": {"aws:PrincipalArn": principal} | (context or {}),
        },
        "identityPolicies": [{"name": f"policy{number}", "policy": policy} for number, policy in enumerate(policies)],
        "serviceControlPolicies": [],
        "resourceControlPolicies": [],
    }
    return simulated | ({"resourcePolicy": resource_policy} if resource_policy else {})


def evaluate(simulations: list[dict]) -> list[bool]:
    """Whether each simulated request is allowed."""
    script = os.path.join(os.environ["PEER_NODE_FOLDER"], "simulate.mjs")
    done = subprocess.run(["node", script], input=json.dumps(simulations), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert set(results) <= {"Allowed", "ImplicitlyDenied", "ExplicitlyDenied"}, results
    return [result == "Allowed" for result in results]


class Roles(unittest.TestCase):
    def check(self, rows):
        """Each row has a simulation and whether it must be allowed."""
        rows = list(rows)
        for (simulated, expected), found in zip(rows, evaluate([simulated for simulated, _ in rows]), strict=True):
            with self.subTest(**{name: simulated["request"][name] for name in ("principal", "action", "resource")}):
                self.assertEqual(found, expected)

    def check_secrets(self, policies: list[dict], role: str, rows: list[tuple]):
        """Each row has a secret, and the actions of Secrets Manager that are allowed on it. All others must be denied."""
        self.check(
            (simulation(policies, f"secretsmanager:{action}", arn, role), action in allowed)
            for arn, allowed in rows
            for action in (*USED, *UNUSED)
        )

    def test_the_function_may_use_its_secret_and_do_nothing_else(self):
        stack = Stack(ClientCredentialsSecretArn=CLIENT)
        policies = stack.policies("FunctionRole")
        # The third and the fourth have names that begin with ours. The random part of an ARN has six characters.
        rows = [(MINE, USED), (OTHERS, []), (secret_arn(SECRET + "-2"), []), (secret_arn(SECRET + "/2"), [])]
        self.check_secrets(policies, FUNCTION, [*rows, (CLIENT, ["GetSecretValue"]), (PUBLISHED, [])])
        log = stack.value_of("LogGroup", "Arn").removesuffix("*") + "log-stream:a"
        queue = stack.value_of("DeadLetters", "Arn")
        bus = f"arn:aws:events:eu-central-1:{ACCOUNT}:event-bus/"
        rows = [("secretsmanager:CreateSecret", MINE, False), ("secretsmanager:ListSecrets", "*", False)]
        rows += [("secretsmanager:BatchGetSecretValue", "*", False), ("secretsmanager:GetRandomPassword", "*", False)]
        rows += [("sqs:SendMessage", queue, True), ("sqs:SendMessage", queue + "-2", False)]
        rows += [("sqs:ReceiveMessage", queue, False), ("sqs:DeleteQueue", queue, False)]
        rows += [("logs:PutLogEvents", log, True), ("logs:PutLogEvents", log.replace("LogGroup", "Other"), False)]
        rows += [("logs:CreateLogGroup", stack.value_of("LogGroup", "Arn"), False)]
        rows += [("lambda:InvokeFunction", stack.value_of("Function", "Arn"), False), ("kms:Decrypt", KEY, False)]
        rows += [("iam:PassRole", FUNCTION, False), ("cloudwatch:PutMetricData", "*", False)]
        self.check(
            (simulation(policies, action, resource, FUNCTION, KEY_POLICY if "kms:" in action else None), expected)
            for action, resource, expected in rows
        )
        # Events only on the default bus, and only with its own source.
        self.check(
            (simulation(policies, "events:PutEvents", bus + name, FUNCTION, context={"events:source": [source]}), expected)
            for name, source, expected in [
                ("default", "token-refresher", True),
                ("default", "aws.secretsmanager", False),
                ("other", "token-refresher", False),
            ]
        )

    def test_with_a_prefix_the_function_may_use_all_secrets_below_it(self):
        policies = Stack(SecretPrefix=PREFIX).policies("FunctionRole")
        rows = [(MINE, USED), (secret_arn("myapp/prod/of/tomorrow"), USED), (OTHERS, []), (secret_arn("myapp/production"), [])]
        self.check_secrets(policies, FUNCTION, rows)
        for action in ("BatchGetSecretValue", "ListSecrets"):
            self.check([(simulation(policies, f"secretsmanager:{action}", "*", FUNCTION), True)])

    def test_with_published_secrets_the_function_may_also_write_these(self):
        may = ["GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage"]
        for given in ({}, {"SecretPrefix": PREFIX}):
            policies = Stack(PublishedPrefix="myapp/access/", **given).policies("FunctionRole")
            self.check_secrets(policies, FUNCTION, [(MINE, USED), (PUBLISHED, may), (OTHERS, [])])

    def test_a_reader_may_read_its_token_or_the_published_secrets_and_no_other_secret(self):
        read = ["GetSecretValue"]
        second, lower = secret_arn("myapp/prod/xero"), secret_arn("myapp/prod/access/upwork")
        for given, rows in [
            ({}, [(MINE, read), (second, []), (secret_arn(SECRET + "-2"), []), (PUBLISHED, [])]),
            ({"PublishedPrefix": "myapp/access/"}, [(MINE, []), (PUBLISHED, read), (OTHERS, [])]),
            # The names of token secrets begin with the prefix of published ones.
            ({"PublishedPrefix": "myapp/"}, [(MINE, []), (PUBLISHED, read)]),
            ({"PublishedPrefix": "myapp/prod/"}, [(MINE, []), (lower, read)]),
            ({"SecretPrefix": PREFIX, "PublishedPrefix": "myapp/access/"}, [(MINE, []), (second, []), (PUBLISHED, read), (OTHERS, [])]),
            ({"SecretPrefix": PREFIX, "PublishedPrefix": "myapp/"}, [(MINE, []), (second, []), (PUBLISHED, read)]),
            # The client's secret, too, below the prefix of published secrets.
            ({"PublishedPrefix": "myapp/", "ClientCredentialsSecretArn": CLIENTS_BELOW}, [(CLIENTS_BELOW, []), (PUBLISHED, read)]),
            # Published secrets below the prefix of token secrets: readers are denied.
            ({"SecretPrefix": PREFIX, "PublishedPrefix": "myapp/prod/access/"}, [(MINE, []), (lower, []), (PUBLISHED, [])]),
        ]:
            with self.subTest(given=given):
                self.check_secrets(readers(**given), READER, rows)

    def test_the_policy_for_readers_denies_token_secrets_to_a_role_that_is_allowed_everything(self):
        for given in ({"PublishedPrefix": "myapp/access/"}, {"SecretPrefix": PREFIX, "PublishedPrefix": "myapp/"}):
            policies = EVERYTHING + readers(**given)
            self.check([(simulation(policies, "secretsmanager:GetSecretValue", arn), arn == PUBLISHED) for arn in (MINE, PUBLISHED)])

    def test_the_function_and_readers_may_use_the_key_only_through_secrets_manager(self):
        for policies, writes in [(Stack(KmsKeyArn=KEY).policies("FunctionRole"), True), (readers(KmsKeyArn=KEY), False)]:
            use = functools.partial(simulation, policies, resource_policy=KEY_POLICY)
            rows = [
                (use("kms:Decrypt", KEY, context=VIA), True),
                (use("kms:GenerateDataKey", KEY, context=VIA), writes),
                (use("kms:Encrypt", KEY, context=VIA), False),
                (use("kms:Decrypt", OTHER_KEY, context=VIA), False),
                (use("kms:Decrypt", KEY), False),
                (use("kms:Decrypt", KEY, context={"kms:ViaService": "secretsmanager.us-east-1.amazonaws.com"}), False),
                (use("kms:Decrypt", KEY, context={"kms:ViaService": "s3.eu-central-1.amazonaws.com"}), False),
            ]
            self.check(rows)

    def test_the_function_may_sign_with_the_signing_key_and_do_nothing_else_with_it(self):
        sign = functools.partial(simulation, Stack(SigningKmsKeyArn=KEY).policies("FunctionRole"), resource_policy=KEY_POLICY)
        rows = [
            (sign("kms:Sign", KEY), True),
            (sign("kms:Sign", OTHER_KEY), False),
            (sign("kms:GetPublicKey", KEY), False),
            (sign("kms:Decrypt", KEY, context=VIA), False),
            (simulation(Stack().policies("FunctionRole"), "kms:Sign", KEY, resource_policy=KEY_POLICY), False),
        ]
        self.check(rows)

    def test_the_schedule_may_invoke_this_function_and_send_to_its_queue(self):
        stack = Stack()
        function, queue = stack.value_of("Function", "Arn"), stack.value_of("DeadLetters", "Arn")
        rows = [
            ("lambda:InvokeFunction", function, True),
            ("lambda:InvokeFunction", function + "-2", False),
            ("lambda:UpdateFunctionCode", function, False),
            ("sqs:SendMessage", queue, True),
            ("sqs:SendMessage", f"{ARN.format('sqs')}another", False),
            ("secretsmanager:GetSecretValue", MINE, False),
        ]
        policies = stack.policies("ScheduleRole")
        self.check((simulation(policies, action, resource), expected) for action, resource, expected in rows)

    def test_a_role_can_be_assumed_only_by_its_service_for_this_account(self):
        stack = Stack()
        mine, other = {"aws:SourceAccount": ACCOUNT}, {"aws:SourceAccount": "999999999999"}
        rows = [
            ("FunctionRole", "lambda.amazonaws.com", mine, True),
            ("FunctionRole", "lambda.amazonaws.com", other, False),
            ("FunctionRole", "scheduler.amazonaws.com", mine, False),
            ("ScheduleRole", "scheduler.amazonaws.com", mine, True),
            ("ScheduleRole", "scheduler.amazonaws.com", other, False),
            ("ScheduleRole", "lambda.amazonaws.com", mine, False),
        ]
        roles = stack.of_type("AWS::IAM::Role")
        self.assertEqual(roles.keys(), {row[0] for row in rows})
        for role, service, context, expected in rows:
            trust = roles[role]["AssumeRolePolicyDocument"]
            simulated = simulation([], "sts:AssumeRole", stack.value_of(role, "Arn"), service, trust, context)
            self.check([(simulated, expected)])


class Example(unittest.TestCase):
    """The secret that the example of the page creates."""

    check = Roles.check

    def stack(self, **given) -> Stack:
        (text,) = pages.blocks("Create secrets with CloudFormation", "yaml")
        return Stack(text, SecretName=SECRET, FunctionRoleArn=FUNCTION, **given)

    def test_the_secret_stays_if_the_stack_is_deleted(self):
        stack = self.stack(ReaderRoleArns=READER, WriterRoleArns=WRITER)
        (secret,) = (each for each in stack.resources.values() if each["Type"] == "AWS::SecretsManager::Secret")
        self.assertEqual((secret["DeletionPolicy"], secret["UpdateReplacePolicy"]), ("Retain", "Retain"))
        self.assertEqual(secret["Properties"]["Name"], SECRET)
        self.assertEqual((stack.broken_rules(), stack.outputs), ([], {}))

    def policy(self, **given) -> dict:
        (policy,) = self.stack(**given).of_type("AWS::SecretsManager::ResourcePolicy").values()
        self.assertEqual((policy["SecretId"], policy["BlockPublicPolicy"]), (MINE, True))
        self.assertEqual([each["Sid"] for each in policy["ResourcePolicy"]["Statement"]], ["OthersMayNotRead", "OthersMayNotWrite"])
        return policy["ResourcePolicy"]

    def test_it_denies_all_but_the_function_and_the_given_roles(self):
        # Each principal has a policy that allows everything.
        principals = [FUNCTION, READER, WRITER, ADMIN, ROOT]
        read = ["GetSecretValue"]
        write = ["PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage", "RotateSecret"]
        # An administrator of the account can still remove the policy.
        administer = ["DeleteResourcePolicy", "PutResourcePolicy", "DescribeSecret"]
        team = f"arn:aws:iam::{ACCOUNT}:role/team/*,{ADMIN}"
        for readers, writers, may_read, may_write in [
            (READER, WRITER, {READER}, {WRITER}),
            (team, WRITER, {READER, ADMIN}, {WRITER}),
            (f"{READER},{WRITER}", f"{WRITER},{ADMIN}", {READER, WRITER}, {WRITER, ADMIN}),
        ]:
            document = self.policy(ReaderRoleArns=readers, WriterRoleArns=writers)
            with self.subTest(readers=readers, writers=writers):
                self.check(
                    (simulation(EVERYTHING, f"secretsmanager:{action}", MINE, principal, document), principal in allowed)
                    for actions, allowed in [(read, may_read | {FUNCTION}), (write, may_write | {FUNCTION}), (administer, principals)]
                    for action in actions
                    for principal in principals
                )

    def test_it_allows_nothing_to_a_role_without_a_policy(self):
        document = self.policy(ReaderRoleArns=READER, WriterRoleArns=WRITER)
        self.check([(simulation([], "secretsmanager:GetSecretValue", MINE, READER, document), False)])
