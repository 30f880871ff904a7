"""What may answer a question, in a budget of tokens. Pure: the same input gives the same package."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import overload

import numpy as np

from adaptive_llm_gateway.compression._budget import DEFAULT_SHARES, Share, split
from adaptive_llm_gateway.compression._choose import Step, choose
from adaptive_llm_gateway.compression._duplicates import Alike, find_duplicates
from adaptive_llm_gateway.compression._forms import Form, form_of
from adaptive_llm_gateway.compression._relevance import features, probabilities, terms_of
from adaptive_llm_gateway.compression._render import fence
from adaptive_llm_gateway.compression._values import (
    PARTS,
    Candidate,
    Detail,
    LeftOut,
    Package,
    Part,
    Source,
    TokenCounter,
)
from adaptive_llm_gateway.core import InvalidInput

_EXTRACTS = 60  # of the best candidates, those whose units are looked at
_WORTH_WHOLE = 1_000.0  # of what is wanted whole; others are worth 1 at most
_FALL = 0.01  # of what is pinned and the like all counts, the first the most, each less by so much
_COUNTED = 8_000  # characters of bodies that are counted; of more, the tokens are estimated
_FEWER = 0.5  # of the tokens that a piece is guessed to have, what it has at least: blanks may have less
_SMALLEST = 6  # tokens of the shortest that is worth its reference
_REFILLS = 2  # times that what the whole text has fewer tokens than its pieces is filled
_MARGIN = 2  # tokens that a whole text may have more than its pieces


def build_package(
    question: str,
    candidates: Sequence[Candidate],
    budget: int,
    *,
    counter: TokenCounter,
    detail: Detail = "auto",
    shares: Mapping[Part, Share] = DEFAULT_SHARES,
    alike: Alike | None = None,
) -> Package:
    """The best of the candidates for a question, `used <= budget` counted on the text as it is.

    Args:
        candidates: in any order; those that say the same are folded, the newest stays.
        budget: tokens, with all marks and references.
        detail: `index`: a line of each; `full`: each whole or not at all; `auto`: each as its value allows.
        shares: what each part may have of the budget.
        alike: confirms near duplicates by their places among the candidates, by vectors say.

    Raises:
        InvalidInput: the budget does not hold an empty package; says the least that works.
    """
    least = counter.count(fence(()))
    if isinstance(budget, bool) or budget < least:
        raise InvalidInput(
            f"a budget of {budget!r} tokens holds no package",
            hint=f"The least that works is {least}.",
            least=least,
        )
    forms, folded = _forms(question, candidates, detail, alike)
    work = _Work(forms, budget, least, counter, shares)
    if detail == "auto":
        work.extract_what_cannot_be_whole()
    work.fill()
    if detail == "auto":
        work.fill_with_lines()
    if detail != "index":
        work.refill()
    text, used = work.verified()
    return _package(work, candidates, folded, detail, text, used)


def _forms(
    question: str, candidates: Sequence[Candidate], detail: Detail, alike: Alike | None
) -> tuple[list[Form], list[tuple[str, ...]]]:
    """The forms of those that are kept, the most valuable first, and what was folded into each."""
    texts = [f"{candidate.type}\n{candidate.title}\n{candidate.body}" for candidate in candidates]

    def same(one: int, other: int) -> bool | None:
        if candidates[one].whole or candidates[other].whole:
            return False  # wanted as it is, and not as what is much like it
        return alike(one, other) if alike is not None else None

    groups = find_duplicates(texts, [candidate.updated for candidate in candidates], alike=same)
    folded = {group.kept: group.folded for group in groups}
    gone = {place for group in groups for place in group.folded}
    kept: list[Candidate] = []
    names: list[tuple[str, ...]] = []
    for place, candidate in enumerate(candidates):
        if place in gone:
            continue
        others = [candidates[other] for other in folded.get(place, ())]
        if others:
            part = min((candidate.part, *(other.part for other in others)), key=PARTS.index)
            score = max(candidate.score, *(other.score for other in others))
            whole = candidate.whole or any(other.whole for other in others)
            candidate = dataclasses.replace(candidate, part=part, score=score, whole=whole)  # noqa: PLW2901 - the same, for all of them
        kept.append(candidate)
        said = (*candidate.duplicates, *(id_ for other in others for id_ in (other.id, *other.duplicates)))
        names.append(tuple(id_ for id_ in dict.fromkeys(said) if id_ != candidate.id))
    if not kept:
        return [], []
    terms, hits = terms_of(question, [candidate.body for candidate in kept])
    worth = np.zeros(len(kept))
    recalled = [place for place, candidate in enumerate(kept) if candidate.part == "recalled"]
    if recalled:
        some = [kept[place] for place in recalled]
        worth[recalled] = probabilities(features(question, some, [hits[place] for place in recalled], terms))
    others = sorted(
        (place for place in range(len(kept)) if kept[place].part != "recalled"), key=lambda p: -kept[p].score
    )
    for rank, place in enumerate(others):
        worth[place] = 1 / (1 + _FALL * rank)
    worth[[place for place, candidate in enumerate(kept) if candidate.whole]] = _WORTH_WHOLE
    order = sorted(range(len(kept)), key=lambda place: (-worth[place], place))
    forms = [
        form_of(question, kept[place], float(worth[place]), hits[place], terms, detail, extract=rank < _EXTRACTS)
        for rank, place in enumerate(order)
    ]
    return forms, [names[place] for place in order]


class _Steps(Sequence[Sequence[Step]]):
    """The steps of forms, each made when it is asked for."""

    def __init__(self, forms: Sequence[Form]) -> None:
        self._forms = forms

    def __len__(self) -> int:
        return len(self._forms)

    @overload
    def __getitem__(self, index: int) -> Sequence[Step]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sequence[Step]]: ...
    def __getitem__(self, index: int | slice) -> Sequence[Step] | Sequence[Sequence[Step]]:
        """The steps of a form, or of several."""
        return _Steps(self._forms[index]) if isinstance(index, slice) else self._forms[index].steps


class _Work:
    """A package in the making: the steps that were taken of each form."""

    def __init__(
        self, forms: list[Form], budget: int, least: int, counter: TokenCounter, shares: Mapping[Part, Share]
    ) -> None:
        self.forms = forms
        self.counter = counter
        self.budget = budget
        self.taken: list[tuple[int, int]] = []
        self.missed = 0.0
        self.value = 0.0
        self._least = least + _MARGIN
        self._shares = shares
        self._counts: dict[str, int] = {}
        self._days: set[tuple[Part, str]] = set()
        self.parts: list[Part] = [part for part in PARTS if any(form.candidate.part == part for form in forms)]
        self._spent = self._least + (sum(self._count(f"\n{part}:") for part in self.parts) if self.headed else 0)

    @property
    def headed(self) -> bool:
        """Whether parts have headings: when there is more than one."""
        return len(self.parts) > 1

    @property
    def left(self) -> int:
        """Tokens that may still be spent."""
        return self.budget - self._spent

    def extract_what_cannot_be_whole(self) -> None:
        """Of what is wanted whole and is longer than all of the budget, let the best of it be there."""
        for item, form in enumerate(self.forms):
            if form.candidate.whole and not form.inline and not self._may_fit(form):
                self.forms[item] = form.as_extract()

    def _may_fit(self, form: Form) -> bool:
        return form.guess(0) * _FEWER <= self.left and self._count(form.piece(0)) <= self.left

    def fill(self) -> None:
        """Take steps: each part within what it is given, then all of them in what is left."""
        if self.headed:
            wanted: dict[Part, int] = dict.fromkeys(self.parts, 0)
            for form in self.forms:
                wanted[form.candidate.part] += len(form.candidate.body) // 3 + 30
            for part, given in split(self.left, wanted, self._shares).items():
                places = [place for place, form in enumerate(self.forms) if form.candidate.part == part]
                self._choose(places, given)
        self.missed = self._choose(range(len(self.forms)), self.left)

    def fill_with_lines(self) -> None:
        """Lines of what had no place otherwise."""
        has = {item for item, _ in self.taken}
        for item, form in enumerate(self.forms):
            if item not in has and not form.inline:
                self.forms[item] = form.as_line()
        self._choose(
            [item for item in range(len(self.forms)) if item not in has and not self.forms[item].inline], self.left
        )

    def refill(self) -> None:
        """Take what fits into that of the budget which the whole text leaves."""
        for _ in range(_REFILLS):
            slack = self.budget - self._count(self.text()) - _MARGIN
            if slack <= max(self.left, 0) + _SMALLEST:
                break
            self._choose(range(len(self.forms)), slack)

    def _choose(self, items: Sequence[int], budget: int) -> float:
        """Take steps of some forms; the value of the best step that did not fit."""
        if budget <= 0 or not items:
            return 0.0
        room = budget

        def cost(item: int, step: int) -> int:
            form = self.forms[items[item]]
            if form.guess(step) * _FEWER > room + _SMALLEST:
                return self.budget + 1
            tokens = self._count(form.piece(step))
            if step == 0 and (day := _day(form)) not in self._days:
                tokens += self._count(f"\n{day[1]}")
            return tokens

        def took(item: int, step: int) -> None:
            nonlocal room
            spent = cost(item, step)
            room -= spent
            self._spent += spent
            self.taken.append((items[item], step))
            self._days.add(_day(self.forms[items[item]]))

        position = {item: place for place, item in enumerate(items)}
        choice = choose(
            _Steps([self.forms[item] for item in items]),
            budget,
            cost,
            taken=[(position[item], step) for item, step in self.taken if item in position],
            guess=lambda item, step: self.forms[items[item]].guess(step),
            expected=lambda item: self.forms[items[item]].expected,
            took=took,
            smallest=_SMALLEST,
        )
        self.value += choice.value
        return choice.missed

    def counts(self) -> dict[int, int]:
        """Steps taken, by form."""
        counts: dict[int, int] = {}
        for item, _ in self.taken:
            counts[item] = counts.get(item, 0) + 1
        return counts

    def ordered(self) -> list[int]:
        """The forms that are in the text, in its order: by part, then by time."""
        return sorted(
            self.counts(),
            key=lambda item: (
                PARTS.index(self.forms[item].candidate.part),
                _day(self.forms[item]),
                self.forms[item].candidate.updated.timestamp(),
                item,
            ),
        )

    def text(self) -> str:
        """The package as it stands."""
        counts = self.counts()
        lines: list[str] = []
        part: Part | None = None
        day: tuple[Part, str] | None = None
        for number, item in enumerate(self.ordered(), 1):
            form = self.forms[item]
            if self.headed and form.candidate.part != part:
                part = form.candidate.part
                lines.append(f"{part}:")
            if _day(form) != day:
                day = _day(form)
                lines.append(day[1])
            lines.append(f"[S{number}] {form.text(counts[item])}")
        return fence(lines)

    def verified(self) -> tuple[str, int]:
        """The text and its tokens; steps are dropped, the last first, until they fit the budget."""
        while True:
            text = self.text()
            used = self._count(text)
            over = used - self.budget
            if over <= 0 or not self.taken:
                return text, used
            while over > 0 and self.taken:
                item, step = self.taken.pop()
                over -= max(1, self._count(self.forms[item].piece(step)))
                self.missed += self.forms[item].steps[step].value

    def _count(self, text: str) -> int:
        tokens = self._counts.get(text)
        if tokens is None:
            tokens = self._counts[text] = self.counter.count(text)
        return tokens

    def all_tokens(self, candidates: Sequence[Candidate]) -> tuple[int, bool]:
        """(tokens of the bodies, whether all were counted)."""
        tokens = length = left = 0
        for candidate in candidates:
            if length + len(candidate.body) <= _COUNTED:
                tokens += self._count(candidate.body)
                length += len(candidate.body)
            else:
                left += len(candidate.body)
        if not left:
            return tokens, True
        rate = tokens / length if length else self._rate(candidates)
        return tokens + round(left * rate), False

    def _rate(self, candidates: Sequence[Candidate]) -> float:
        sample = "".join(candidate.body[:500] for candidate in candidates[:10])
        return self._count(sample) / max(1, len(sample))


def _day(form: Form) -> tuple[Part, str]:
    return form.candidate.part, form.candidate.updated.date().isoformat()


def _package(
    work: _Work,
    candidates: Sequence[Candidate],
    folded: Sequence[tuple[str, ...]],
    detail: Detail,
    text: str,
    used: int,
) -> Package:
    counts = work.counts()
    sources: list[Source] = []
    for number, item in enumerate(work.ordered(), 1):
        form, taken = work.forms[item], counts[item]
        candidate = form.candidate
        sources.append(
            Source(
                ref=f"S{number}",
                id=candidate.id,
                type=candidate.type,
                title=candidate.title,
                path=candidate.path,
                version=candidate.version,
                updated=candidate.updated,
                part=candidate.part,
                level=form.level(taken),
                lines=form.lines(taken),
                tokens=work.counter.count(f"[S{number}] {form.text(taken)}"),
                duplicates=folded[item],
                handle=_handle(candidate),
            )
        )
    left_out = tuple(
        LeftOut(
            form.candidate.id, form.candidate.type, form.candidate.title, form.candidate.part, _handle(form.candidate)
        )
        for item, form in enumerate(work.forms)
        if item not in counts
    )
    tokens, counted = work.all_tokens(candidates)
    total = work.value + work.missed
    return Package(
        text=text,
        budget=work.budget,
        used=used,
        counter=work.counter.name,
        exact=work.counter.exact,
        detail=detail,
        candidates=sum(1 + len(candidate.duplicates) for candidate in candidates),
        candidates_tokens=tokens,
        candidates_exact=counted,
        sources=tuple(sources),
        left_out=left_out,
        missed=work.missed / total if total else 0.0,
    )


def _handle(candidate: Candidate) -> str:
    return f"memory_read({candidate.id!r})"
