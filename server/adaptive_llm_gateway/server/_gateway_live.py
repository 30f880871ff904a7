"""Parts of a gateway that change while it runs, or tell of what it does. Imported with the gateway, not before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from pathlib import Path

from adaptive_llm_gateway.core import AlgError, Finding, FindingSpan, Redaction, SecretScanner, load_agreed
from adaptive_llm_gateway.gateway import FiledReceipt, Receipt, Receipts

_log = logging.getLogger(__name__)


class LiveScanner(SecretScanner):
    """A scanner with the allowances as they are now: a gateway has one scanner, and the file may change under it.

    Args:
        mark_key: see `SecretScanner`.
    """

    def __init__(self, *, mark_key: bytes | None = None) -> None:
        super().__init__(mark_key=mark_key)
        self._current = SecretScanner(mark_key=mark_key)

    def use(self, path: Path) -> None:
        """Take the allowances of a file as far as the person has agreed to them, each until it ends.

        Without a file that can be read there are none, as for the memory.
        """
        try:
            self._current = self._current.with_allowed(load_agreed(path))
        except AlgError as error:
            _log.warning("no finding of secrets is allowed: %s", error)
            self._current = self._current.with_allowed(())

    def scan(self, text: str) -> tuple[Finding, ...]:
        """As `SecretScanner.scan`."""
        return self._current.scan(text)

    def spans(self, text: str) -> tuple[FindingSpan, ...]:
        """As `SecretScanner.spans`."""
        return self._current.spans(text)

    def redact(self, text: str) -> tuple[str, tuple[Redaction, ...]]:
        """As `SecretScanner.redact`."""
        return self._current.redact(text)


class ObservedReceipts(Receipts):
    """Receipts that tell of each one that they stored.

    Args:
        observe: called with it, in the thread that stored it.
    """

    def __init__(self, root: Path, scanner: SecretScanner, observe: Callable[[Receipt], None]) -> None:
        super().__init__(root, scanner=scanner)
        self._observe = observe

    def file(self, receipt: Receipt, *, inputs: object = None, keys: Collection[str] = ()) -> FiledReceipt:
        """As `Receipts.file`."""
        filed = super().file(receipt, inputs=inputs, keys=keys)
        self._observe(filed.receipt)
        return filed

    async def file_async(self, receipt: Receipt, *, inputs: object = None, keys: Collection[str] = ()) -> FiledReceipt:
        """As `Receipts.file_async`."""
        filed = await super().file_async(receipt, inputs=inputs, keys=keys)
        self._observe(filed.receipt)
        return filed
