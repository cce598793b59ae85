"""Public linters, for the template and for its expanded form."""

import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

from template import FILE, NAMES, Stack, plain

# What checkov reports, and why it is accepted. A rule that reports nothing any more must be removed from this list.
CHECKOV_ACCEPTED = {
    "CKV_AWS_26": "CloudWatch cannot publish to a topic with SNS's own key, and a customer managed key costs more than all the rest. "
    "Alarms contain no secret. AlarmTopicArn accepts an encrypted topic.",
    "CKV_AWS_27": "SQS encrypts the queue (SqsManagedSseEnabled). The rule does not know this.",
    "CKV_AWS_116": "The function runs asynchronously, on a schedule. EventInvokeConfig's OnFailure sends failed events to the queue, "
    "with more details than a DeadLetterConfig would.",
    "CKV_AWS_117": "Secrets Manager and the providers are public endpoints. A VPC would need a NAT gateway, without a benefit.",
    "CKV_AWS_158": "The log contains no secret (SECURITY.md), and CloudWatch Logs encrypts it.",
    "CKV_AWS_173": "The environment contains the name of a secret, a margin and a mode. None of them is secret.",
}


# Prints the resources in the expansion of the AWS SAM CLI.
BY_SAM = """
import json, sys
from samcli.lib.cfn_language_extensions.sam_integration import expand_language_extensions
from samcli.yamlhelper import yaml_parse
result = expand_language_extensions(yaml_parse(open(sys.argv[1]).read()), parameter_values={"SecretNames": sys.argv[2]}, enabled=True)
print(json.dumps(result.expanded_template["Resources"]))
"""


def run(*command, **options):
    environment = os.environ | {"SAM_CLI_TELEMETRY": "0", "AWS_EC2_METADATA_DISABLED": "true"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, **options)


class Lint(unittest.TestCase):
    def test_cfn_lint_reports_no_error_and_no_warning(self):
        done = run(os.environ["PEER_CFN_LINT"], FILE)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stdout + done.stderr)

    def test_sam_validates_the_template(self):
        with tempfile.TemporaryDirectory() as folder:
            done = run(os.environ["PEER_SAM"], "validate", "--lint", "--template", FILE, cwd=folder)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("is a valid SAM Template", done.stdout)

    def test_checkov_reports_only_what_is_accepted_with_a_reason(self):
        key = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
        stack = Stack(CreateSecrets="yes", PublishedSuffix="/access", KmsKeyArn=key, AlarmEmail="someone@example.com")
        with tempfile.TemporaryDirectory() as folder:
            expanded = Path(folder, "expanded.json")
            expanded.write_text(json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": plain(stack.resources)}))
            options = ["--framework", "cloudformation", "--skip-download", "--compact", "--output", "json"]
            done = run(os.environ["PEER_CHECKOV"], "--file", expanded, *options, cwd=folder)
        report = json.loads(done.stdout)
        self.assertGreater(report["summary"]["passed"], 30)
        self.assertEqual(report["summary"]["parsing_errors"], 0)
        failed = {f"{check['check_id']} {check['resource']}" for check in report["results"]["failed_checks"]}
        self.assertEqual({each.split()[0] for each in failed}, CHECKOV_ACCEPTED.keys(), failed)

    def test_sam_expands_the_loops_to_the_same_logical_ids_and_references(self):
        # Two independent implementations of CloudFormation's rules. All other tests use the expansion of cfn-lint.
        done = run(Path(os.environ["PEER_SAM"]).with_name("python"), "-c", BY_SAM, FILE, ",".join(NAMES))
        self.assertEqual(done.returncode, 0, done.stderr)
        theirs, ours = json.loads(done.stdout), plain(Stack().expanded["Resources"])
        self.assertEqual(theirs.keys(), ours.keys())
        for member in (
            ["Properties", "PolicyName"],
            ["Properties", "SecretId"],
            ["Properties", "Target", "Input"],
            ["Condition"],
        ):
            for name in ours:
                found = []
                for item in (theirs[name], ours[name]):
                    for key in member:
                        item = item.get(key, {}) if isinstance(item, dict) else {}
                    found.append(item)
                self.assertEqual(*found, f"{name}: {member}")
