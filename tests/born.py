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
        "open": sorted(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")),
        "pandas": "pandas" in sys.modules,
    }


def main() -> None:
    if "--child" in sys.argv:
        subprocess.Popen([sys.executable, "-m", "tests.born", "--wait"]).wait()
        return
    print(json.dumps(of_itself()), flush=True)
    if "--wait" in sys.argv:
        signal.pause()


if __name__ == "__main__":
    main()
