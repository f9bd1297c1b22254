"""`python -m tests.malformed.serve LOG`: an embedded broker as a process that can be measured.

It prints its two ports. Whoever starts it comes from one machine and means harm, so that what
protects one address from another is off unless it is asked for.
"""

import asyncio
import gc
import json
import logging
import sys

from broker.limits import Limits
from broker.server import EmbeddedBroker


async def main() -> None:
    """Serve until killed."""
    logging.basicConfig(filename=sys.argv[1], level=logging.WARNING)
    limits = {"kept_session_seconds": 1.0, "retained_messages": 100, "connect_seconds": 2.0}
    limits |= {"strangers_per_second": 1e6, "strangers_burst": 1_000_000}
    limits |= json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    server = EmbeddedBroker(port=0, websocket_port=0, limits=Limits(**limits))
    addresses = await server.start()
    gc.freeze()
    print(addresses.port, addresses.websocket_port, flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
