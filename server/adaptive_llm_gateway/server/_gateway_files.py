"""The files of the gateway in a home, and what they say.

<home>/policy.yaml         what may go where; without it the default policy holds
<home>/policy-tests.yaml   tests of it, beside those in it
<home>/prices.yaml         prices of one's own
<home>/gateway/            consents, receipts and runs
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from adaptive_llm_gateway.core import ALLOWANCES_FILE, ConfigError, Home

if TYPE_CHECKING:
    from adaptive_llm_gateway.core import Settings
    from adaptive_llm_gateway.gateway import Policy, PriceTable

POLICY_FILE: Final = "policy.yaml"
POLICY_TESTS_FILE: Final = "policy-tests.yaml"
DEFAULT_POLICY_NAME: Final = "the default policy"


@dataclass(frozen=True, slots=True)
class GatewayFiles:
    """Where the gateway's things lie in a home, and the memory repo's allowances."""

    policy: Path
    prices: Path
    folder: Path
    allowances: Path

    @classmethod
    def of(cls, home: Home, settings: Settings) -> GatewayFiles:
        """Those of a home."""
        repo = settings.memory.path or home.memory
        return cls(
            policy=home.root / POLICY_FILE,
            prices=home.root / "prices.yaml",
            folder=home.root / "gateway",
            allowances=repo / ALLOWANCES_FILE,
        )


def text_of(path: Path) -> str | None:
    """The text of a file of the user's, None where there is none.

    Raises:
        ConfigError: it cannot be read, or is no text.
    """
    _not_waited_for(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else f"it is not UTF-8: byte {error.start}"
        raise ConfigError(f"{str(path)!r} cannot be read: {why}", path=str(path)) from None


def load_policy(path: Path) -> Policy:
    """The policy of a file, or the default one where there is none.

    Raises:
        ConfigError: it cannot be read, or does not hold; the message names the line.
    """
    from adaptive_llm_gateway.gateway import default_policy, parse_policy  # noqa: PLC0415 - after the hub listens

    text = text_of(path)
    return default_policy() if text is None else parse_policy(text, source=path.name)


def load_price_table(path: Path) -> PriceTable:
    """The prices of a file, over those that come with the gateway.

    Raises:
        ConfigError: the file is no price table; the message names the line.
    """
    from adaptive_llm_gateway.gateway import default_prices, load_prices  # noqa: PLC0415 - after the hub listens

    _not_waited_for(path)
    return load_prices(path, base=default_prices()) if path.exists() else default_prices()


def _not_waited_for(path: Path) -> None:
    """Refuse a pipe or a device: reading it might never end, and every request waits for it."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ConfigError(f"{str(path)!r} cannot be read: it is no regular file", path=str(path))
