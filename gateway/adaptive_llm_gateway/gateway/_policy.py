"""The policy: what may go where, by trust level, class of provider and purpose. Parsed text in, frozen values out.

    version: 1
    purposes: [summaries]            # of one's own, besides chat, complete and embed
    rules:
      public: {local: allow, hosted: allow}
      internal:
        local: allow
        hosted: {any: ask, embed: deny}
      ...
    tests:
      - {trust: [confidential, secret], provider: hosted, expect: deny}

`allow` sends; `redact` takes out what detection found and sends the rest; `ask` wants an entry in the consent ledger;
`deny` never sends. `any` is every purpose that has no rule of its own. Each level and each class of provider has rules
for every purpose (else there is a gap), and no rule is laxer than one that cannot be stricter: a higher level is never
let further than a lower one, nor a hosted provider further than a local one (a contradiction). Both are refused with
the line.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NoReturn, TypeVar, get_args

from adaptive_llm_gateway.core import ConfigError, Trust
from adaptive_llm_gateway.gateway._values import PROVIDER_CLASSES, PURPOSES, ProviderClass, Purpose

if TYPE_CHECKING:
    import yaml

Verdict = Literal["allow", "redact", "ask", "deny"]
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)
POLICY_VERSION: Final = 1
LARGEST_POLICY: Final = 256 * 1024
"""Bytes of a policy file; more than that is no table that anybody reads."""

_STRICTNESS: Final[dict[Verdict, int]] = {"allow": 0, "redact": 1, "ask": 1, "deny": 2}  # redact and ask do not compare
_ANY: Final = "any"
_PURPOSE = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_DEEPEST: Final = 20
_Word = TypeVar("_Word", bound=str)

DEFAULT_POLICY: Final = """\
# What may leave this machine. A provider is `local` where its address was proved to be on this machine.
version: 1
rules:
  public:
    local: allow
    hosted: allow
  internal:
    local: allow
    hosted: ask          # needs an entry in the consent ledger
  confidential:
    local: allow
    hosted: deny
  secret:
    local: allow
    hosted: deny
tests:
  - {name: public text may go anywhere, trust: public, provider: [local, hosted], expect: allow}
  - {name: internal text needs consent, trust: internal, provider: hosted, expect: ask}
  - {name: the rest stays here, trust: [confidential, secret], provider: hosted, expect: deny}
  - {name: a local provider takes all, trust: [public, internal, confidential, secret], provider: local, expect: allow}
"""


@dataclass(frozen=True, slots=True)
class Rule:
    """One cell of the table.

    Attributes:
        purpose: None stands for every purpose that has no rule of its own.
        line: of the policy's text, from 1.
    """

    trust: Trust
    provider: ProviderClass
    purpose: Purpose | None
    verdict: Verdict
    line: int = 0


@dataclass(frozen=True, slots=True)
class PolicyTest:
    """What somebody expects of a policy: `expect` for every combination of the others.

    Attributes:
        purposes: none stands for every purpose that the policy names, and any other.
    """

    name: str
    trusts: tuple[Trust, ...]
    providers: tuple[ProviderClass, ...]
    purposes: tuple[Purpose, ...]
    expect: Verdict
    line: int = 0


@dataclass(frozen=True, slots=True)
class TestOutcome:
    """How one test went: no `failures`, and it passed."""

    __test__ = False  # pytest takes it for a test case otherwise

    test: PolicyTest
    checked: int
    failures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the policy says of one request and one class of provider.

    Attributes:
        verdict: what is left to do once `redact` is done: send, have consent, or not send.
        redact: what detection found has to be taken out first.
        trust: of what is sent, after that.
        line: of the rule that decided; 0 where there is none.
    """

    verdict: Literal["allow", "ask", "deny"]
    redact: bool
    trust: Trust
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Policy:
    """A table of rules; what it does not name is denied.

    Attributes:
        digest: SHA-256 over what the rules say, whatever their order, comments and tests.
    """

    rules: tuple[Rule, ...]
    purposes: tuple[Purpose, ...] = PURPOSES
    tests: tuple[PolicyTest, ...] = ()
    digest: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        said = sorted([rule.trust.value, rule.provider, rule.purpose or _ANY, rule.verdict] for rule in self.rules)
        digest = hashlib.sha256(json.dumps(said, separators=(",", ":")).encode()).hexdigest()
        object.__setattr__(self, "digest", digest)

    def rule(self, trust: Trust, provider: ProviderClass, purpose: Purpose) -> Rule:
        """The rule for a purpose: its own, else that for `any`, else one that denies."""
        cells = [rule for rule in self.rules if rule.trust == trust and rule.provider == provider]
        for wanted in (purpose, None):
            found = [rule for rule in cells if rule.purpose == wanted]
            if found:
                return max(found, key=lambda rule: (_STRICTNESS[rule.verdict], VERDICTS.index(rule.verdict)))
        return Rule(trust, provider, None, "deny")

    def judge(self, trust: Trust, redacted: Trust, provider: ProviderClass, purpose: Purpose) -> Ruling:
        """What may be done with text of level `trust`.

        Args:
            redacted: the level that is left when all that detection found is taken out; not above `trust`. It is that
                of what was declared and of what the context carries: taking text out does not change these.

        Where the rule is `redact` and that leaves a lower level, the rule of that level is obeyed as well.
        """
        if redacted.rank > trust.rank:
            raise ValueError(f"redacting cannot raise {trust.value!r} to {redacted.value!r}")
        rule = self.rule(trust, provider, purpose)
        said = _said(rule)
        if rule.verdict != "redact":
            return Ruling(rule.verdict, False, trust, rule.line, said)
        if redacted == trust:
            return Ruling("allow", True, trust, rule.line, said)
        left = self.rule(redacted, provider, purpose)
        verdict = "allow" if left.verdict == "redact" else left.verdict
        return Ruling(verdict, True, redacted, left.line, f"{said}, and then it is {redacted.value}: {_said(left)}")


