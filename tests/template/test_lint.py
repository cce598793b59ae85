"""Public linters, for schedule.yaml and for the CloudFormation example of the page."""

import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import pages
from template import FILE, Stack

# What checkov reports, and why it is accepted. A rule that reports nothing any more must be removed from this list.
CHECKOV_ACCEPTED = {
    "CKV_AWS_26": "CloudWatch cannot publish to a topic with SNS's own key, and a customer managed key costs more than all the rest. "
    "Alarms contain no secret. AlarmTopicArn accepts an encrypted topic.",
    "CKV_AWS_27": "SQS encrypts the queue (SqsManagedSseEnabled). The rule does not know this.",
    "CKV_AWS_115": "Claims keep runs apart. A reserved concurrency would reject forced runs during a sweep, and a new account has no room "
    "for it. Claim=never sets it.",
    "CKV_AWS_116": "The function runs asynchronously, on a schedule. EventInvokeConfig's OnFailure sends failed events to the queue, "
    "with more details than a DeadLetterConfig would.",
    "CKV_AWS_117": "Secrets Manager and the providers are public endpoints. SubnetIds is for providers that accept fixed addresses only.",
    "CKV_AWS_158": "The log contains no secret (SECURITY.md), and CloudWatch Logs encrypts it.",
    "CKV_AWS_173": "The environment contains the name of a secret, a margin and a mode. None of them is secret.",
}


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

    def test_cfn_lint_accepts_the_example_of_the_page(self):
        (example,) = pages.blocks("Create secrets with CloudFormation", "yaml")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "secrets.yaml")
            file.write_text(example)
            done = run(os.environ["PEER_CFN_LINT"], file)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stdout + done.stderr)

    def test_the_template_has_at_most_400_lines(self):
        self.assertLessEqual(len(FILE.read_text().splitlines()), 400)

    def test_checkov_reports_only_what_is_accepted_with_a_reason(self):
        given = {"SecretPrefix": "myapp/prod/", "PublishedPrefix": "myapp/access/", "AlarmEmail": "someone@example.com"}
        stack = Stack(KmsKeyArn="arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000", **given)
        with tempfile.TemporaryDirectory() as folder:
            resolved = Path(folder, "resolved.json")
            resolved.write_text(json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": stack.resources}))
            options = ["--framework", "cloudformation", "--skip-download", "--compact", "--output", "json"]
            done = run(os.environ["PEER_CHECKOV"], "--file", resolved, *options, cwd=folder)
        report = json.loads(done.stdout)
        self.assertGreater(report["summary"]["passed"], 20)
        self.assertEqual(report["summary"]["parsing_errors"], 0)
        failed = {f"{check['check_id']} {check['resource']}" for check in report["results"]["failed_checks"]}
        self.assertEqual({each.split()[0] for each in failed}, CHECKOV_ACCEPTED.keys(), failed)
