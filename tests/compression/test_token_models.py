"""Which tokenizer a model has, and that an estimate is no less than what it counts."""

from __future__ import annotations

import pytest
from tiktoken import model as theirs

from adaptive_llm_gateway.compression import counter_for
from adaptive_llm_gateway.compression._ranks import SPECS
from adaptive_llm_gateway.compression._token_models import BOUNDS, UNKNOWN, Bound, kinds_of, tokenizer_of

TEXTS = {
    "english": (
        "We decided to keep the memories as Markdown files in git, because everybody can read them,"
        " and because a merge of text is understood. The index is derived and can be rebuilt at any"
        " time."
    ),
    "code": (
        "def rebuild(index: Index, *, wait: float = 2.0) -> list[str]:\n    if not index.path.exists"
        '():\n        raise NotFound(f"no index at {index.path!r}")\n    return [row.id for row in in'
        "dex.rows() if row.updated > wait]\n"
    ),
    "numbers": ("2026-11-21,104.75,88123,0.00031\n2026-11-22,99.10,90417,0.00029\n2026-11-23,101.62,89998,0.00027\n"),
    "german": (
        "Der Vertrag verlängert sich am ersten Juli um zwölf Monate, sofern keine der Parteien ihn "
        "vorher schriftlich kündigt."
    ),
    "russian": ("Перед выпуском нужно обновить документацию и проверить, что резервная копия восстанавливается."),
    "chinese": ("发布之前需要更新文档，并检查备份能否恢复。"),
    "hindi": ("रिलीज़ से पहले दस्तावेज़ को अद्यतन करना और बैकअप की जाँच करना ज़रूरी है।"),
    "swahili": (
        "Kabla ya kutoa toleo jipya, tunahitaji kusasisha nyaraka na kuhakikisha kwamba nakala rudufu inafanya kazi."
    ),
}
# What the models' own tokenizers made of these texts, in their order; Claude 3 and later by a reconstruction of it.
COUNTED = {
    "claude-2.1": (39, 67, 57, 39, 42, 19, 80, 45),
    "claude-opus-4-5": (40, 72, 57, 38, 34, 23, 51, 41),
    "claude-opus-5": (54, 87, 56, 55, 34, 22, 51, 60),
    "gemini-2.5-pro": (39, 71, 95, 23, 19, 12, 29, 36),
    "llama-2-7b": (41, 73, 96, 34, 36, 22, 77, 46),
    "llama-3.3-70b": (39, 58, 57, 35, 28, 14, 38, 42),
    "qwen3-32b": (39, 58, 95, 35, 28, 11, 71, 43),
    "deepseek-chat": (40, 60, 57, 33, 27, 12, 40, 42),
    "mistral-7b": (41, 73, 96, 34, 36, 22, 77, 46),
    "mistral-nemo": (40, 60, 95, 24, 26, 19, 32, 41),
}
WITHOUT_RANKS = {"p50k_base", "p50k_edit", "r50k_base", "gpt2"}  # of models that are gone


def test_a_name_has_the_encoding_that_tiktoken_gives_it() -> None:
    names = theirs.MODEL_TO_ENCODING | {
        f"{name}2026-01-01": of for name, of in theirs.MODEL_PREFIX_TO_ENCODING.items() if name.endswith("-")
    }
    assert len(names) > 40
    for name, encoding in names.items():
        found = tokenizer_of(name)
        if encoding in WITHOUT_RANKS:
            assert found == UNKNOWN, name
        else:
            assert found == encoding.replace("o200k_harmony", "o200k_base"), name


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("gpt-5.1-codex", "o200k_base"),
        ("openai/GPT-4o-mini", "o200k_base"),
        ("ft:gpt-4o-mini:acme::x", "o200k_base"),
        ("o200k_harmony", "o200k_base"),
        ("cl100k_base", "cl100k_base"),
        ("azure/gpt-35-turbo-16k", "cl100k_base"),
        ("claude-2.1", "claude-2"),
        ("claude-instant-1.2", "claude-2"),
        ("claude-3-7-sonnet-20250219", "claude-3"),
        ("claude-opus-4-20250514", "claude-3"),
        ("claude-sonnet-4-5-20250929", "claude-3"),
        ("anthropic/claude-haiku-4.5", "claude-3"),
        ("claude-opus-4-6", "claude-3"),
        ("claude-opus-4-7", "claude"),
        ("claude-opus-4-10", "claude"),
        ("us.anthropic.claude-sonnet-5-v1:0", "claude"),
        ("models/gemini-2.5-pro", "gemini"),
        ("gemma3:27b", "gemini"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3"),
        ("llama4:scout", "llama-2"),
        ("codellama-34b", "llama-2"),
        ("mistralai/Ministral-8B", "mistral"),
        ("qwen3-32b", "qwen"),
        ("deepseek-chat", "deepseek"),
    ],
)
def test_a_name_has_the_encoding_or_the_bound_of_its_family(name: str, wanted: str) -> None:
    assert tokenizer_of(name) == (wanted if wanted in SPECS else BOUNDS[wanted])


def test_a_name_of_two_families_has_the_wider_bound_and_one_of_none_the_widest() -> None:
    both = tokenizer_of("deepseek-r1-distill-qwen-7b")
    assert isinstance(both, Bound)
    assert both.each == max(BOUNDS["deepseek"].each, BOUNDS["qwen"].each)
    assert both.far == max(BOUNDS["deepseek"].far, BOUNDS["qwen"].far)
    for name in ("grok-4", "gpt-4.2", "gpt-9", "qw", "x" * 10_000):
        assert tokenizer_of(name) == UNKNOWN
    assert UNKNOWN.each == max(bound.each for bound in BOUNDS.values())


@pytest.mark.parametrize("model", COUNTED)
def test_an_estimate_lies_above_what_the_tokenizers_counted(model: str) -> None:
    counter, unknown = counter_for(model), counter_for("unheard-of")
    for text, counted in zip(TEXTS.values(), COUNTED[model], strict=True):
        assert counted <= counter.count(text) <= unknown.count(text)


def test_an_estimate_says_so_in_its_name() -> None:
    counter = counter_for("Qwen3-32B")
    assert counter.name == "estimate:Qwen3-32B"
    assert not counter.exact
    assert counter.count("") == 0
    assert counter.count("\ud800\x00") > 0


def test_characters_are_told_apart_by_what_they_cost() -> None:
    kinds = kinds_of("a1é9Ж 文かな한 हि😀\ud800 𠀀")
    assert (kinds.digit, kinds.near, kinds.east, kinds.far) == (2, 2, 5, 4)
