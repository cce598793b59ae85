"""The resources of the stack, compared with the code, the pages and the limits of AWS."""

import json
import re
import unittest

import pages
from template import ACCOUNT, ROOT, SECRET, STACK, Stack

KEY = f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/1234abcd"
CLIENT = f"arn:aws:secretsmanager:eu-central-1:{ACCOUNT}:secret:client-AbCdEf"
# All conditions of the template are true, except those that exclude each other: hence several stacks.
EVERYTHING = {
    "PublishedPrefix": "myapp/access/",
    "ClientCredentialsSecretArn": CLIENT,
    "KmsKeyArn": KEY,
    "SigningKmsKeyArn": KEY,
    "PermissionsBoundaryArn": f"arn:aws:iam::{ACCOUNT}:policy/boundary",
    "AlarmEmail": "someone@example.com",
    "SubnetIds": "subnet-1,subnet-2",
    "SecurityGroupIds": "sg-1",
}
STACKS = {
    "by name": Stack(),
    "by prefix": Stack(SecretPrefix="myapp/prod/"),
    "everything by name": Stack(**EVERYTHING),
    "everything by prefix": Stack(SecretPrefix="myapp/prod/", **EVERYTHING),
}

# The permissions on a customer managed key that each call to Secrets Manager needs:
# https://docs.aws.amazon.com/secretsmanager/latest/userguide/security-encryption.html
KMS = {"GetSecretValue": {"kms:Decrypt"}, "PutSecretValue": {"kms:GenerateDataKey", "kms:Decrypt"}}
# Sweeps need these, with a prefix. They have no resource of their own:
# https://docs.aws.amazon.com/service-authorization/latest/reference/list_awssecretsmanager.html
BATCHES = {"secretsmanager:BatchGetSecretValue", "secretsmanager:ListSecrets"}
# The calls that the code makes without an SDK: always, and with a signing key.
EVENTS, SIGNING = {"events:PutEvents"}, {"kms:Sign"}
# The calls that Lambda makes with the function's role: for its log, and for the destination of failed events.
LAMBDA = {"logs:CreateLogStream", "logs:PutLogEvents", "sqs:SendMessage"}


def as_list(value) -> list:
    return value if isinstance(value, list) else [value]


def statements(documents: list[dict], effect: str = "Allow") -> list[dict]:
    return [each for document in documents for each in document["Statement"] if each["Effect"] == effect]


def actions(statements: list[dict]) -> set[str]:
    return {action for statement in statements for action in as_list(statement["Action"])}


def readers(stack: Stack) -> list[dict]:
    """The documents of ReaderPolicy, if the stack has it."""
    return [each["Properties"]["PolicyDocument"] for name, each in stack.resources.items() if name == "ReaderPolicy"]


# What only tokenctl calls, with the rights of the person who runs it.
NOT_IN_THE_FUNCTION = {ROOT / "src/store/secrets_manager/create.rs"}


def calls_of_the_code() -> set[str]:
    """The operations of Secrets Manager that the function calls with the SDK's client. No other client of the SDK may be in the code."""
    calls = set()
    for path in set((ROOT / "src").rglob("*.rs")) - NOT_IN_THE_FUNCTION:
        code = path.read_text()
        services = set(re.findall(r"\baws_sdk_(\w+)", code))
        assert services <= {"secretsmanager"}, f"{path} uses {services}"
        if services:
            calls |= {name.title().replace("_", "") for name in re.findall(r"\bclient\s*\.(\w+)\(\)", code)}
    return calls


