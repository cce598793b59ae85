"""Linters that others wrote, over the file and over what it expands to."""

import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

from template import FILE, NAMES, Stack, plain

# What checkov finds, and why it stays. A rule that finds nothing any more must go from here.
CHECKOV_ACCEPTED = {
    "CKV_AWS_26": "CloudWatch cannot publish to a topic with SNS's own key, and a key of one's own costs more than the rest; alarms hold "
    "no secret. AlarmTopicArn takes an encrypted topic.",
    "CKV_AWS_27": "The queue is encrypted by SQS (SqsManagedSseEnabled), which the rule does not know.",
    "CKV_AWS_116": "The function runs on a schedule, asynchronously: its failures go to the queue by EventInvokeConfig's OnFailure, which "
    "tells more than a DeadLetterConfig.",
    "CKV_AWS_117": "Secrets Manager and the providers are public endpoints; in a VPC it would need a NAT gateway, for nothing.",
    "CKV_AWS_158": "The log holds no secret (SECURITY.md), and is encrypted by CloudWatch Logs.",
    "CKV_AWS_173": "The environment holds the name of a secret, a margin and a mode, nothing that is secret.",
}


# Prints the resources as the AWS SAM CLI expands them.
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
    def test_cfn_lint_finds_nothing_not_even_a_warning(self):
        done = run(os.environ["PEER_CFN_LINT"], FILE)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stdout + done.stderr)

    def test_sam_takes_it_for_a_valid_template(self):
        with tempfile.TemporaryDirectory() as folder:
            done = run(os.environ["PEER_SAM"], "validate", "--lint", "--template", FILE, cwd=folder)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("is a valid SAM Template", done.stdout)

    def test_checkov_finds_what_is_accepted_with_a_reason_and_nothing_else(self):
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
        # Two who have read what CloudFormation does: what the other tests look at is cfn-lint's reading.
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
