"""The secret scanner in the plugin form of detect-secrets, for `detect-secrets scan -p PATH`.

detect-secrets loads a plugin by the path of its file, which `alg secrets plugin` prints. It asks line by line, so what
takes several lines to be told (a private key cut from its first line, a format known by the lines around) is found by
`alg secrets scan` alone. Nothing of the product imports this module: it brings in all of detect-secrets.
"""

from __future__ import annotations

from collections.abc import Generator

from detect_secrets.plugins.base import BasePlugin

from adaptive_llm_gateway.core import SecretScanner

_SCANNER = SecretScanner()


class AdaptiveLlmGatewayDetector(BasePlugin):
    """Every credential that `SecretScanner` finds in a line."""

    # One type for all kinds: detect-secrets finds the plugin of a baseline's entry by it.
    # (Plugins of detect-secrets are meant to put a variable over the property.)
    secret_type = "Credential (Adaptive LLM Gateway)"  # noqa: S105  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def analyze_string(self, string: str) -> Generator[str, None, None]:
        """Each credential of one line, as it stands there."""
        for span in _SCANNER.spans(string):
            yield string[span.start : span.end]
