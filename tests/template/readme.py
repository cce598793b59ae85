"""The README's sections and the commands in them, for tests that hold it to its word."""

import os
import re
import subprocess

from template import ROOT

text = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    """What stands below a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ [A-Z]|\Z)", text, re.M | re.S)
    assert found, f"the README has no section {title!r}"
    return found[1]


def blocks(title: str, language: str) -> list[str]:
    """The code blocks of a section."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", section(title), re.M | re.S)
    assert found, f"the section {title!r} has no {language}"
    return found


def commands(title: str, program: str) -> list[str]:
    """The commands of a section that call a program, each with its continued lines."""
    lines = "".join(blocks(title, "sh")).replace("\\\n", " ").replace("|\n", "|").splitlines()
    found = [" ".join(line.split()) for line in lines if not line.startswith("#") and program in line]
    assert found, f"the section {title!r} does not call {program}"
    return found


def shell(command: str, cwd=None, **environment: str) -> subprocess.CompletedProcess:
    """Runs a command as a reader would, with the tools of the tests first on the path and an account that does not exist."""
    tools = os.pathsep.join(os.path.dirname(os.environ[tool]) for tool in ("PEER_AWS", "PEER_SAM"))
    environment = {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "HOME": os.environ["HOME"],
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        # cargo-lambda answers errors with 500, which the CLI would try again.
        "AWS_MAX_ATTEMPTS": "1",
        "SAM_CLI_TELEMETRY": "0",
    } | environment
    options = {"cwd": cwd, "env": environment, "capture_output": True, "text": True, "timeout": 120, "executable": "/bin/bash"}
    return subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, **options)
