#!/usr/bin/env python3
# Starts the real peers, runs a command with their addresses in its environment, and then stops the peers.
"""
    tests/peers/run.py [--tools] -- COMMAND [ARGUMENT...]

The command gets these environment variables. With --tools it gets only the paths, and no peer is started.

    PEER_MOTO_URL                     moto: Secrets Manager over HTTP
    PEER_OIDC_ISSUER                  oidc-provider with rotation and reuse detection; its token endpoint is /token
    PEER_OIDC_CONTROL                 its control server: see oidc_provider.mjs
    PEER_OIDC_ECHO_ISSUER             oidc-provider that returns the same refresh token every time
    PEER_OIDC_ECHO_CONTROL            its control server
    PEER_DOT_GRACE_URL                Django OAuth Toolkit, 60 s grace, reuse protection: see django_oauth_toolkit.py
    PEER_DOT_NO_REUSE_DETECTION_URL   Django OAuth Toolkit, no grace; a reuse revokes nothing
    PEER_LAMBDA_URL                   cargo-lambda's invoke API. Its functions are token-refresher and function-1 to function-8,
                                      each with its own Runtime API at /.rt/<name>, and the function _ without a name at /.rt
    PEER_MINISTACK_URL                ministack: deploys schedule.yaml, starts the function in it, and sends it events
    PEER_AGENT_URL                    aws-secretsmanager-agent in front of moto; PEER_AGENT_TOKEN is the token that it accepts
    PEER_CARGO_LAMBDA, PEER_CFN_LINT, PEER_CHECKOV, PEER_SAM, PEER_AWS  the paths of these programs
    PEER_PYTHON                       a Python with moto, botocore, cfn-lint and the OAuth libraries of requirements.txt
    PEER_NODE, PEER_NODE_FOLDER       Node, and the folder with the packages of package.json
    CHROMIUM                          a Chromium; empty if there is none

The exit code is that of the command. The peers are installed under target/peers, once. Their logs are in target/peers/log. The file
"issued" there has every token, code and client's secret that a provider issued.
All peers stop when the command ends, on SIGINT, SIGTERM and SIGHUP, and when the parent of this process is gone.
"""

import hashlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "peers"
VENV, NODE, AGENT, LOG = TARGET / "venv", TARGET / "node", TARGET / "agent", TARGET / "log"
# In their own environments: they need other versions of the same libraries than the peers.
CHECKOV, SAM, MINISTACK = TARGET / "checkov", TARGET / "sam", TARGET / "ministack"

HOST = "127.0.0.1"
AGENT_TOKEN = "token-of-the-agent"
READY_SECONDS = 90  # for the start of one peer; a loaded machine needs a tenth of it
STARTS = 3  # a port can be taken between its choice and its use
END_SECONDS = 5  # between SIGTERM and SIGKILL

PARENT = os.getppid()
running: list[subprocess.Popen] = []
signalled: list[int] = []


class Stopped(Exception):
    """A signal asked this process to end."""


class Failed(Exception):
    """A step failed. The message names it."""


def pause() -> None:
    """Waits a moment, and raises Stopped after a signal. The signal handler only records signals, so it interrupts no step."""
    time.sleep(0.05)
    if signalled or os.getppid() != PARENT:
        raise Stopped


def start(command: list, output=None, **options) -> subprocess.Popen:
    """Starts a command as the leader of its own process group."""
    error = subprocess.STDOUT if output else None
    process = subprocess.Popen(
        [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output, stderr=error, start_new_session=True, **options
    )
    running.append(process)
    return process


def signal_group(process: subprocess.Popen, number: int) -> bool:
    """Sends a signal to the process group. Returns false if the group has no process left."""
    process.poll()  # an unreaped leader keeps its group alive
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def end(processes: list[subprocess.Popen]) -> None:
    """Ends processes and their process groups."""
    left = processes
    for number in (signal.SIGTERM, signal.SIGKILL):
        left = [process for process in left if signal_group(process, number)]
        deadline = time.monotonic() + END_SECONDS
        while left and time.monotonic() < deadline:
            time.sleep(0.02)
            left = [process for process in left if signal_group(process, 0)]
    for process in list(processes):
        running.remove(process)


def run(command: list, output=None, **options) -> int:
    """Runs a command to its end and returns its exit code."""
    process = start(command, output, **options)
    while process.poll() is None:
        pause()
    end([process])
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def log_tail(name: str) -> str:
    lines = (LOG / f"{name}.log").read_text(errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-30:])


