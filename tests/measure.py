#!/usr/bin/env python3
"""Measures the size, the start time and the memory of the release binary: tests/measure.py [BINARY]

Needs Linux and Python's standard library. With valgrind it also counts instructions. A small Runtime API and a small Secrets
Manager on loopback return events and a token far from expiry: the path of most scheduled runs. Times are the median of several
starts. Other load on the machine changes them."""

import http.server, json, os, re, shutil, socketserver, statistics, subprocess, sys, tempfile, threading, time, zipfile

STARTS = 15


class Quiet(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def respond(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def read(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        else:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))


class RuntimeApi(Quiet):
    def do_GET(self):
        run = self.server.run
        run.fetched.append(time.perf_counter())
        if len(run.fetched) > run.events:
            run.done.set()
            threading.Event().wait(60)
            return
        deadline = str(int(time.time() * 1000) + 60_000)
        self.respond(200, b"{}", Lambda_Runtime_Aws_Request_Id="1", Lambda_Runtime_Deadline_Ms=deadline,
                     Lambda_Runtime_Invoked_Function_Arn="arn:aws:lambda:::f", Lambda_Runtime_Trace_Id="t")

    def do_POST(self):
        self.read()
        self.server.run.results.append(self.path.rsplit("/", 1)[1])
        self.respond(202)


class SecretsManager(Quiet):
    def do_POST(self):
        self.read()
        self.secret()

    # The requests of functions that read through the extension or the agent.
    def do_GET(self):
        self.secret()

    def secret(self):
        token = {"refreshToken": "r" * 64, "accessToken": "a" * 64, "expiresAt": int(time.time() * 1000) + 3_600_000}
        secret = {"ARN": "arn:aws:secretsmanager:eu-central-1:1:secret:x", "Name": "x", "VersionId": "v" * 36,
                  "VersionStages": ["AWSCURRENT", "OAUTH_STAGED"], "CreatedDate": time.time(), "SecretString": json.dumps(token)}
        self.respond(200, json.dumps(secret).encode())


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


class Run:
    """One process that handles so many events. Fails if one returns an error."""

    def __init__(self, binary, events, *prefix, secrets_manager=SecretsManager, **settings):
        self.events, self.fetched, self.results, self.done = events, [], [], threading.Event()
        servers = [Server(("127.0.0.1", 0), handler) for handler in (RuntimeApi, secrets_manager)]
        for server in servers:
            server.run = self
            threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{servers[0].server_port}", "AWS_LAMBDA_FUNCTION_NAME": "f",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128", "AWS_LAMBDA_FUNCTION_VERSION": "1", "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "SECRET_ID": "x", "PATH": os.environ["PATH"],
            "AWS_SESSION_TOKEN": "t", "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": str(servers[1].server_port),
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": f"http://127.0.0.1:{servers[1].server_port}", **settings,
        }
        started = time.perf_counter()
        process = subprocess.Popen([*prefix, binary], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if not self.done.wait(60 * (events + 1)):
            process.kill()
            sys.exit(f"{binary} did not handle {events} events")
        with open(f"/proc/{process.pid}/status") as status:
            status = status.read()
        self.start_ms = (self.fetched[0] - started) * 1000
        self.first_ms = (self.fetched[1] - self.fetched[0]) * 1000
        self.peak_mb = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024
        self.own_mb = int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1024
        with open(f"/proc/{process.pid}/stat") as stat:
            user, system = stat.read().rsplit(")", 1)[1].split()[11:13]
        self.cpu_s = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
        process.terminate()
        self.stderr = process.communicate()[1].decode()
        if self.results != ["response"] * events:
            sys.exit(f"{binary} returned {self.results}")


def zipped(binary):
    with tempfile.TemporaryDirectory() as folder:
        archive = os.path.join(folder, "bootstrap.zip")
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as z:
            z.write(binary, "bootstrap")
        return os.path.getsize(archive)


def instructions(binary, events):
    with tempfile.NamedTemporaryFile() as out:
        run = Run(binary, events, "valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}")
    return int(re.search(r"Collected : (\d+)", run.stderr)[1])


def main(binary):
    print(f"binary             {os.path.getsize(binary) / 1e6:.2f} MB, zipped {zipped(binary) / 1e6:.2f} MB")
    runs = [Run(binary, 5) for _ in range(STARTS)]
    print(f"start to ready     {statistics.median(run.start_ms for run in runs):.2f} ms")
    print(f"peak memory        {statistics.median(run.peak_mb for run in runs):.1f} MB, without mapped files "
          f"{statistics.median(run.own_mb for run in runs):.1f} MB")
    if shutil.which("valgrind"):
        print(f"a skip, warm       {(instructions(binary, 60) - instructions(binary, 10)) / 50 / 1e6:.2f} M instructions")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "target/release/token-refresher")
