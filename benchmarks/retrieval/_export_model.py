"""Export all-MiniLM-L6-v2 in float32, as the peers read it: `python _export_model.py FOLDER`.

Run in the environment of `scripts/export_model-requirements.txt`. The graph gives the tokens' last hidden states, which
the peers pool themselves; the tokenizer's files are copied as they are. The weights' digests are checked first.
"""

# pyright: basic, reportMissingImports=false
# ruff: noqa: PLC0415

from __future__ import annotations

import shutil
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))

import export_model

_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json")


def main(target: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel

    source = export_model.source_folder()

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            config = BertConfig.from_json_file(str(source / "config.json"))
            config._attn_implementation = "eager"
            self.bert = BertModel.from_pretrained(
                str(source), config=config, add_pooling_layer=False, local_files_only=True, use_safetensors=True
            )

        def forward(self, input_ids, attention_mask, token_type_ids):
            return self.bert(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            ).last_hidden_state

    ids, mask = export_model.tokenize(source, export_model.SENTENCES)
    example = [torch.from_numpy(rows[:4, :24].copy()) for rows in (ids, mask)]
    batch, sequence = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("sequence", min=2, max=512)
    shape = {0: batch, 1: sequence}
    program = torch.onnx.export(
        States().eval(),
        (*example, torch.zeros_like(example[0])),
        input_names=["input_ids", "attention_mask", "token_type_ids"],
        output_names=["last_hidden_state"],
        dynamic_shapes=(shape, shape, shape),
        opset_version=export_model.OPSET,
        dynamo=True,
    )
    target.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        shutil.copy(source / name, target / name)
    program.save(str(target / "model.onnx"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
