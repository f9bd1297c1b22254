"""`python -m tests.disk SUITE SEED SHARE [SABOTAGE]`, on the shim: prints what came of it."""

import json
import logging
import sys
from dataclasses import asdict

from tests.disk.errors import errors
from tests.disk.power import power
from tests.disk.power_world import watched_folder

SUITES = {"power": power, "errors": errors}

if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    name, seed, share, *sabotage = sys.argv[1:]
    with watched_folder() as shim:
        row = SUITES[name](shim, int(seed), float(share), *sabotage)
    print(json.dumps(asdict(row)))
