"""What the hub does, in one place: given to whatever offers it to clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the hub names this before it has loaded them
    from adaptive_llm_gateway.core import Home, Settings
    from adaptive_llm_gateway.server._access import Access
    from adaptive_llm_gateway.server._gate import SecretGate
    from adaptive_llm_gateway.server._gateway_operations import GatewayOperations
    from adaptive_llm_gateway.server._handoff_operations import HandoffOperations
    from adaptive_llm_gateway.server._operations import Operations


@dataclass(frozen=True, slots=True)
class Services:
    """A hub's operations, and what belongs to them.

    Attributes:
        mark_key: of the home's marks.
        counts: whether the access of somebody who came by HTTP counts still.
    """

    home: Home
    settings: Settings
    operations: Operations
    handoffs: HandoffOperations
    gateway: GatewayOperations
    gate: SecretGate
    mark_key: bytes | None = None
    counts: Callable[[Access], bool] = lambda _: True
