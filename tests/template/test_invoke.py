"""The README's lines for invoking by hand, run as they stand: the AWS CLI, cargo-lambda's endpoint, the release binary, moto and a real
provider. What the README shows is what comes out, but for ids and times."""

import json
import os
import re
import subprocess
import tempfile
import time
import unittest
import urllib.request
import uuid

import boto3
import readme

ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
SECRET = "myapp/prod/upwork"


def told(lines: list[str]) -> list[str]:
    """The lines with times made one, and ids numbered in the order in which they come."""
    text = re.sub(r'"\d{4}-\d\d-\d\dT[0-9:.]+Z"|(?<="expiresInSeconds":)-?\d+', "TIME", "\n".join(lines))
    ids = list(dict.fromkeys(ID.findall(text)))
    return ID.sub(lambda match: f"id {ids.index(match[0])}", text).splitlines()


class Invoke(unittest.TestCase):
    def setUp(self):
        self.moto, self.api = os.environ["PEER_MOTO_URL"], os.environ["PEER_LAMBDA_URL"]
        with urllib.request.urlopen(
            urllib.request.Request(f"{os.environ['PEER_OIDC_CONTROL']}/login/public", method="POST")
        ) as answer:
            tokens = json.load(answer)
        document = {
            "accessToken": tokens["access_token"],
            "refreshToken": tokens["refresh_token"],
            "expiresAt": int(time.time() - 12) * 1000,
        }
        document |= {
            "tokenEndpoint": f"{os.environ['PEER_OIDC_ISSUER']}/token",
            "clientId": "public",
            "tokenEndpointAuthMethod": "none",
        }
        credentials = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        self.secrets = boto3.client("secretsmanager", endpoint_url=self.moto, region_name="eu-central-1", **credentials)
        self.secrets.create_secret(Name=SECRET, SecretString=json.dumps(document), ClientRequestToken=str(uuid.uuid4()))
        self.addCleanup(self.secrets.delete_secret, SecretId=SECRET, ForceDeleteWithoutRecovery=True)
        self.attach()

    def attach(self):
        environment = {
            "AWS_LAMBDA_RUNTIME_API": f"{self.api}/.rt/token-refresher",
            "AWS_LAMBDA_FUNCTION_NAME": "token-refresher",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": self.moto,
        }
        self.log = self.enterContext(tempfile.TemporaryFile())
        function = subprocess.Popen([os.environ["TOKEN_REFRESHER_BIN"]], env=environment, stdout=self.log, stderr=self.log)
        self.addCleanup(self.keep_for_unseen)
        self.addCleanup(function.wait)
        self.addCleanup(function.kill)

    def said(self) -> bytes:
        self.log.seek(0)
        return self.log.read()

    def keep_for_unseen(self):
        with open(os.environ.get("FUNCTIONS_LOG", os.devnull), "ab") as log:
            log.write(self.said())

    def invoke(self, line: str) -> tuple[str, dict]:
        """Runs a line: the function's answer, and Lambda's own."""
        done = readme.shell(line, AWS_ENDPOINT_URL=self.api)
        self.assertEqual(done.returncode, 0, done.stderr)
        _, end = json.JSONDecoder().raw_decode(done.stdout)
        return done.stdout[:end], json.loads(done.stdout[end:])

    def test_the_readmes_lines_answer_what_the_readme_shows(self):
        lines = readme.commands("Invoking by hand", "aws lambda invoke")
        self.assertEqual(len(lines), 4)
        answers = []
        for line in lines:
            # The version that the forced refresh has made.
            answer, lambdas = self.invoke(
                line.replace("VERSION", json.loads(answers[1])["versionId"]) if "VERSION" in line else line
            )
            self.assertEqual(lambdas["StatusCode"], 200)
            answers.append(answer)
        (shown,) = readme.blocks("Invoking by hand", "text")
        self.assertEqual(told(answers), told(shown.splitlines()), "\n".join(answers))
        current = self.secrets.get_secret_value(SecretId=SECRET, VersionStage="AWSCURRENT")
        self.assertEqual(current["VersionId"], json.loads(answers[2])["versionId"])

    def test_an_event_that_is_not_understood_fails_at_once_and_is_not_sent_again(self):
        (line,) = [line for line in readme.commands("Invoking by hand", "aws lambda invoke") if "dryRun" in line]
        done = readme.shell(line.replace("dryRun", "dryrun"), AWS_ENDPOINT_URL=self.api)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("(500) when calling the Invoke operation", done.stderr)
        (ended,) = map(json.loads, self.said().splitlines())
        self.assertEqual(ended["errorType"], "InvalidEvent")
        self.assertIn("did you mean `dryRun`?", ended["message"])
