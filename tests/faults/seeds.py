"""The seed of a run: drawn anew, printed, and given back to play a run again."""

import os
import secrets

VARIABLE = "STOREBUS_FAULTS_SEED"


def seed_of_this_run() -> int:
    """The seed that the environment names, or a new one; it is printed."""
    named = os.environ.get(VARIABLE)
    seed = int(named) if named else secrets.randbelow(2**32)
    print(f"seed {seed}; {VARIABLE}={seed} plays it again")
    return seed