class Permissions(unittest.TestCase):
    def test_the_role_allows_what_the_code_calls_and_nothing_else(self):
        calls = calls_of_the_code()
        self.assertLessEqual({"PutSecretValue", "BatchGetSecretValue"}, calls)
        for name, stack in STACKS.items():
            with self.subTest(stack=name):
                expected = {f"secretsmanager:{call}" for call in calls} - BATCHES | EVENTS | LAMBDA
                if "prefix" in name:
                    expected |= BATCHES
                if "everything" in name:
                    expected |= SIGNING.union(*(KMS.get(call, set()) for call in calls))
                policies = stack.policies("FunctionRole")
                self.assertEqual(actions(statements(policies)), expected)
                self.assertEqual(statements(policies, "Deny"), [])
                self.assertEqual(actions(statements(stack.policies("ScheduleRole"))), {"lambda:InvokeFunction", "sqs:SendMessage"})

    def test_no_allow_statement_is_for_all_resources(self):
        for name, stack in STACKS.items():
            documents = [each for role in stack.of_type("AWS::IAM::Role") for each in stack.policies(role)] + readers(stack)
            for statement in statements(documents):
                if actions([statement]) == BATCHES:
                    self.assertEqual(("prefix" in name, statement["Resource"]), (True, "*"))
                    continue
                for resource in as_list(statement["Resource"]):
                    with self.subTest(stack=name, resource=resource):
                        service = as_list(statement["Action"])[0].split(":")[0]
                        # Service, Region and account are fixed, and no name is only a wildcard.
                        self.assertRegex(resource, rf"^arn:aws:{service}:eu-central-1:{ACCOUNT}:[A-Za-z0-9]")
                        self.assertNotRegex(resource, r"^[^*]*:\*+$" if service != "logs" else r"group:\*")

    def test_the_key_of_the_secrets_is_used_only_through_secrets_manager(self):
        for name, stack in STACKS.items():
            found = [each for each in statements(stack.policies("FunctionRole") + readers(stack)) if "kms:" in str(each["Action"])]
            found = [each for each in found if actions([each]) != SIGNING]
            self.assertEqual(len(found), 2 if "everything" in name else 0)
            for statement in found:
                via = {"StringEquals": {"kms:ViaService": "secretsmanager.eu-central-1.amazonaws.com"}}
                self.assertEqual((statement["Condition"], statement["Resource"]), (via, KEY))

    def test_every_role_has_the_boundary_if_one_is_given(self):
        for name, stack in STACKS.items():
            for role in stack.of_type("AWS::IAM::Role").values():
                expected = EVERYTHING["PermissionsBoundaryArn"] if "everything" in name else None
                self.assertEqual(role.get("PermissionsBoundary"), expected)

    def test_readers_have_a_policy_unless_it_would_be_for_all_token_secrets(self):
        for name, stack in STACKS.items():
            with self.subTest(stack=name):
                self.assertEqual("ReaderPolicy" in stack.resources, name != "by prefix")
                self.assertEqual("ReaderPolicyArn" in stack.outputs, name != "by prefix")

    def test_a_deployment_without_the_template_has_the_settings_and_the_policy_of_the_template(self):
        title, stack = "Without the template", Stack()
        function = stack.resources["Function"]["Properties"]
        (invoked,) = stack.of_type("AWS::Lambda::EventInvokeConfig").values()
        (schedule,) = stack.of_type("AWS::Scheduler::Schedule").values()
        expected = {
            "code": ["bootstrap.zip"],
            "runtime, handler": [function["Runtime"], function["Handler"]],
            "architecture": function["Architectures"],
            "memory, timeout": [f"{function['MemorySize']} MB", f"{function['Timeout']} s"],
            "environment variables": ["SECRET_ID"],
            "logging": [function["LoggingConfig"][name] for name in ("LogFormat", "ApplicationLogLevel")],
            "asynchronous invocation": [
                f"{invoked['MaximumRetryAttempts']} retry attempts",
                f"maximum event age {invoked['MaximumEventAgeInSeconds']} s",
            ],
            "schedule": [schedule["ScheduleExpression"], schedule["Target"]["Input"]],
            "role of the schedule": ["lambda:InvokeFunction"],
            "role of the function": ["logs:CreateLogStream", "logs:PutLogEvents"],
        }
        rows = {row[0]: row[1] for row in pages.tables(title)[0]}
        self.assertEqual(rows.keys(), expected.keys())
        for name, values in expected.items():
            for value in values:
                self.assertIn(value, rows[name], name)
        (policy,) = pages.blocks(title, "json")
        before = statements(stack.policies("FunctionRole"))
        self.assertEqual(json.loads(policy), {"Version": "2012-10-17", "Statement": before[:1]})
        # Each feature that needs more actions, and the parameter that adds them.
        features = {
            "`publishTo`": {"PublishedPrefix": "myapp/access/"},
            "`clientCredentialsSecretId`": {"ClientCredentialsSecretArn": CLIENT},
            "a customer managed KMS key": {"KmsKeyArn": KEY},
            "`signingKmsKeyId`": {"SigningKmsKeyArn": KEY},
            "several secrets": {"SecretPrefix": "myapp/prod/"},
        }
        more = {row[0]: set(re.findall("`(.+?)`", row[1])) for row in pages.tables(title)[1]}
        self.assertEqual(more.keys(), features.keys())
        for feature, given in features.items():
            added = [each for each in statements(Stack(**given).policies("FunctionRole")) if each not in before]
            # With a prefix, the first statement has another resource.
            self.assertEqual(more[feature], actions(added) - (actions(before[:1]) if "SecretPrefix" in given else set()), feature)


