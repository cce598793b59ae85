#!/usr/bin/env python3
"""Measures what reading a token adds to a Lambda function, for each source: benches/measure.py

Needs Linux and Python's standard library. Builds `benches/function` once for each source, and starts it with the Runtime API and
the secret of tests/measure.py. They are on loopback without TLS, so the times do not contain the SDK's handshake. Times are the
median of several starts."""

import os, pathlib, shutil, statistics, subprocess, sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
from measure import STARTS, Run, zipped  # noqa: E402

VARIANTS = [
    ("nothing", ""),
    ("extension or agent", "extension"),
    ("the same, with `invoke`", "extension-invoke"),
    ("Secrets Manager through the SDK", "secrets-manager"),
]

target = HERE / "target"
print(f"{'a function that reads from':34}{'binary':>9}{'zipped':>9}{'crates':>8}{'start':>10}{'first':>10}{'memory':>9}{'own':>8}")
for name, feature in VARIANTS:
    manifest = ["--manifest-path", HERE / "function/Cargo.toml", "--locked", "--features", feature]
    subprocess.run(["cargo", "build", "--quiet", "--release", *manifest, "--target-dir", target], check=True)
    binary = target / f"reading-{feature or 'nothing'}"
    shutil.copy(target / "release/reading-function", binary)
    tree = subprocess.run(["cargo", "tree", *manifest, "--edges", "normal", "--prefix", "none", "--format", "{p}"],
                          check=True, capture_output=True, text=True).stdout
    crates = len({line.split(" (")[0] for line in tree.splitlines() if line})
    runs = [Run(str(binary), 5) for _ in range(STARTS)]
    median = lambda member: statistics.median(getattr(run, member) for run in runs)
    print(f"{name:34}{os.path.getsize(binary) / 1e6:6.2f} MB{zipped(binary) / 1e6:6.2f} MB{crates:8}{median('start_ms'):7.2f} ms"
          f"{median('first_ms'):7.2f} ms{median('peak_mb'):6.1f} MB{median('own_mb'):5.1f} MB")
