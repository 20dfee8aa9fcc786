"""Other processes that tests start, and how long they wait for them."""

import subprocess
import sys
import textwrap

# seconds without an end after which a process hangs: a busy machine is slow, and never that slow
PATIENCE = 900


def run_python(program):
    """Run a program in a Python of its own -> subprocess.CompletedProcess, with texts."""
    words = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)