class Invocation(unittest.TestCase):
    def test_the_settings_are_on_the_page_and_sweeps_are_named_by_the_prefix(self):
        for stack, secret in [(Stack(), SECRET), (Stack(SecretPrefix="myapp/prod/"), "myapp/prod/*")]:
            variables = stack.resources["Function"]["Properties"]["Environment"]["Variables"]
            self.assertEqual(variables, {"SECRET_ID": secret, "REFRESH_MARGIN_SECONDS": "900", "CLAIM": "always"})
        settings = pages.page("docs/settings.md")
        for name in variables:
            self.assertIn(f"`{name}`", settings)

    def test_concurrency_is_reserved_only_without_claims(self):
        for claim, reserved in [("always", None), ("never", 1)]:
            for given in ({}, {"SecretPrefix": "myapp/prod/"}):
                function = Stack(Claim=claim, **given).resources["Function"]["Properties"]
                self.assertEqual(function.get("ReservedConcurrentExecutions"), reserved)

    def test_only_with_subnets_the_function_is_in_them_and_may_create_network_interfaces(self):
        for name, stack in STACKS.items():
            function, role = (stack.resources[each]["Properties"] for each in ("Function", "FunctionRole"))
            if "everything" in name:
                self.assertEqual(function["VpcConfig"], {"SubnetIds": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]})
                managed = ["arn:aws:iam::aws:policy/service-role/AWSLambdaENIManagementAccess"]
                self.assertEqual(role["ManagedPolicyArns"], managed)
            else:
                self.assertEqual((function.get("VpcConfig"), role.get("ManagedPolicyArns")), (None, None))

    def test_one_schedule_starts_a_run_for_what_secret_id_names(self):
        for stack in STACKS.values():
            (schedule,) = stack.of_type("AWS::Scheduler::Schedule").values()
            target = schedule["Target"]
            self.assertEqual((target["Input"], schedule["FlexibleTimeWindow"]), ("{}", {"Mode": "OFF"}))
            self.assertEqual(target["Arn"], stack.value_of("Function", "Arn"))
            self.assertEqual(target["RoleArn"], stack.value_of("ScheduleRole", "Arn"))

    def test_a_rule_runs_the_function_when_current_moves_on_a_token_secret(self):
        for given, name in [({}, SECRET), ({"SecretPrefix": "myapp/prod/"}, {"prefix": "myapp/prod/"})]:
            stack = Stack(**given)
            rule = stack.resources["SecretChanged"]["Properties"]
            # https://docs.aws.amazon.com/secretsmanager/latest/userguide/event-detail-secret-label-updated-secretsmanager.html
            expected = {"source": ["aws.secretsmanager"], "detail-type": ["Secret Label Updated"]}
            expected |= {"account": [ACCOUNT], "region": ["eu-central-1"]}
            self.assertEqual(rule["EventPattern"], expected | {"detail": {"labelUpdated": ["AWSCURRENT"], "name": [name]}})
            # The function reads the event itself: no Input replaces it.
            (target,) = rule["Targets"]
            self.assertEqual(target.keys(), {"Id", "Arn", "RetryPolicy"})
            self.assertEqual(target["Arn"], stack.value_of("Function", "Arn"))
        without = Stack(RunWhenSecretChanges="no").resources
        self.assertFalse({"SecretChanged", "InvokeWhenSecretChanges"} & without.keys())

    def test_a_service_may_invoke_the_function_only_for_this_rule_or_this_account(self):
        for given, expected in [
            ({}, {"events.amazonaws.com": "SourceArn", "secretsmanager.amazonaws.com": "SourceAccount"}),
            ({"RunWhenSecretChanges": "no"}, {"secretsmanager.amazonaws.com": "SourceAccount"}),
        ]:
            stack = Stack(**given)
            sources = {"SourceAccount": ACCOUNT}
            if "SecretChanged" in stack.resources:
                sources["SourceArn"] = stack.value_of("SecretChanged", "Arn")
            found = {}
            for permission in stack.of_type("AWS::Lambda::Permission").values():
                self.assertEqual((permission["Action"], permission["FunctionName"]), ("lambda:InvokeFunction", STACK))
                (source,) = permission.keys() & {"SourceArn", "SourceAccount"}
                self.assertEqual(permission[source], sources[source])
                found[permission["Principal"]] = source
            self.assertEqual(found, expected)

    def test_failed_and_undelivered_events_go_to_one_encrypted_queue_and_retries_are_limited(self):
        for stack in STACKS.values():
            (queue,) = stack.of_type("AWS::SQS::Queue").values()
            self.assertTrue(queue["SqsManagedSseEnabled"])
            arn = stack.value_of("DeadLetters", "Arn")
            (invoked,) = stack.of_type("AWS::Lambda::EventInvokeConfig").values()
            self.assertEqual(invoked["DestinationConfig"]["OnFailure"]["Destination"], arn)
            self.assertEqual(invoked["MaximumRetryAttempts"], 0)
            period = int(stack.parameters["SchedulePeriodSeconds"])
            self.assertLess(invoked["MaximumEventAgeInSeconds"], period)
            (schedule,) = stack.of_type("AWS::Scheduler::Schedule").values()
            self.assertEqual(schedule["Target"]["DeadLetterConfig"]["Arn"], arn)
            self.assertLess(schedule["Target"]["RetryPolicy"]["MaximumEventAgeInSeconds"], period)

    def test_the_log_has_a_retention_and_is_json_at_the_level_of_the_metrics(self):
        for stack in STACKS.values():
            (group,) = stack.of_type("AWS::Logs::LogGroup").values()
            self.assertGreaterEqual(int(group["RetentionInDays"]), 1)
            logging = stack.resources["Function"]["Properties"]["LoggingConfig"]
            self.assertEqual(logging["LogGroup"], stack.value_of("LogGroup", "Ref"))
            self.assertEqual((logging["LogFormat"], logging["ApplicationLogLevel"]), ("JSON", "INFO"))