def _said(rule: Rule) -> str:
    where = f" (line {rule.line})" if rule.line else ""
    return f"{rule.trust.value} text to a {rule.provider} provider, {rule.purpose or _ANY}: {rule.verdict}{where}"


@functools.cache
def default_policy() -> Policy:
    """The policy of whoever wrote none."""
    return parse_policy(DEFAULT_POLICY, source="the default policy")


def parse_policy(text: str, *, source: str = "policy.yaml") -> Policy:
    """Read a policy.

    Args:
        source: what errors call it.

    Raises:
        ConfigError: it is not valid YAML, names what there is not, has a gap or a contradiction. `details["line"]`.
    """
    reader = _Reader(source)
    sections = reader.mapping(reader.root(text), "the policy", ("version", "purposes", "rules", "tests"))
    reader.version(sections)
    own = reader.purposes(sections.get("purposes"))
    if "rules" not in sections:
        reader.refuse(1, "has no rules", hint="Begin from the default policy: every level needs `local` and `hosted`.")
    policy = Policy(reader.rules(sections["rules"][1], own), own)
    _refuse_contradictions(policy, reader)
    tests = reader.tests(sections["tests"][1], own) if "tests" in sections else ()
    return Policy(policy.rules, own, tests)


def parse_policy_tests(text: str, policy: Policy, *, source: str = "policy-tests.yaml") -> tuple[PolicyTest, ...]:
    """Read the tests of a file beside the policy, which has `tests` alone.

    Raises:
        ConfigError: as `parse_policy`.
    """
    reader = _Reader(source)
    sections = reader.mapping(reader.root(text), "a file of policy tests", ("version", "tests"))
    reader.version(sections)
    if "tests" not in sections:
        reader.refuse(1, "has no tests")
    return reader.tests(sections["tests"][1], policy.purposes)


def run_policy_tests(policy: Policy, tests: tuple[PolicyTest, ...] | None = None) -> tuple[TestOutcome, ...]:
    """Try tests (the policy's own unless others are given) on a policy, in their order."""
    return tuple(_run(policy, test) for test in (policy.tests if tests is None else tests))


def _run(policy: Policy, test: PolicyTest) -> TestOutcome:
    purposes: tuple[Purpose | None, ...] = test.purposes or (*policy.purposes, None)
    failures: list[str] = []
    checked = 0
    for trust, provider, purpose in itertools.product(test.trusts, test.providers, purposes):
        rule = policy.rule(trust, provider, purpose or _ANY)
        checked += 1
        if rule.verdict != test.expect:
            where = f" (line {rule.line})" if rule.line else ""
            failures.append(
                f"{trust.value}, {provider}, {purpose or _ANY}: expected {test.expect}, the policy says "
                f"{rule.verdict}{where}"
            )
    return TestOutcome(test, checked, tuple(failures))


def _refuse_contradictions(policy: Policy, reader: _Reader) -> None:
    """No cell is laxer than one that is at most as strict: the level below, or local beside hosted."""
    for purpose in (*policy.purposes, _ANY):
        for provider in PROVIDER_CLASSES:
            for lower, higher in itertools.pairwise(Trust):
                _compare(reader, policy.rule(lower, provider, purpose), policy.rule(higher, provider, purpose), purpose)
        for trust in Trust:
            _compare(reader, policy.rule(trust, "local", purpose), policy.rule(trust, "hosted", purpose), purpose)


