"""Write the JSON Schema of receipts into the docs; a test holds it to the values."""

from __future__ import annotations

import json
from pathlib import Path

from adaptive_llm_gateway.gateway._receipts import receipt_schema

TARGET = Path(__file__).resolve().parent.parent / "docs" / "schemas" / "receipt.schema.json"

if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(receipt_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
