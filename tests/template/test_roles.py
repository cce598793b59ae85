"""What the roles may do with which resource: a public IAM simulator evaluates the policies of the template."""

import functools
import json
import os
import subprocess
import unittest

from template import ACCOUNT, ARN, NAMES, Stack, secret_arn

MINE, OTHERS = secret_arn(NAMES[0]), secret_arn("myapp/test/upwork")
CLIENT = f"arn:aws:secretsmanager:eu-central-1:{ACCOUNT}:secret:client-AbCdEf"
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

    def test_the_function_may_use_its_secrets_and_do_nothing_else(self):
        stack = Stack(ClientCredentialsSecretArn=CLIENT)
        log = stack.value_of("LogGroup", "Arn").removesuffix("*") + "log-stream:a"
        queue = stack.value_of("DeadLetters", "Arn")
        used = ["GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage", "ListSecretVersionIds"]
        unused = [
            "DeleteSecret",
            "UpdateSecret",
            "DescribeSecret",
            "PutResourcePolicy",
            "DeleteResourcePolicy",
            "RotateSecret",
            "TagResource",
        ]
        rows = [(f"secretsmanager:{action}", MINE, True) for action in used]
        rows += [(f"secretsmanager:{action}", secret_arn(NAMES[1]), True) for action in used]
        rows += [(f"secretsmanager:{action}", OTHERS, False) for action in used]
        # A name that begins with one of ours.
        rows += [(f"secretsmanager:{action}", secret_arn(NAMES[0] + "-2"), False) for action in used]
        rows += [(f"secretsmanager:{action}", MINE, False) for action in unused]
        rows += [(f"secretsmanager:{action}", CLIENT, action == "GetSecretValue") for action in used]
        rows += [("secretsmanager:CreateSecret", MINE, False), ("secretsmanager:ListSecrets", "*", False)]
        rows += [("secretsmanager:BatchGetSecretValue", "*", False), ("secretsmanager:GetRandomPassword", "*", False)]
        bus = f"arn:aws:events:eu-central-1:{ACCOUNT}:event-bus/"
        rows += [("events:PutEvents", bus + "other", False)]
        rows += [("sqs:SendMessage", queue, True), ("sqs:SendMessage", queue + "-2", False)]
        rows += [("sqs:ReceiveMessage", queue, False), ("sqs:DeleteQueue", queue, False)]
        rows += [("logs:PutLogEvents", log, True), ("logs:PutLogEvents", log.replace("LogGroup", "Other"), False)]
        rows += [("logs:CreateLogGroup", stack.value_of("LogGroup", "Arn"), False)]
        rows += [("lambda:InvokeFunction", stack.value_of("Function", "Arn"), False), ("kms:Decrypt", KEY, False)]
        rows += [("iam:PassRole", stack.value_of("FunctionRole", "Arn"), False), ("cloudwatch:PutMetricData", "*", False)]
        role, policies = stack.value_of("FunctionRole", "Arn"), stack.policies("FunctionRole")
        self.check(
            (simulation(policies, action, resource, role, KEY_POLICY if "kms:" in action else None), expected)
            for action, resource, expected in rows
        )

    def test_with_a_prefix_the_function_may_use_all_secrets_below_it(self):
        stack = Stack(SecretPrefix="myapp/prod/")
        role, policies = stack.value_of("FunctionRole", "Arn"), stack.policies("FunctionRole")
        rows = [
            (MINE, True),
            (secret_arn("myapp/prod/of/tomorrow"), True),
            (OTHERS, False),
            (secret_arn("myapp/production"), False),
        ]
        for action in ("GetSecretValue", "PutSecretValue"):
            self.check((simulation(policies, f"secretsmanager:{action}", arn, role), expected) for arn, expected in rows)
        self.check([(simulation(policies, "secretsmanager:DeleteSecret", MINE, role), False)])
        for action in ("BatchGetSecretValue", "ListSecrets"):
            self.check([(simulation(policies, f"secretsmanager:{action}", "*", role), True)])

    def test_with_a_suffix_the_function_may_publish_and_readers_may_read_only_the_published_secret(self):
        stack = Stack(PublishedSuffix="/access")
        role, policies = stack.value_of("FunctionRole", "Arn"), stack.policies("FunctionRole")
        published, others = secret_arn(NAMES[0] + "/access"), secret_arn("myapp/test/upwork/access")
        rows = [
            ("GetSecretValue", True),
            ("PutSecretValue", True),
            ("UpdateSecretVersionStage", True),
            ("ListSecretVersionIds", False),
        ]
        self.check((simulation(policies, f"secretsmanager:{action}", published, role), expected) for action, expected in rows)
        self.check((simulation(policies, f"secretsmanager:{action}", others, role), False) for action, _ in rows)
        readers = [next(iter(stack.of_type("AWS::IAM::ManagedPolicy").values()))["PolicyDocument"]]
        rows = [(published, "GetSecretValue", True), (published, "PutSecretValue", False), (MINE, "GetSecretValue", False)]
        self.check((simulation(readers, f"secretsmanager:{action}", arn), expected) for arn, action, expected in rows)

    def test_the_function_and_readers_may_use_the_key_only_through_secrets_manager(self):
        stack = Stack(KmsKeyArn=KEY)
        readers = [next(iter(stack.of_type("AWS::IAM::ManagedPolicy").values()))["PolicyDocument"]]
        for policies, writes in [(stack.policies("FunctionRole"), True), (readers, False)]:
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

    def test_a_reader_may_read_its_one_token_and_nothing_else(self):
        policies = [next(iter(Stack().of_type("AWS::IAM::ManagedPolicy").values()))["PolicyDocument"]]
        rows = [
            ("GetSecretValue", MINE, True),
            ("GetSecretValue", secret_arn(NAMES[1]), False),
            ("GetSecretValue", OTHERS, False),
        ]
        rows += [(action, MINE, False) for action in ("PutSecretValue", "DescribeSecret", "ListSecretVersionIds", "DeleteSecret")]
        self.check((simulation(policies, f"secretsmanager:{action}", arn), expected) for action, arn, expected in rows)

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

    def test_a_role_can_be_assumed_only_by_its_service_for_this_stack(self):
        stack = Stack()
        group = stack.value_of("ScheduleGroup", "Arn")
        mine, other = {"aws:SourceAccount": ACCOUNT}, {"aws:SourceAccount": "999999999999"}
        rows = [
            ("FunctionRole", "lambda.amazonaws.com", mine, True),
            ("FunctionRole", "lambda.amazonaws.com", other, False),
            ("FunctionRole", "scheduler.amazonaws.com", mine, False),
            ("ScheduleRole", "scheduler.amazonaws.com", mine | {"aws:SourceArn": group}, True),
            ("ScheduleRole", "scheduler.amazonaws.com", mine | {"aws:SourceArn": group + "-2"}, False),
            ("ScheduleRole", "scheduler.amazonaws.com", other | {"aws:SourceArn": group}, False),
            ("ScheduleRole", "lambda.amazonaws.com", mine, False),
        ]
        roles = stack.of_type("AWS::IAM::Role")
        self.check(
            (
                simulation(
                    [], "sts:AssumeRole", stack.value_of(role, "Arn"), service, roles[role]["AssumeRolePolicyDocument"], context
                ),
                expected,
            )
            for role, service, context, expected in rows
        )

    def test_a_secret_of_the_stack_denies_all_but_the_function_and_the_given_roles(self):
        # Each principal has a policy that allows everything.
        function = Stack().value_of("FunctionRole", "Arn")
        principals = [function, READER, WRITER, ADMIN, ROOT]
        read = {"secretsmanager:GetSecretValue"}
        write = {
            f"secretsmanager:{action}"
            for action in ("PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage", "RotateSecret")
        }
        # An administrator of the account can still remove the policy.
        administer = {"secretsmanager:DeleteResourcePolicy", "secretsmanager:PutResourcePolicy", "secretsmanager:DescribeSecret"}
        everyone, team = set(principals), f"arn:aws:iam::{ACCOUNT}:role/team/*,{ADMIN}"
        # For each set of parameters: readers and writers of the token secrets, and of the published secrets.
        for given, tokens, published in [
            ({}, ({function}, everyone), None),
            ({"ReaderRoleArns": READER}, ({function, READER}, everyone), None),
            ({"ReaderRoleArns": team}, ({function, READER, ADMIN}, everyone), None),
            ({"WriterRoleArns": WRITER}, ({function}, {function, WRITER}), None),
            ({"ReaderRoleArns": READER, "WriterRoleArns": WRITER}, ({function, READER}, {function, WRITER}), None),
            ({"PublishedSuffix": "/access"}, ({function}, everyone), ({function}, {function})),
            ({"PublishedSuffix": "/access", "ReaderRoleArns": READER}, ({function}, everyone), ({function, READER}, {function})),
            (
                {"PublishedSuffix": "/access", "WriterRoleArns": WRITER},
                ({function}, {function, WRITER}),
                ({function}, {function, WRITER}),
            ),
        ]:
            stack = Stack(CreateSecrets="yes", **given)
            rows = []
            for name, policy in stack.of_type("AWS::SecretsManager::ResourcePolicy").items():
                arn, document = policy["SecretId"], policy["ResourcePolicy"]
                may_read, may_write = published if name.startswith("Published") else tokens
                for principal in principals:
                    for actions, allowed in [(read, may_read), (write, may_write), (administer, everyone)]:
                        for action in sorted(actions):
                            rows.append((simulation(EVERYTHING, action, arn, principal, document), principal in allowed))
            with self.subTest(given=given):
                self.check(rows)

    def test_a_secret_of_the_stack_allows_nothing_to_a_role_without_a_policy(self):
        stack = Stack(CreateSecrets="yes", ReaderRoleArns=READER)
        document = next(iter(stack.of_type("AWS::SecretsManager::ResourcePolicy").values()))["ResourcePolicy"]
        self.check([(simulation([], "secretsmanager:GetSecretValue", MINE, READER, document), False)])
