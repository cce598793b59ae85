"""The sections of README.md and docs/*.md and the commands in them, for tests that compare the pages with the facts.

A section is found by its title, in whichever page has it. A title must be unique over all pages. Reads the pages only."""

import functools
import os
import re
import subprocess
from pathlib import Path

from template import ROOT

FENCE = re.compile(r" *(`{3,}|~{3,})")
HEADING = re.compile(r"#+ +(.+?) *")


def files() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def page(name: str) -> str:
    """The text of a page, by its path in the repository."""
    return (ROOT / name).read_text()


def parse(text: str) -> list[tuple[str, str]]:
    """Title and text of each section of a page. A section ends at the next heading, of whatever level."""
    sections, fence = [], ""
    for line in text.splitlines(keepends=True):
        opened = FENCE.match(line)
        if opened and not fence:
            fence = opened[1]
        elif opened and opened[1].startswith(fence):
            fence = ""
        # A line of a code block that begins with `#` is a comment.
        heading = None if fence else HEADING.fullmatch(line.rstrip("\n"))
        if heading:
            sections.append((heading[1], ""))
        elif sections:
            title, before = sections[-1]
            sections[-1] = title, before + line
    return sections


@functools.cache
def sections() -> dict[str, list[tuple[str, str]]]:
    """Page and text of each section, by title."""
    found = {}
    for file in files():
        for title, text in parse(file.read_text()):
            found.setdefault(title, []).append((str(file.relative_to(ROOT)), text))
    return found


def section(title: str) -> str:
    """The text of a section."""
    found = sections().get(title, [])
    assert found, f"no page has a section {title!r}"
    assert len(found) == 1, f"more than one section has the title {title!r}: in {', '.join(page for page, _ in found)}"
    return found[0][1]


def blocks(title: str, language: str) -> list[str]:
    """The code blocks of a section in this language."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", section(title), re.M | re.S)
    assert found, f"the section {title!r} has no code block in {language}"
    return found


def commands(title: str, program: str) -> list[str]:
    """The commands of a section that call a program, each on one line."""
    lines = "".join(blocks(title, "sh")).replace("\\\n", " ").replace("|\n", "|").splitlines()
    found = [" ".join(line.split()) for line in lines if not line.startswith("#") and program in line]
    assert found, f"the section {title!r} does not call {program}"
    return found


def tables(title: str) -> list[list[list[str]]]:
    """The cells of each table of a section, by row, without the headers."""
    found = []
    for lines in re.findall(r"(?:^\|.*\n?)+", section(title), re.M):
        _, _, *rows = lines.splitlines()
        found.append([[cell.strip() for cell in row.strip("|").split("|")] for row in rows])
    assert found, f"the section {title!r} has no table"
    return found


def table(title: str) -> list[list[str]]:
    """The cells of the only table of a section, by row, without the header."""
    (found,) = tables(title)
    return found


def shell(command: str, cwd=None, **environment: str) -> subprocess.CompletedProcess:
    """Runs a command as a reader would, with the tests' tools first on the path and an account that does not exist."""
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
        # cargo-lambda returns 500 for an error of the function, and the CLI would retry it.
        "AWS_MAX_ATTEMPTS": "1",
        "SAM_CLI_TELEMETRY": "0",
    } | environment
    options = {"cwd": cwd, "env": environment, "capture_output": True, "text": True, "timeout": 120, "executable": "/bin/bash"}
    return subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, **options)