def install(folder: Path, sources: list[Path], commands: list[list]) -> None:
    """Runs commands that install into a folder, unless they have already run with the same sources."""
    digest = hashlib.sha256(f"{sys.version} {folder}".encode())
    for source in sources:
        digest.update(source.read_bytes())
    stamp = folder / "installed-from"
    if stamp.is_file() and stamp.read_text() == digest.hexdigest():
        return
    name = f"install-{folder.name}"
    print(f"peers: installing {folder.name}; log: {LOG / name}.log", file=sys.stderr)
    started = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for source in sources:
        shutil.copy(source, folder)
    with open(LOG / f"{name}.log", "ab") as log:
        for command in commands:
            if run(command, log, cwd=folder) != 0:
                raise Failed(f"{' '.join(map(str, command))}\n{log_tail(name)}")
    stamp.write_text(digest.hexdigest())
    print(f"peers: installed {folder.name} in {time.monotonic() - started:.0f} s", file=sys.stderr)


def install_python(folder: Path, requirements: Path) -> None:
    # Python compiles a module when it is first imported. Most of these are never imported.
    options = ["--disable-pip-version-check", "--no-compile", "--requirement", requirements]
    pip = [folder / "bin/python", "-m", "pip", "install", *options]
    install(folder, [requirements], [[sys.executable, "-m", "venv", folder], pip])


@dataclass
class Peer:
    name: str
    variables: list[str]  # one for each port that it listens on, in order
    command: Callable[..., list]  # gets the ports
    health: str | None  # the path on the last port that returns 200 when the peer is ready; None: it is ready when it listens
    environment: dict[str, str] = field(default_factory=dict)
    cwd: Path | None = None

    def start(self, ports: list[int]) -> None:
        self.ports = ports
        with open(LOG / f"{self.name}.log", "ab") as log:
            environment = os.environ | {"PEER_ISSUED": str(LOG / "issued")} | self.environment
            self.process = start(self.command(*ports), log, env=environment, cwd=self.cwd)

    def is_ready(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.ports[-1], timeout=2)
        try:
            if self.health is None:
                connection.connect()
                return True
            connection.request("GET", self.health)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        starts = 1
        while True:
            ready = self.is_ready()
            if self.process.poll() is None and ready:
                return
            if self.process.poll() is not None and starts < STARTS:
                end([self.process])
                self.start(free_ports(len(self.ports)))
                starts += 1
            elif self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"{self.name} did not start:\n{log_tail(self.name)}")
            pause()

    def addresses(self) -> dict[str, str]:
        return {name: f"http://{HOST}:{port}" for name, port in zip(self.variables, self.ports)}


def free_ports(count: int) -> list[int]:
    with ExitStack() as sockets:
        chosen = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in chosen:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in chosen]


def oidc_provider(port: int, control_port: int) -> list:
    return ["node", NODE / "oidc_provider.mjs", port, control_port, HERE.parent / "fixtures/keys"]


def django_oauth_toolkit(*settings: str) -> Callable[..., list]:
    return lambda port: [VENV / "bin/python", HERE / "django_oauth_toolkit.py", port, *settings]


def cargo_lambda(port: int) -> list:
    # With the timeout, an invocation that no function fetches gets a 408. Without it there is no response.
    watch = ["lambda", "watch", "--only-lambda-apis", "--timeout", 60, "--invoke-address", HOST, "--invoke-port", port]
    return [VENV / "bin/cargo-lambda", *watch]


