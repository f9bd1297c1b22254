"""`python -m tests.disk SUITE SEED SHARE [SABOTAGE]`, on the shim: prints what came of it."""

import ctypes
import json
import logging
import signal
import sys
from dataclasses import asdict

from tests.disk.errors import errors
from tests.disk.power import power
from tests.disk.power_world import watched_folder

_PR_SET_PDEATHSIG = 1
SUITES = {"power": power, "errors": errors}

if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # whoever started it may be killed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that its folder goes with it
    name, seed, share, *sabotage = sys.argv[1:]
    with watched_folder() as shim:
        row = SUITES[name](shim, int(seed), float(share), *sabotage)
    print(json.dumps(asdict(row)))
