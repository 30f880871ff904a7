"""Runs in the peer's environment: a line of JSON in, a line out.

`{"text", "question"}` are kept; `{"ratio"}` crushes them and gives `{"text", "ms", "rss_mb"}`; anything else, the text
too, gives `{"rss_mb"}`.
"""

# pyright: basic, reportMissingImports=false, reportUnknownVariableType=false

import json
import sys
import time
from pathlib import Path


def resident() -> float:
    """Megabytes of this process; 0 where Linux does not say."""
    try:
        with Path("/proc/self/status").open(encoding="ascii") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))
    except OSError:
        return 0.0


def main() -> None:
    before = resident()
    from headroom.transforms.text_crusher import TextCrusher  # noqa: PLC0415 - after the first look at the memory

    crusher = TextCrusher()
    text = question = ""
    for line in sys.stdin:
        asked = json.loads(line)
        said = {"rss_mb": before}
        if "text" in asked:
            text, question = asked["text"], asked["question"]
        if "ratio" in asked:
            start = time.perf_counter()
            crushed = crusher.compress(text, context=question, target_ratio=asked["ratio"]).compressed
            said = {"text": crushed, "ms": (time.perf_counter() - start) * 1e3, "rss_mb": resident()}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
