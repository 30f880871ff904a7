"""Homes of so many chunks for `scale.py`: files, git and index written directly, with vectors that cost little.

Embedding a million chunks takes hours on two cores. A chunk's vector is therefore the normalised sum of the real
vectors of the sentences that it consists of, with a little noise: such vectors lie as close to each other as real ones
do, which is what the time of a search depends on. What depends on true vectors, the recall of the search among them, is
measured with true vectors only.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _bench import Bench, Size
from _corpus import SEED, Corpus, Memory, sentences_by_subject
from _measure import say
from numpy.typing import NDArray

from adaptive_llm_gateway.memory._embed_onnx import OnnxEmbedder
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._index import Index
from adaptive_llm_gateway.memory._index_schema import FORMAT
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._types import TypeRegistry
from adaptive_llm_gateway.memory._values import Record
from adaptive_llm_gateway.memory._vectorizer import space_of

_MADE = 1  # raised when homes are made in another way
_BATCH = 500
_QUERIES = 1_000
_NOISE = 0.35  # length of the noise beside a unit vector
_MOST_MEMORIES = 100_000  # what one person has; a larger index has longer memories


@dataclass(frozen=True, slots=True)
class Prose:
    """Sentences by subject, and the real vector of each, shape (d,)."""

    sentences: dict[str, list[str]]
    vectors: dict[str, NDArray[np.float32]]


def read_prose(file: Path | None, *, whole: bool) -> dict[str, list[str]]:
    """Sentences by subject from a text file (a line is a sentence, an empty line begins another subject), or ours."""
    if file is None:
        return sentences_by_subject(whole=whole)
    found: dict[str, list[str]] = {}
    for number, part in enumerate(file.read_text("utf-8").split("\n\n")):
        lines = [line for line in part.split("\n") if line.strip()]
        if len(lines) >= 8:
            found[f"topic{number}"] = lines
    return found


def embed_prose(sentences: dict[str, list[str]], cache: Path) -> Prose:
    """Embed every sentence once; kept in `cache`."""
    texts = [line for lines in sentences.values() for line in lines]
    key = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]
    kept = cache / f"sentences-{key}.npy"
    if kept.exists():
        matrix = np.load(kept)
    else:
        say(f"embedding {len(texts):,} sentences")
        embedder = OnnxEmbedder(threads=1)
        matrix = embedder.embed(texts)
        embedder.close()
        np.save(kept, matrix)
    return Prose(sentences, dict(zip(texts, matrix, strict=True)))


def prepared(bench: Bench, chunks: int, prose: Prose, cache: Path) -> Path:
    """The folder with `home` and `work.json` (`queries`, `memories`, `chunks`), built once."""
    # An index of another form would be built anew, or its vectors computed anew, while searches are measured.
    form = [FORMAT, space_of(OnnxEmbedder())]
    facts = [_MADE, form, chunks, SEED, platform.python_version(), sorted(prose.sentences), _NOISE]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]
    kept = cache / f"scale-{chunks}-{key}"
    if not (kept / "work.json").exists():
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        _build(bench, kept, chunks, prose)
    return kept


def _build(bench: Bench, folder: Path, chunks: int, prose: Prose) -> None:
    home = folder / "home"
    bench.run(home, "init", "--yes")
    bench.run(home, "hub", "stop")
    (home / "index.db").unlink()
    corpus = Corpus(prose=prose.sentences)
    count = min(chunks, _MOST_MEMORIES)
    parts = -(-chunks // count)  # each makes a chunk or two
    say(f"writing {count:,} memories for {chunks:,} chunks")
    sample: list[Memory] = []
    repo = home / "memory"
    types, _ = TypeRegistry.load(repo / "types")
    embedder = OnnxEmbedder()
    with Index(home / "index.db") as index:
        index.set_embedder(space_of(embedder), embedder.dimensions)
        batch: list[Record] = []
        used: list[tuple[str, ...]] = []
        total = 0
        for memory in _memories(corpus, count, parts):
            if len(sample) < 20_000:
                sample.append(memory)
            path = repo / memory.path
            path.parent.mkdir(parents=True, exist_ok=True)
            data = memory.text.encode()
            path.write_bytes(data)
            stat = path.stat()
            document = Document.parse(data, where=memory.path)
            record = types.to_record(
                document,
                path=memory.path,
                version=MemoryRepo.blob_id(data),
                mtime_ns=stat.st_mtime_ns,
                size=stat.st_size,
            )
            batch.append(record)
            used.append(memory.sentences)
            if len(batch) == _BATCH:
                total += _index(index, batch, used, prose)
                batch, used = [], []
                if total % 50_000 < _BATCH * parts * 2:
                    say(f"{total:,} chunks")
                if total >= chunks:
                    break
        if batch and total < chunks:
            total += _index(index, batch, used, prose)
        index.tidy()
        memories = index.statistics()["memories"]
    say("committing")
    _commit(bench, home)
    queries = corpus.queries(sample, _QUERIES)
    (folder / "work.json").write_text(json.dumps({"queries": queries, "memories": memories, "chunks": total}), "utf-8")


def _memories(corpus: Corpus, count: int, parts: int) -> Iterator[Memory]:
    """Memories of several parts each, under headings."""
    stream = corpus.memories(count * parts)
    for first in stream:
        rest = list(itertools.islice(stream, parts - 1))
        body = "\n\n".join([first.body.rstrip(), *(f"## {part.title}\n\n{part.body.rstrip()}" for part in rest)]) + "\n"
        sentences = tuple(line for part in (first, *rest) for line in part.sentences)
        head = first.text[: len(first.text) - len(first.body)]
        yield Memory(
            first.id,
            first.type,
            first.title,
            first.project,
            first.tags,
            body,
            first.path,
            head + body,
            first.subject,
            first.code,
            sentences,
        )


def _index(index: Index, batch: Sequence[Record], used: Sequence[tuple[str, ...]], prose: Prose) -> int:
    """Put memories and their vectors in; how many chunks they have."""
    index.apply(batch)
    backlog = index.backlog(1_000_000)
    generator = np.random.default_rng(backlog[0][0])
    vectors: list[tuple[int, NDArray[np.float32]]] = []
    place = 0
    for chunk, text in reversed(backlog):  # oldest first, as in the batch
        if batch[place].title not in text[:400] and place + 1 < len(batch):
            place += 1
        parts = [prose.vectors[line] for line in used[place] if line[:60] in text]
        noise = generator.standard_normal(384, np.float32)
        whole: NDArray[Any] = np.sum(parts, axis=0) if parts else noise
        whole = whole / np.linalg.norm(whole) + noise * (_NOISE / np.linalg.norm(noise))
        vectors.append((chunk, (whole / np.linalg.norm(whole)).astype(np.float32)))
    for start in range(0, len(vectors), 2_000):
        index.store_vectors(vectors[start : start + 2_000])
    return len(backlog)


def _commit(bench: Bench, home: Path) -> None:
    """One commit of everything, through `git fast-import`: `git add` of 100,000 files takes minutes."""
    repo = home / "memory"
    command = ["git", "-C", str(repo), "fast-import", "--quiet"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=bench.env) as process:
        assert process.stdin is not None
        out = process.stdin
        message = b"Load the benchmark's memories"
        branch = bench.git(home, "symbolic-ref", "HEAD").strip()
        out.write(f"commit {branch}\ncommitter Bench <bench@example.org> 1790000000 +0000\n".encode())
        out.write(b"data %d\n%s\n" % (len(message), message))
        head = subprocess.run(
            ["git", "-C", str(repo), "rev-parse", "--verify", "--quiet", "HEAD"],
            env=bench.env,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
        if head:
            out.write(f"from {head}\n".encode())
        for path in sorted(repo.rglob("*.md")):
            data = path.read_bytes()
            out.write(f"M 100644 inline {path.relative_to(repo).as_posix()}\ndata {len(data)}\n".encode())
            out.write(data + b"\n")
    if process.returncode:
        raise RuntimeError(f"git fast-import ended with {process.returncode}")
    bench.git(home, "read-tree", "HEAD")
    bench.git(home, "status", "--porcelain")


def size_of(memories: int) -> Size:
    """The sizes for `Bench` when a home of `scale.py` is run."""
    return Size(memories=memories)
