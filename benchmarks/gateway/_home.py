"""A home as somebody has it after a few weeks: providers, consents, and many receipts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from _endpoint import model_names

from adaptive_llm_gateway.core import SecretScanner, Trust, new_ulid
from adaptive_llm_gateway.gateway import (
    Attempt,
    ConsentLedger,
    Gateway,
    GatewayConfig,
    LevelReason,
    Locality,
    ModelConfig,
    Price,
    PriceTable,
    ProviderConfig,
    Receipt,
    ReceiptAnswer,
    ReceiptCost,
    ReceiptLevel,
    ReceiptMessage,
    ReceiptRequest,
    Receipts,
    ReceiptTimings,
    ReceiptTokens,
    RouteStep,
)

LOCAL = ("desk", "box", "lab")
HOSTED = ("cloud", "far")
CONSENTS = 20


def config(root: str) -> GatewayConfig:
    """Five providers at the endpoint, each with its models."""
    providers = [
        ProviderConfig(
            name,
            "openai_compatible",
            url=f"{root}/{name}/v1",
            order=order,
            models=tuple(ModelConfig(model, chat=True, context=128_000) for model in model_names(name)),
        )
        for order, name in enumerate((*LOCAL, *HOSTED))
    ]
    return GatewayConfig(providers=tuple(providers), discover=False)


async def _located(provider: ProviderConfig) -> Locality:
    """Two of them count as being elsewhere, so that consent is asked for."""
    local = provider.name not in HOSTED
    return Locality(local, "its address is of the loopback" if local else "the benchmark says so", ("127.0.0.1",))


def gateway(root: str, folder: Path) -> Gateway:
    """The gateway on such a home."""
    prices = tuple(
        Price(name, model, {"input": 25_000_000_000, "output": 100_000_000_000})
        for name in HOSTED
        for model in model_names(name)
    )
    return Gateway(
        config(root), folder, scanner=SecretScanner(), prices=PriceTable("benchmark", prices), locate=_located
    )


def fill(folder: Path, receipts: int) -> None:
    """Consents, and receipts of days gone by and of today."""
    scanner = SecretScanner()
    now = datetime.now(UTC)
    ledger = ConsentLedger(folder / "consents.jsonl", scanner=scanner)
    for number in range(CONSENTS):
        granted = ledger.grant(
            provider=HOSTED[number % 2],
            level=Trust.INTERNAL,
            now=now,
            by="benchmark",
            project=None if number < 2 else f"project-{number}",
            reason="the benchmark asks it",
        )
        if number % 5 == 4:
            ledger.revoke(granted.id, now=now, by="benchmark")
    kept = Receipts(folder, scanner=scanner)
    for number in range(receipts):
        # The last tenth is of today: new ones go on in a file that has many already.
        age = timedelta(days=1 + 9 * (receipts - number) / receipts) if number < receipts * 0.9 else timedelta()
        kept.file(_receipt(number, now - age))


def _receipt(number: int, at: datetime) -> Receipt:
    model = model_names("desk")[0]
    return Receipt(
        id=new_ulid(),
        at=at,
        outcome="answered",
        why=f"desk/{model} answered",
        request=ReceiptRequest(
            operation="complete",
            purpose="complete",
            project=None,
            client="benchmark",
            model="auto",
            messages=(ReceiptMessage("user", f"Request {number}: what is to be done about it? " * 10),),
        ),
        level=ReceiptLevel(Trust.INTERNAL, (LevelReason("default", Trust.INTERNAL, "nobody declared one"),)),
        route=(RouteStep("desk", model, "local", True, "the first by order"),),
        attempts=(Attempt("desk", model, "ok", 1_000, 20_000),),
        tokens=ReceiptTokens(input=100, output=64),
        cost=ReceiptCost(0, "it ran on this machine"),
        timings=ReceiptTimings(22_000, planning=900),
        answer=ReceiptAnswer(400, "0" * 64, "stop", model),
    )
