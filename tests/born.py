"""Says what it is, for test_nursery.py. `python -m tests.born [--wait] [--child] WORD …`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def of_itself() -> dict[str, Any]:
    """What others can know of a process."""
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "session": os.getsid(0),
        "arguments": sys.argv[1:],
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
        "zone": -time.timezone,
        "seen": Path("/proc/self/cmdline").read_bytes().decode().rstrip("\0").split("\0"),
        "open": sorted(_open()),
        "pandas": "pandas" in sys.modules,
        "path": sys.path,
    }


def _open() -> list[int]:
    """File descriptors, but for the one that some builds of Python keep for random numbers."""
    found = {name: Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")}
    return [int(name) for name, path in found.items() if path.exists() and path.resolve() != Path("/dev/urandom")]


def main() -> None:
    if "--child" in sys.argv:
        subprocess.Popen([sys.executable, "-m", "tests.born", "--wait"]).wait()
        return
    print(json.dumps(of_itself()), flush=True)
    if "--wait" in sys.argv:
        signal.pause()


if __name__ == "__main__":
    main()
