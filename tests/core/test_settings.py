"""The configuration: file and environment, and errors that say where and what is allowed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adaptive_llm_gateway.core import ConfigError, Home, Settings, Trust, load_settings
from adaptive_llm_gateway.core._settings_gateway import ProviderSettings


@pytest.fixture
def home(isolated: Path) -> Home:
    isolated.mkdir()
    return Home(isolated)


def configured(home: Home, text: str | bytes) -> Settings:
    home.config.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_settings(home)


def refused(home: Home, text: str | bytes) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        configured(home, text)
    return caught.value


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "{}", "\ufeff", "null\n"])
def test_an_empty_file_leaves_everything_at_its_default(home: Home, text: str) -> None:
    assert configured(home, text) == Settings()


def test_a_missing_file_leaves_everything_at_its_default(home: Home) -> None:
    assert load_settings(home) == Settings()


def test_a_section_that_holds_only_comments_is_empty(home: Home) -> None:
    assert configured(home, "memory:\n  # path: ~/notes\nhub:\n") == Settings()


def test_the_environment_overrules_the_file_key_by_key(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALG_MEMORY__WATCH", "poll")
    monkeypatch.setenv("ALG_HUB__IDLE_MINUTES", "")  # empty counts as not set
    settings = configured(home, "memory: {watch: 'off', commit_wait_ms: 7}\nhub: {idle_minutes: 3}\n")
    assert settings.memory.watch == "poll"
    assert settings.memory.commit_wait_ms == 7
    assert settings.hub.idle_minutes == 3


def test_a_tilde_is_the_users_folder_in_file_and_environment(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    user = Path(os.environ["HOME"])
    assert configured(home, "memory: {path: ~/notes}\n").memory.path == user / "notes"
    monkeypatch.setenv("ALG_MEMORY__PATH", "~/others")
    assert load_settings(home).memory.path == user / "others"


def test_the_folders_that_may_be_summarised_are_a_list(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    user = Path(os.environ["HOME"])
    assert configured(home, "summaries: {roots: [~/projects, /srv]}").summaries.roots == (
        user / "projects",
        Path("/srv"),
    )
    monkeypatch.setenv("ALG_SUMMARIES__ROOTS", '["~/others"]')
    assert load_settings(home).summaries.roots == (user / "others",)
    monkeypatch.setenv("ALG_SUMMARIES__ROOTS", "/srv")
    with pytest.raises(ConfigError, match=r"summaries|ROOTS|JSON"):
        load_settings(home)


def test_settings_do_not_change(home: Home) -> None:
    settings = load_settings(home)
    with pytest.raises(ValidationError):
        settings.memory.watch = "poll"
    with pytest.raises(ValidationError):
        settings.memory = settings.memory


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("memory: {watch: maybe}", ["memory.watch", "'maybe'", "'events'", "'poll'", "'off'"]),
        ("embedder: {kind: gpt}", ["embedder.kind", "'gpt'", "'onnx'", "'none'"]),
        ("memory: {max_body_bytes: 10}", ["memory.max_body_bytes", "10", "1024"]),
        ("memory: {max_body_bytes: lots}", ["memory.max_body_bytes", "'lots'"]),
        ("hub: {idle_minutes: -1}", ["hub.idle_minutes", "-1"]),
        ("hub: {idle_minutes: .nan}", ["hub.idle_minutes", "nan"]),
        ("handoffs: {expire_days: 1.0e+7}", ["handoffs.expire_days", "3650"]),
        ("handoffs: {expire_days: .inf}", ["handoffs.expire_days", "inf"]),
        ("handoffs: {checkpoint_days: 3651}", ["handoffs.checkpoint_days", "3650"]),
        ("handoffs: {checkpoint_days: .nan}", ["handoffs.checkpoint_days", "nan"]),
        ("handoffs: {lease_minutes: .nan}", ["handoffs.lease_minutes", "nan"]),
        ("handoffs: {lease_minutes: 1441}", ["handoffs.lease_minutes", "1440"]),
        ("handoffs: {tolerance_seconds: .nan}", ["handoffs.tolerance_seconds", "nan"]),
        ("handoffs: {tolerance_seconds: .inf}", ["handoffs.tolerance_seconds", "inf"]),
        ("handoffs: {remote_seconds: .nan}", ["handoffs.remote_seconds", "nan"]),
        ("handoffs: {remote_seconds: 61}", ["handoffs.remote_seconds", "60"]),
        ("handoffs: {patch_bytes: 1048577}", ["handoffs.patch_bytes", "1048576"]),
        ("memory: 5", ["'memory'", "5"]),
        ("memory: [a]", ["'memory'"]),
        ("sync: {remote: [a, b]}", ["sync.remote"]),
        ("summaries: {roots: [projects]}", ["summaries.roots", "'projects' is not an absolute path"]),
        ("summaries: {roots: 5}", ["summaries.roots", "5"]),
    ],
)
def test_a_wrong_value_is_named_with_its_path_and_what_is_allowed(home: Home, text: str, words: list[str]) -> None:
    error = refused(home, text)
    assert str(home.config) in str(error)
    for word in words:
        assert word in f"{error} {error.hint}", f"{error} {error.hint}"


def test_an_unknown_key_is_named_with_the_known_ones(home: Home) -> None:
    error = refused(home, "memory: {wach: auto}")
    assert "'memory.wach'" in str(error)
    assert str(home.config) in str(error)
    assert error.hint is not None
    assert "memory.watch" in error.hint
    assert "hub.idle_minutes" not in error.hint


def test_an_unknown_section_is_named_with_the_known_ones(home: Home) -> None:
    error = refused(home, "memmory: {watch: auto}")
    assert "'memmory'" in str(error)
    assert error.hint is not None
    assert "memory" in error.hint
    assert "sync" in error.hint


def test_all_mistakes_are_told_at_once(home: Home) -> None:
    text = str(refused(home, "memory: {watch: maybe}\nhub: {log_level: loud}\nnew: 1\n"))
    assert "memory.watch" in text
    assert "hub.log_level" in text
    assert "'new'" in text


def test_a_wrong_value_in_the_environment_is_named_by_its_variable(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALG_MEMORY__WATCH", "maybe")
    with pytest.raises(ConfigError, match="ALG_MEMORY__WATCH") as caught:
        load_settings(home)
    assert "'maybe'" in str(caught.value)
    assert "'events'" in str(caught.value)


@pytest.mark.parametrize("name", ["ALG_MEMORY__WACH", "ALG_MEMMORY__WATCH", "ALG_MEMORY__WATCH__NOW"])
def test_an_unknown_variable_is_named_with_the_known_ones(
    home: Home, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(ConfigError, match=name) as caught:
        load_settings(home)
    assert caught.value.hint is not None
    assert "ALG_MEMORY__WATCH" in caught.value.hint


def test_variables_of_others_are_left_alone(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALG_FAULT", "ALGORITHM__X", "MEMORY__WATCH", "ALG_"):
        monkeypatch.setenv(name, "x")
    assert load_settings(home) == Settings()


def test_a_list_in_the_environment_that_is_no_json_is_named_and_not_shown(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALG_HTTP__TRUSTED_PROXIES", "192.0.2.77")
    monkeypatch.setenv("ALG_SYNC__REMOTE", "elsewhere")
    with pytest.raises(ConfigError) as told:
        load_settings(home)
    assert "ALG_HTTP__TRUSTED_PROXIES" in told.value.message
    assert "ALG_SYNC__REMOTE" not in told.value.message
    assert "192.0.2.77" not in str(told.value.as_dict())
    assert told.value.hint is not None
    assert '["one", "two"]' in told.value.hint


@pytest.mark.parametrize("value", ["x", "5", '{"wach": "auto"}', "[", '{"watch": "maybe"}'])
def test_a_whole_section_in_the_environment_is_checked_too(
    home: Home, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("ALG_MEMORY", value)
    with pytest.raises(ConfigError, match=r"ALG_MEMORY|memory"):
        load_settings(home)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"memory: [\n", "line 2"),
        (b"a: b: c\n", "line 1"),
        (b"memory:\n\twatch: auto\n", "line 2"),
        (b"- a\n- b\n", "sections"),
        (b"text\n", "sections"),
        (b"5: {}\n", "sections"),
        (b"memory: !!python/object/apply:os.system ['true']\n", "line 1"),
        (b"\xff\xfe", "UTF-8"),
        (b"memory: {path: 'a\x00b'}\n", "config.yaml"),
        (b"a: " + b"[" * 1500, "config.yaml"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(home: Home, content: bytes, word: str) -> None:
    error = refused(home, content)
    assert str(home.config) in str(error)
    assert word.lower() in str(error).lower()


def test_a_folder_in_the_files_place_is_named(home: Home) -> None:
    home.config.mkdir()
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        load_settings(home)


def test_every_setting_is_described() -> None:
    for section, field in Settings.model_fields.items():
        assert field.description or section not in ("providers", "routes")
        model: Any = ProviderSettings if section == "providers" else field.annotation
        for key, info in getattr(model, "model_fields", {}).items():
            assert info.description, f"{section}.{key}"


# --- The gateway ---------------------------------------------------------------------------------------------------

PROVIDERS = """
gateway: {default_trust: confidential, discover: false}
providers:
  ollama: {kind: ollama}
  work:
    kind: openai_compatible
    url: https://llm.example.com/v1
    key_env: WORK_KEY
    models: [{name: big, context: 128000, json: true}]