def _compare(reader: _Reader, may_be_laxer: Rule, may_be_stricter: Rule, purpose: Purpose) -> None:
    if _STRICTNESS[may_be_stricter.verdict] >= _STRICTNESS[may_be_laxer.verdict]:
        return
    first, second = (
        f"{rule.trust.value} text to a {rule.provider} provider is {rule.verdict!r} (line {rule.line})"
        for rule in (may_be_stricter, may_be_laxer)
    )
    reader.refuse(
        may_be_stricter.line,
        f"contradicts itself for purpose {purpose!r}: {first} while {second}",
        hint="A higher level may go no further than a lower one, and no further to a hosted provider than to a local "
        f"one. Make line {may_be_stricter.line} stricter or line {may_be_laxer.line} laxer.",
    )


# --- Reading ------------------------------------------------------------------------------------------------------

_Section = tuple[int, "yaml.Node"]  # the line of the key, and the value


class _Reader:
    """Takes YAML nodes apart, so that every refusal can name its line."""

    def __init__(self, source: str) -> None:
        self.source = source

    def refuse(self, line: int, what: str, *, hint: str | None = None) -> NoReturn:
        raise ConfigError(f"{self.source} line {line} {what}", hint=hint, source=self.source, line=line)

    def root(self, text: str) -> yaml.Node:
        import yaml  # noqa: PLC0415 - only where a policy is read

        if len(text.encode("utf-8", "surrogatepass")) > LARGEST_POLICY:
            self.refuse(1, f"begins more than {LARGEST_POLICY} bytes")
        try:
            # Not the loader in C, which is faster and takes other texts: what is valid must not hang on the machine.
            loader = yaml.SafeLoader
            begins = (
                yaml.BlockMappingStartToken
                | yaml.BlockSequenceStartToken
                | yaml.FlowMappingStartToken
                | yaml.FlowSequenceStartToken
            )
            ends = yaml.BlockEndToken | yaml.FlowMappingEndToken | yaml.FlowSequenceEndToken
            depth = 0
            for token in yaml.scan(text, Loader=loader):
                line = token.start_mark.line + 1
                # Aliases can make a small text large, and a line stand for two places.
                if isinstance(token, yaml.AliasToken | yaml.AnchorToken | yaml.TagToken):
                    self.refuse(line, "has an anchor, an alias or a tag: write it out")
                depth += isinstance(token, begins)
                depth -= isinstance(token, ends)
                if depth > _DEEPEST:  # the composer goes down by recursion
                    self.refuse(line, "is nested too deep")
            node = yaml.compose(text, Loader=loader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or str(error).splitlines()[0]
            self.refuse(mark.line + 1 if mark else 1, f"is not valid YAML: {problem}")
        if node is None:
            self.refuse(1, "is empty", hint="Write a policy, or remove the file to have the default one.")
        return node

    def mapping(self, node: yaml.Node, what: str, known: tuple[str, ...] | None) -> dict[str, _Section]:
        import yaml  # noqa: PLC0415

        line = node.start_mark.line + 1
        if not isinstance(node, yaml.MappingNode):
            self.refuse(line, f"should be {what}: `name: value` lines")
        found: dict[str, _Section] = {}
        for key, value in node.value:
            at = key.start_mark.line + 1
            name = self.text(key, "a name")
            if known is not None:
                self.word(name, known, at, f"of {what}")
            if name in found:
                self.refuse(at, f"has {name!r} a second time: line {found[name][0]} has it already")
            found[name] = (at, value)
        return found

    def text(self, node: yaml.Node, what: str) -> str:
        import yaml  # noqa: PLC0415

        if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
            self.refuse(node.start_mark.line + 1, f"should have {what}")
        return node.value

    def word(self, word: str, known: tuple[_Word, ...], line: int, what: str) -> _Word:
        for each in known:
            if each == word:
                return each
        near = difflib.get_close_matches(word, known, n=1)
        return self.refuse(
            line,
            f"has {word!r}, which is none {what}" + (f": did you mean {near[0]!r}?" if near else ""),
            hint=f"There are: {', '.join(known)}.",
        )

    def items(self, node: yaml.Node) -> list[yaml.Node]:
        import yaml  # noqa: PLC0415

        return list(node.value) if isinstance(node, yaml.SequenceNode) else [node]

    def words(self, section: _Section, known: tuple[_Word, ...], what: str) -> tuple[_Word, ...]:
        """One word, or a list of them."""
        found = tuple(
            self.word(self.text(node, f"one {what}"), known, node.start_mark.line + 1, what)
            for node in self.items(section[1])
        )
        if not found:
            self.refuse(section[0], f"has a list of nothing where one {what} belongs")
        return found

    def version(self, sections: dict[str, _Section]) -> None:
        if "version" in sections:
            line, node = sections["version"]
            if self.text(node, "a version") != str(POLICY_VERSION):
                self.refuse(
                    line, f"has version {self.text(node, 'a version')!r}; this program reads {POLICY_VERSION} alone"
                )

    def purposes(self, section: _Section | None) -> tuple[Purpose, ...]:
        own: list[Purpose] = []
        for node in self.items(section[1]) if section else ():
            line = node.start_mark.line + 1
            name = self.text(node, "a purpose")
            if not _PURPOSE.fullmatch(name) or name == _ANY:
                self.refuse(
                    line,
                    f"has {name!r}, which is no name for a purpose",
                    hint="At most 64 of a-z, 0-9, `-` and `_`, a letter first, and not `any`.",
                )
            if name in own or name in PURPOSES:
                self.refuse(line, f"has {name!r} a second time, or it is built in")
            own.append(name)
        return (*PURPOSES, *own)

    def rules(self, node: yaml.Node, purposes: tuple[Purpose, ...]) -> tuple[Rule, ...]:
        levels = self.mapping(node, "the trust levels", tuple(level.value for level in Trust))
        self.all_there(levels, tuple(level.value for level in Trust), node.start_mark.line + 1, "trust level")
        return tuple(rule for level in Trust for rule in self.rules_of(level, levels[level.value], purposes))

    def rules_of(self, trust: Trust, section: _Section, purposes: tuple[Purpose, ...]) -> Iterator[Rule]:
        import yaml  # noqa: PLC0415

        classes = self.mapping(section[1], "the classes of providers", PROVIDER_CLASSES)
        self.all_there(classes, PROVIDER_CLASSES, section[0], f"class of provider, for {trust.value} text")
        for provider in PROVIDER_CLASSES:
            line, node = classes[provider]
            if isinstance(node, yaml.ScalarNode):
                verdict: Verdict = self.word(self.text(node, "a verdict"), VERDICTS, line, "of the verdicts")
                yield Rule(trust, provider, None, verdict, line)
                continue
            cells = self.mapping(node, "the purposes", (_ANY, *purposes))
            if _ANY not in cells:
                missing = [purpose for purpose in purposes if purpose not in cells]
                self.refuse(
                    line,
                    f"leaves a gap: {trust.value} text to a {provider} provider has no rule for "
                    f"{', '.join([*missing, 'purposes of other names'])}",
                    hint="Add `any`, for every purpose that has no rule of its own: `any: deny` if in doubt.",
                )
            for purpose, (at, value) in cells.items():
                verdict: Verdict = self.word(self.text(value, "a verdict"), VERDICTS, at, "of the verdicts")
                yield Rule(trust, provider, None if purpose == _ANY else purpose, verdict, at)

    def all_there(self, found: dict[str, _Section], needed: tuple[str, ...], line: int, what: str) -> None:
        missing = [name for name in needed if name not in found]
        if missing:
            self.refuse(
                line,
                f"leaves a gap: no rules for {what} {', '.join(map(repr, missing))}",
                hint="What is not said would have to be guessed; `deny` says that it may not.",
            )

    def tests(self, node: yaml.Node, purposes: tuple[Purpose, ...]) -> tuple[PolicyTest, ...]:
        import yaml  # noqa: PLC0415

        if not isinstance(node, yaml.SequenceNode):
            self.refuse(node.start_mark.line + 1, "should be a list of tests")
        return tuple(self.test(each, purposes) for each in node.value)

    def test(self, node: yaml.Node, purposes: tuple[Purpose, ...]) -> PolicyTest:
        line = node.start_mark.line + 1
        fields = self.mapping(node, "a test", ("name", "trust", "provider", "purpose", "expect"))
        missing = [name for name in ("trust", "provider", "expect") if name not in fields]
        if missing:
            self.refuse(line, f"begins a test without {', '.join(missing)}")
        trusts = self.words(fields["trust"], tuple(level.value for level in Trust), "trust level")
        providers: tuple[ProviderClass, ...] = self.words(fields["provider"], PROVIDER_CLASSES, "class of provider")
        wanted = self.words(fields["purpose"], purposes, "purpose") if "purpose" in fields else ()
        at, expect = fields["expect"]
        verdict: Verdict = self.word(self.text(expect, "a verdict"), VERDICTS, at, "of the verdicts")
        name = self.text(fields["name"][1], "a name") if "name" in fields else f"line {line}"
        return PolicyTest(name, tuple(map(Trust, trusts)), providers, wanted, verdict, line)
