"""The gateway's answers as text for models: complete by themselves, no longer than they need to be."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final

Json = dict[str, Any]

CONFIG_WAITS: Final = "note: config.yaml was changed after the hub began, which goes by what it was: `alg hub stop`."
_MICRO_CENTS_PER_DOLLAR: Final = 100_000_000
_SHOWN_MODELS: Final = 12
_SHOWN_REJECTED: Final = 8


def answer_line(answer: Json) -> str:
    """Who answered, where, at which level, for what, and the receipt."""
    facts = [
        f"{answer['provider']}/{answer['model']}, {answer['where']}",
        f"sent as {answer['trust']}",
        _tokens(answer["tokens"]),
        cost(answer["cost"]["micro_cents"], local=answer["where"] == "local"),
        f"{answer['seconds']:.1f} s",
    ]
    if answer.get("finish") == "length":
        facts.append("cut at the most tokens")
    elif answer.get("finish") not in (None, "stop"):
        facts.append(f"ended by {answer['finish']}")
    if answer["redacted"]:
        facts.append(f"{answer['redacted']} items were taken out before it was sent")
    if answer["attempts"] > 1:
        facts.append(f"{answer['attempts']} attempts")
    context = answer.get("context")
    if context is not None:
        size = f"{context['tokens_from']:,} -> {context['tokens']:,} tokens"
        level = f", {context['trust']}" if context["trust"] else ""
        facts.append(f"context: {len(context['sources'])} memories, {size}{level}")
    return "; ".join([*filter(None, facts), f"receipt {answer['receipt']}"])


def embed_text(answer: Json) -> str:
    """The vectors, a JSON list of lists, and who made them."""
    count = len(answer["vectors"])
    plural = "vector" if count == 1 else "vectors"
    # Nine digits tell every float of 32 bits from the others.
    vectors = [[float(f"{number:.9g}") for number in vector] for vector in answer["vectors"]]
    return "\n".join(
        [
            json.dumps(vectors, separators=(",", ":")),
            f"[{count} {plural} of {answer['dimensions']} numbers; {answer_line(answer)}]",
        ]
    )


def health_text(health: Json) -> str:
    """The providers, each with its models."""
    lines = [f"mode {health['mode']}; policy: {health['policy']['source']}"]
    if health["mode_problem"]:
        lines.append(f"note: {health['mode_problem']}")
    if health["policy"]["error"]:
        lines.append(f"Every request is refused: {health['policy']['error']}")
    if health["config_changed"]:
        lines.append(CONFIG_WAITS)
    if not health["providers"]:
        looked = f" Looked for {', '.join(health['looked_for'])}." if health["looked_for"] else ""
        lines.append(
            f"There is no provider of models.{looked} Start a local server such as Ollama, LM Studio or llama.cpp, or "
            "add one under `providers` in config.yaml."
        )
    for each in health["providers"]:
        facts = [each["where"], each["state"] if each["enabled"] else "switched off"]
        facts += [f"{each['server']} {each['version'] or ''}".strip()] if each["server"] else []
        facts += [f"key {each['key']}"] if each["key"] != "not needed" else []
        facts += [f"circuit {each['circuit']}"] if each["circuit"] != "closed" else []
        facts += ["found by itself"] if each["found"] else []
        lines.append(f"- {each['name']} ({each['kind']}): {'; '.join(facts)}")
        if each["said"]:
            lines.append(f"  {each['said']}")
        if each["models"]:
            shown = [_model(model) for model in each["models"][:_SHOWN_MODELS]]
            more = len(each["models"]) - len(shown)
            lines.append(f"  models: {', '.join(shown)}" + (f" and {more} more" if more else ""))
    return "\n".join(lines)


def _model(model: Json) -> str:
    facts = ["embed"] if model["embed"] else []
    facts += [f"{model['context']:,} tokens"] if model["context"] else []
    facts += ["runs elsewhere"] if model["remote"] else []
    return f"{model['name']} ({', '.join(facts)})" if facts else model["name"]


def preview_text(preview: Json) -> str:
    """What would become of a request."""
    lines = [
        f"Nothing was sent. It would be {preview['trust']}, {preview['input_tokens']:,} tokens, purpose "
        f"{preview['purpose']}, mode {preview['mode']}.",
        *(f"- {reason['level']}: {reason['why']}" for reason in preview["reasons"]),
    ]
    if preview["steps"]:
        lines.append("It would be tried with:")
    for place, step in enumerate(preview["steps"], 1):
        facts = [step["where"], f"sent as {step['trust']}" + (", redacted" if step["redact"] else "")]
        most = cost(step["micro_cents"], local=step["where"] == "local")
        facts.append(most if step["micro_cents"] in (None, 0) else f"at most {most}")
        facts += [f"by consent {step['consent']}"] if step["consent"] else []
        facts += [step["fared"]] if step["fared"] else []
        lines.append(f"{place}. {step['provider']}/{step['model']}: {'; '.join(facts)}")
    error = preview["error"]
    if error is not None:
        lines.append(f"It would be refused: {error['message']}." + (f" {error['hint']}" if error["hint"] else ""))
    meant = [each for each in preview["rejected"] if {reason["code"] for reason in each["reasons"]} != {"other_model"}]
    if meant:
        lines.append("Not with:")
    for each in meant[:_SHOWN_REJECTED]:
        name = f"{each['provider']}/{each['model']}" if each["model"] else each["provider"]
        lines.append(f"- {name} ({each['where']}): {'; '.join(reason['text'] for reason in each['reasons'])}")
    if len(meant) > _SHOWN_REJECTED:
        codes = Counter(reason["code"] for each in meant[_SHOWN_REJECTED:] for reason in each["reasons"])
        lines.append(
            f"- and {len(meant) - _SHOWN_REJECTED} more: "
            + ", ".join(f"{code} {count}" for code, count in codes.most_common())
        )
    lines.append(f"[receipt {preview['receipt']}]")
    return "\n".join(lines)


def cost(micro_cents: int | None, *, local: bool = False) -> str:
    """An amount in dollars: as many digits as it takes to see it."""
    if micro_cents is None:
        return "cost unknown"
    if micro_cents == 0:
        return "free" if local else "$0"
    dollars = f"{micro_cents / _MICRO_CENTS_PER_DOLLAR:.8f}".rstrip("0")
    return f"${dollars}0" if dollars.endswith(".") else f"${dollars}"


def of_cache(tokens: Json) -> str:
    """What the provider's cache had of the tokens, and what it took in; empty where that is nothing or was not told."""
    facts = [f"{tokens[name]:,} {word}" for name, word in (("cached", "cached"), ("written", "written to its cache"))
             if tokens.get(name)]  # fmt: skip
    return f" ({', '.join(facts)})" if facts else ""


def _tokens(tokens: Json) -> str:
    counts = (("in", tokens["input"], of_cache(tokens)), ("out", tokens["output"], ""))
    known = [f"{count:,} {name}{more}" for name, count, more in counts if count is not None]
    return f"tokens {', '.join(known)}" if known else "tokens not told"