def ministack(folder: Path) -> Callable[..., list]:
    """ministack gives its whole environment to the functions that it starts. So it gets only what they may see."""
    temporary = folder / "ministack"
    temporary.mkdir()

    def command(port: int) -> list:
        environment = {
            "PATH": os.defpath, "HOME": temporary, "TMPDIR": temporary,
            "BIND_HOST": HOST, "MINISTACK_HOST": HOST, "GATEWAY_PORT": port, "MINISTACK_REGION": "eu-central-1",
            # Policies are enforced, for the function with its own role.
            "AUTH": "true",
            # It would listen on the ports of these two services.
            "SFTP_ENABLED": 0, "IOT_MTLS_ENABLED": 0,
            # For the functions: where AWS is, and what Lambda sets from LoggingConfig and ministack does not.
            "AWS_ENDPOINT_URL": f"http://{HOST}:{port}", "AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "INFO",
        }  # fmt: skip
        assignments = [f"{name}={value}" for name, value in environment.items()]
        return ["env", "-i", *assignments, MINISTACK / "bin/ministack"]

    return command


def secretsmanager_agent(folder: Path, moto: str) -> Peer:
    """AWS's own agent. It needs moto at its start, because it calls STS."""

    def command(port: int) -> list:
        settings = folder / "agent.toml"
        settings.write_text(f'http_port = "{port}"\nlog_to_file = false\nregion = "eu-central-1"\n')
        return [AGENT / "bin/aws_secretsmanager_agent", "--config", settings]

    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "eu-central-1"}
    return Peer("agent", ["PEER_AGENT_URL"], command, "/ping", keys | {"AWS_ENDPOINT_URL": moto, "AWS_TOKEN": AGENT_TOKEN})


def lambda_package(folder: Path) -> Path:
    """Writes a package whose binaries have the names of the functions. cargo-lambda reads the names and builds nothing."""
    (folder / "src/bin").mkdir(parents=True)
    (folder / "Cargo.toml").write_text('[package]\nname = "functions"\nedition = "2021"\n')
    for name in ["token-refresher", *(f"function-{number}" for number in range(1, 9))]:
        (folder / f"src/bin/{name}.rs").write_text("fn main() {}\n")
    return folder


def peers(folder: Path) -> list[Peer]:
    return [
        Peer(
            "moto",
            ["PEER_MOTO_URL"],
            lambda port: [VENV / "bin/python", HERE / "moto_in_turns.py", port],
            "/moto-api/data.json",
        ),
        Peer("oidc", ["PEER_OIDC_ISSUER", "PEER_OIDC_CONTROL"], oidc_provider, "/health", {"ROTATE": "1"}),
        Peer("oidc-echo", ["PEER_OIDC_ECHO_ISSUER", "PEER_OIDC_ECHO_CONTROL"], oidc_provider, "/health", {"ROTATE": "0"}),
        Peer("dot-grace", ["PEER_DOT_GRACE_URL"], django_oauth_toolkit("60", "on"), "/health"),
        Peer("dot-no-reuse-detection", ["PEER_DOT_NO_REUSE_DETECTION_URL"], django_oauth_toolkit("0", "off"), "/health"),
        # No health path: any GET would be queued as an event for the function.
        Peer("lambda", ["PEER_LAMBDA_URL"], cargo_lambda, None, cwd=lambda_package(folder)),
        Peer("ministack", ["PEER_MINISTACK_URL"], ministack(folder), "/_ministack/ready", cwd=folder),
    ]


