"""Tests schedule.yaml, and the pages that describe it: python tests/template [-k PATTERN]   (needs the peers of tests/peers/run.py)"""

import sys
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
folder = Path(__file__).parent
sys.path.insert(0, str(folder))

loader = unittest.TestLoader()
if sys.argv[1:2] == ["-k"]:
    loader.testNamePatterns = [f"*{pattern}*" for pattern in sys.argv[2:]]
started = time.monotonic()
result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(loader.discover(str(folder)))
failed = len(result.failures) + len(result.errors)
# An error in setUpClass counts as an error, but no test was run for it.
passed = max(0, result.testsRun - failed - len(result.skipped))
seconds = time.monotonic() - started
# tests/run adds up the numbers of this line.
print(
    f"test result: {'FAILED' if failed else 'ok'}. {passed} passed; {failed} failed; {len(result.skipped)} ignored; in {seconds:.1f} s"
)
sys.exit(bool(failed or not result.testsRun))
