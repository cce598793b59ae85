#!/usr/bin/env python3
"""Measures the memory of a sweep: benches/sweep_memory.py [BINARY]

Needs Linux, Python's standard library and the release binary. Starts it with the Runtime API of tests/measure.py and a Secrets
Manager on loopback, for more and more secrets whose tokens are far from expiry. Each process sweeps three times. Fails if 45,000
secrets need more than a little more memory than 20."""

import json, os, pathlib, sys, time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
from measure import Quiet, Run  # noqa: E402

SWEEPS = 3
SECRETS = [20, 1_000, 10_000, 45_000]
PAGE = 20
MOST_GROWTH_MB = 4


class SecretsManager(Quiet):
    """Secrets that are made when they are read. The token of a page is the number of its first secret."""

    count = 0

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.headers["X-Amz-Target"] == "secretsmanager.BatchGetSecretValue", self.headers["X-Amz-Target"]
        first = int(request.get("NextToken") or 0)
        end = min(first + PAGE, self.count)
        page = {"SecretValues": [secret(number) for number in range(first, end)], "Errors": []}
        if end < self.count:
            page["NextToken"] = str(end)
        self.respond(200, json.dumps(page).encode())


def secret(number):
    name = f"load/{number:05}"
    # Tokens of a usual length: those that are JWTs have some hundred characters.
    token = {"refreshToken": f"{number:0800}", "accessToken": f"{number:0800}", "expiresAt": int(time.time() * 1000) + 3_600_000,
             "tokenEndpoint": "https://id.example/token", "clientId": "c", "clientSecret": "s" * 40}
    return {"ARN": f"arn:aws:secretsmanager:eu-central-1:1:secret:{name}-AbCdEf", "Name": name, "VersionId": f"{number:036}",
            "VersionStages": ["AWSCURRENT", "OAUTH_STAGED"], "CreatedDate": time.time(), "SecretString": json.dumps(token)}


def main(binary):
    peaks = []
    for count in SECRETS:
        run = Run(binary, SWEEPS, secrets_manager=type("Counted", (SecretsManager,), {"count": count}), SECRET_ID="load/*")
        peaks.append(run.peak_mb)
        print(f"{count:6} secrets  peak memory {run.peak_mb:5.1f} MB, of that its own {run.own_mb:4.1f} MB; "
              f"a sweep needs {run.cpu_s / SWEEPS:.2f} s of CPU time", flush=True)
    if peaks[-1] > peaks[0] + MOST_GROWTH_MB:
        sys.exit(f"memory grows with the secrets: from {peaks[0]:.1f} MB to {peaks[-1]:.1f} MB")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "target/release/token-refresher")