def chromium() -> str:
    """Returns the path of a Chromium, or "" if there is none and none can be installed. Root installs Debian's."""
    names = [os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
    find = lambda: next((path for name in names if name and (path := shutil.which(name))), "")  # noqa: E731
    if find() or os.geteuid() != 0 or not shutil.which("apt-get"):
        return find()
    print(f"peers: installing chromium; log: {LOG}/install-chromium.log", file=sys.stderr)
    install = ["apt-get", "install", "--yes", "--no-install-recommends", "chromium", "fonts-dejavu-core"]
    with open(LOG / "install-chromium.log", "ab") as log:
        # A machine that is new has no list of packages.
        if run(install, log, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}) != 0:
            run(["apt-get", "update"], log)
            run(install, log, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
    return find()


def install_all() -> dict[str, str]:
    """Installs all peers that are not installed yet. Returns the variables with paths."""
    shutil.rmtree(LOG, ignore_errors=True)
    LOG.mkdir(parents=True)
    pins = {VENV: "requirements.txt", CHECKOV: "checkov.txt", SAM: "sam.txt", MINISTACK: "ministack.txt"}
    for venv, requirements in pins.items():
        install_python(venv, HERE / requirements)
    node_sources = [HERE / "package.json", HERE / "package-lock.json"]
    install(NODE, node_sources, [["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]])
    agent_pin = HERE / "agent-requirements.txt"
    # Without optimisation, because its speed does not matter.
    profile = ["--config", "profile.release.opt-level=0", "--config", "profile.release.codegen-units=16"]
    name, version = agent_pin.read_text().splitlines()[-1].split("==")
    cargo = ["cargo", "install", "--locked", *profile, "--root", AGENT, "--version", version, name]
    install(AGENT, [agent_pin], [cargo])
    # Node looks for packages next to the script.
    scripts = ["peers/oidc_provider.mjs", "peers/browser.mjs", "peers/documents/node.mjs", "template/simulate.mjs"]
    for script in (HERE.parent / name for name in scripts):
        shutil.copy(script, NODE)
    return {
        "PEER_CARGO_LAMBDA": f"{VENV}/bin/cargo-lambda",
        "PEER_CFN_LINT": f"{VENV}/bin/cfn-lint",
        "PEER_CHECKOV": f"{CHECKOV}/bin/checkov",
        "PEER_SAM": f"{SAM}/bin/sam",
        "PEER_AWS": f"{VENV}/bin/aws",
        "PEER_PYTHON": f"{VENV}/bin/python",
        "PEER_NODE": f"{shutil.which('node')}",
        "PEER_NODE_FOLDER": f"{NODE}",
        "CHROMIUM": chromium(),
    }


def run_with_peers(command: list[str], environment: dict[str, str], folder: Path) -> int:
    started = peers(folder)
    ports = iter(free_ports(sum(len(peer.variables) for peer in started)))
    for peer in started:
        peer.start([next(ports) for _ in peer.variables])
    for peer in started:
        peer.wait_until_ready()
        environment |= peer.addresses()
    agent = secretsmanager_agent(folder, environment["PEER_MOTO_URL"])
    agent.start(free_ports(1))
    agent.wait_until_ready()
    environment |= agent.addresses() | {"PEER_AGENT_TOKEN": AGENT_TOKEN}
    started.append(agent)

    code = run(command, env=environment)
    for peer in started:
        if peer.process.poll() is not None:
            print(f"peers: {peer.name} ended before the command did:\n{log_tail(peer.name)}", file=sys.stderr)
    return code


def main() -> int:
    if sys.version_info < (3, 11):
        sys.exit("peers: needs Python 3.11 or newer")
    tools_only = sys.argv[1:2] == ["--tools"]
    separator, *command = sys.argv[1 + tools_only :] or [None]
    if separator != "--" or not command:
        sys.exit("usage: run.py [--tools] -- COMMAND [ARGUMENT...]")
    for program in ("cargo", "node", "npm"):
        if shutil.which(program) is None:
            sys.exit(f"peers: needs {program} on the PATH")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: signalled.append(number))
    with tempfile.TemporaryDirectory() as folder:
        try:
            environment = os.environ | install_all()
            return run(command, env=environment) if tools_only else run_with_peers(command, environment, Path(folder))
        except Stopped:
            return 128 + (signalled or [signal.SIGHUP])[0]
        except (Failed, OSError) as failure:
            print(f"peers: {failure}", file=sys.stderr)
            return 1
        finally:
            end(running)


if __name__ == "__main__":
    sys.exit(main())
