"""Settings of the whole suite."""

import os
import sys
import tempfile
from pathlib import Path

# Where no bytecode is to be written, every worker compiles all tests, and every process that a test
# starts all of the product. It is written all the same, and not into the project.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    sys.dont_write_bytecode = False
    sys.pycache_prefix = os.environ.setdefault(
        "PYTHONPYCACHEPREFIX", str(Path(tempfile.gettempdir()) / "storebus-pycache")
    )
