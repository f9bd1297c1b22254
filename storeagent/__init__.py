"""The store's side: a durable outbox and inbox on each device, and the daemon that carries them.

For programs, three lines:

    from storeagent import Agent
    agent = Agent()
    agent.alert("replenishment", sku="6901234", on_hand=3, reorder_point=12, key="2026-05-01")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storeagent.api import Agent

__all__ = ["Agent"]


def __getattr__(name: str) -> Any:
    """Import `Agent` when it is first used, because every module here passes through this file."""
    if name == "Agent":
        from storeagent.api import Agent  # noqa: PLC0415

        return Agent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