routes:
  fast: [ollama/qwen3:4b, work/big]
  one: work/big
"""


def test_providers_and_routes_have_names_of_the_users_own(home: Home) -> None:
    settings = configured(home, PROVIDERS)
    assert settings.gateway.default_trust is Trust.CONFIDENTIAL
    assert settings.gateway.deadline_seconds == 300
    assert list(settings.providers) == ["ollama", "work"]
    work = settings.providers["work"]
    assert (work.kind, work.key_env, work.enabled, work.timeout) == ("openai_compatible", "WORK_KEY", True, 120.0)
    assert (work.models[0].name, work.models[0].context, work.models[0].json_) == ("big", 128_000, True)
    assert settings.routes == {"fast": ("ollama/qwen3:4b", "work/big"), "one": ("work/big",)}


def test_the_environment_adds_to_a_provider_and_names_new_ones(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALG_GATEWAY__RETENTION_DAYS", "7")
    monkeypatch.setenv("ALG_PROVIDERS__WORK__ENABLED", "false")
    monkeypatch.setenv("ALG_PROVIDERS__OTHER__KIND", "groq")
    monkeypatch.setenv("ALG_ROUTES__FAST", '["other/x"]')
    settings = configured(home, PROVIDERS)
    assert settings.gateway.retention_days == 7
    assert settings.gateway.discover is False
    assert (settings.providers["work"].enabled, settings.providers["work"].key_env) == (False, "WORK_KEY")
    assert settings.providers["other"].kind == "groq"
    assert settings.routes["fast"] == ("other/x",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gateway: {default_trust: top}", ["gateway.default_trust", "'top'", "'public'", "'secret'"]),
        ("gateway: {retention_days: 0}", ["gateway.retention_days", "0"]),
        ("gateway: {retain: 5}", ["'gateway.retain'", "gateway.retention_days"]),
        ("providers: {a: {kind: gpt}}", ["providers.a.kind", "'ollama'", "'openai_compatible'"]),
        ("providers: {a: {url: http://h/v1}}", ["providers.a.kind", "required"]),
        ("providers: {a: {kind: ollama, colour: 5}}", ["'providers.a.colour'", "providers.<name>.order"]),
        ("providers: {a: {kind: openai_compatible}}", ["providers.a", "`url`"]),
        ("providers: {a: {kind: ollama, order: 5000}}", ["providers.a.order", "5000", "1000"]),
        ("providers: {A b: {kind: ollama}}", ["providers.A b", "a-z"]),
        ("providers: {auto: {kind: ollama}}", ["providers.auto", "'auto'"]),
        ("routes: {auto: [x]}", ["routes.auto", "'auto'"]),
        ("providers: {a: ollama}", ["providers.a"]),
        ("providers: [a]", ["'providers'"]),
        ("providers: {a: {kind: ollama, models: [{context: 5}]}}", ["providers.a.models.0.name"]),
        ("providers: {a: {kind: ollama, models: [{name: x}, {name: x}]}}", ["providers.a", "twice"]),
        ("routes: {a: []}", ["routes.a"]),
        ("routes: {a: {b: c}}", ["routes.a"]),
    ],
)
def test_a_wrong_entry_of_the_gateway_is_named_with_its_path(home: Home, text: str, words: list[str]) -> None:
    error = refused(home, text)
    for word in words:
        assert word in f"{error} {error.hint}", f"{error} {error.hint}"


KEY = "sk-" + "proj-4f9a8b7c6d5e4f3a2b1c0d9e"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (f"providers: {{a: {{kind: openai, api_key: {KEY}}}}}", "providers.a.api_key"),
        (f"providers: {{a: {{kind: openai, key: {KEY}}}}}", "providers.a.key"),
        (f"providers: {{a: {{kind: openai, headers: [{KEY}]}}}}", "providers.a.headers"),
        (f"providers: {{api_key: {KEY}}}", "providers.api_key"),
        (f"gateway: {{token: {KEY}}}", "gateway.token"),
        (f"providers: {{a: {{kind: openai, key_env: {KEY}}}}}", "providers.a.key_env"),
        (f"providers: {{a: {{kind: openai, key_env: {KEY.replace('-', '_')}}}}}", "providers.a.key_env"),
        (f"providers: {{a: {{kind: openai_compatible, url: 'https://me:{KEY}@h/v1'}}}}", "providers.a.url"),
        (f"providers: {{a: {{kind: openai_compatible, url: 'https://h/v1?key={KEY}'}}}}", "providers.a.url"),
        (f"providers: {{a: {{kind: {KEY}}}}}", "providers.a.kind"),
        (f"providers: {{a: {KEY}}}", "providers.a"),
        (f"providers: {KEY}", "providers"),
    ],
)
def test_a_key_in_the_file_is_refused_without_being_shown(home: Home, text: str, path: str) -> None:
    error = refused(home, text)
    said = f"{error} {error.hint} {error.details} {error.__cause__!r} {error.__context__!r}"
    assert path in said
    assert KEY[3:] not in said
    assert KEY.replace("-", "_")[3:] not in said


def test_a_key_in_the_environment_is_refused_without_being_shown(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALG_PROVIDERS__A__API_KEY", KEY)
    with pytest.raises(ConfigError, match="ALG_PROVIDERS__A__API_KEY") as caught:
        load_settings(home)
    assert "key_env" in str(caught.value.hint)
    assert KEY not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "my_key", "WORK_KEY_2", "A_VERY_LONG_NAME_OF_A_KEY_2026"])
def test_the_name_of_a_variable_is_taken(home: Home, name: str) -> None:
    assert configured(home, f"providers: {{a: {{kind: openai, key_env: {name}}}}}").providers["a"].key_env == name
