"""Runs the commands of docs/events.md, "Invoking by hand", unchanged: the AWS CLI, cargo-lambda's endpoint, the release binary, moto and a
real provider. The responses must be those on the page, except for ids and times."""

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
import pages

ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
SECRET = "myapp/prod/upwork"


def normalized(lines: list[str]) -> list[str]:
    """The lines with one placeholder for all times, and with ids numbered in the order of their first use."""
    text = re.sub(r'"\d{4}-\d\d-\d\dT[0-9:.]+Z"|(?<="expiresInSeconds":)-?\d+', "TIME", "\n".join(lines))
    ids = list(dict.fromkeys(ID.findall(text)))
    return ID.sub(lambda match: f"id {ids.index(match[0])}", text).splitlines()


class Invoke(unittest.TestCase):
    def setUp(self):
        self.moto, self.api = os.environ["PEER_MOTO_URL"], os.environ["PEER_LAMBDA_URL"]
        login = urllib.request.Request(f"{os.environ['PEER_OIDC_CONTROL']}/login/public", method="POST")
        with urllib.request.urlopen(login) as response:
            tokens = json.load(response)
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
        self.start_function()

    def start_function(self):
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
        self.addCleanup(self.append_to_functions_log)
        self.addCleanup(function.wait)
        self.addCleanup(function.kill)

    def output(self) -> bytes:
        """What the function has printed so far."""
        self.log.seek(0)
        return self.log.read()

    def append_to_functions_log(self):
        """tests/run searches this log for secrets."""
        with open(os.environ.get("FUNCTIONS_LOG", os.devnull), "ab") as log:
            log.write(self.output())

    def invoke(self, command: str) -> tuple[str, dict]:
        """Runs a command and returns the function's response and Lambda's own output."""
        done = pages.shell(command, AWS_ENDPOINT_URL=self.api)
        self.assertEqual(done.returncode, 0, done.stderr)
        _, end = json.JSONDecoder().raw_decode(done.stdout)
        return done.stdout[:end], json.loads(done.stdout[end:])

    def test_the_commands_of_the_page_return_the_responses_of_the_page(self):
        commands = pages.commands("Invoking by hand", "aws lambda invoke")
        self.assertEqual(len(commands), 4)
        responses = []
        for command in commands:
            if "VERSION" in command:
                # The version that the second command, a forced refresh, has made current.
                command = command.replace("VERSION", json.loads(responses[1])["versionId"])
            response, lambda_output = self.invoke(command)
            self.assertEqual(lambda_output["StatusCode"], 200)
            responses.append(response)
        (shown,) = pages.blocks("Invoking by hand", "text")
        self.assertEqual(normalized(responses), normalized(shown.splitlines()), "\n".join(responses))
        current = self.secrets.get_secret_value(SecretId=SECRET, VersionStage="AWSCURRENT")
        self.assertEqual(current["VersionId"], json.loads(responses[2])["versionId"])

    def test_an_unknown_event_fails_at_once_and_is_not_retried(self):
        (command,) = [each for each in pages.commands("Invoking by hand", "aws lambda invoke") if "dryRun" in each]
        done = pages.shell(command.replace("dryRun", "dryrun"), AWS_ENDPOINT_URL=self.api)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("(500) when calling the Invoke operation", done.stderr)
        (line,) = map(json.loads, self.output().splitlines())
        self.assertEqual(line["errorType"], "InvalidEvent")
        self.assertIn("did you mean `dryRun`?", line["message"])
