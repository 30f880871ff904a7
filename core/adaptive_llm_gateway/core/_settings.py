"""The configuration: `config.yaml` in the home, overruled by `ALG_<SECTION>__<KEY>` in the environment.

Only `server` calls `load_settings`; everything below it is handed frozen values.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from adaptive_llm_gateway.core._errors import ConfigError
from adaptive_llm_gateway.core._paths import Home
from adaptive_llm_gateway.core._settings_gateway import (
    HOW_TO_GIVE_A_KEY,
    GatewaySettings,
    Providers,
    ProviderSettings,
    Routes,
    Section,
    key_in,
)
from adaptive_llm_gateway.core._settings_http import HttpSettings
from adaptive_llm_gateway.core._settings_oauth import OAuthSettings
from adaptive_llm_gateway.core._settings_observe import AuditSettings, TelemetrySettings

ENV_PREFIX = "ALG_"


def settings_in_environment() -> list[str]:
    """The names of variables that set something of the configuration: `ALG_<SECTION>__<KEY>`. Others that begin with
    `ALG_`, such as one with a client's token, are none of its business.
    """
    return sorted(name for name in os.environ if name.upper().startswith(ENV_PREFIX) and "__" in name)


def _expand(value: object) -> object:
    return Path(value).expanduser() if isinstance(value, str) and value else value


def _expand_all(value: object) -> object:
    return [_expand(item) for item in cast("list[object]", value)] if isinstance(value, list) else value


def _absolute_or_none(path: Path | None) -> Path | None:
    if path is not None:
        _absolute((path,))
    return path


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _off(value: object) -> object:
    return "off" if value is False else value  # as YAML reads the word


_REPO_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


def _absolute(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    for path in paths:
        if not path.is_absolute():
            raise ValueError(f"{str(path)!r} is not an absolute path")
    return paths


class MemorySettings(Section):
    """Where memories lie and how large they may be."""

    path: Annotated[Path | None, BeforeValidator(_expand)] = Field(
        None, description="The memory repo; default: `memory` in the home."
    )
    max_body_bytes: int = Field(
        2 * 1024 * 1024, ge=1024, le=16 * 1024 * 1024, description="Largest body of one memory, in bytes of UTF-8."
    )
    watch: Annotated[Literal["auto", "events", "poll", "off"], BeforeValidator(_off)] = Field(
        "auto", description="How edits by hand are noticed: `events` from the system, `poll`, `auto` or `off`."
    )
    commit_wait_ms: int = Field(
        250, ge=0, le=10_000, description="How long a write waits for its commit before it answers `saved`."
    )
    compact_sessions_at: int = Field(
        20_000,
        ge=0,
        le=10_000_000,
        description="A session's log of this many tokens gets a summary by itself, and a new one each time it has "
        "grown by half since the last; 0: only when asked for.",
    )
    personal_data: Annotated[Literal["raise", "off"], BeforeValidator(_off)] = Field(
        "raise",
        description="What becomes of a memory that is written with personal data in it: its trust level is raised to "
        "`gateway.personal_data`, and the answer says so; `off`: nothing. `gateway.personal_allowed` holds here, too.",
    )


class IndexSettings(Section):
    """Where the index is kept: in a file of the home, in that and Qdrant, or in PostgreSQL with pgvector."""

    kind: Literal["sqlite", "postgres", "qdrant"] = Field(
        "sqlite",
        description="`postgres` needs the extra `adaptive-llm-gateway[postgres]` and a server with pgvector; `qdrant` "
        "has a server search the vectors, and needs `adaptive-llm-gateway[qdrant]`.",
    )
    url: SecretStr | None = Field(
        None,
        description="For `postgres`: `postgresql://user@host:5432/database`. A password may stand in it in the "
        "environment only; `~/.pgpass` is the other place. For `qdrant`: `http://127.0.0.1:6333`; a server on another "
        "machine gets no memory above `internal`.",
    )
    schema_name: str | None = Field(
        None, description="For `postgres`: the schema that is this hub's own; default: one called after the hub."
    )
    api_key_env: str | None = Field(None, description="Environment variable that holds the key, for `qdrant`.")


class EmbedderSettings(Section):
    """What turns text into vectors."""

    kind: Literal["onnx", "transformers", "http", "none"] = Field(
        "onnx", description="`onnx` is inside the package; `none` leaves search lexical."
    )
    model: str | None = Field(None, description="Model name, for `transformers` and `http`.")
    url: str | None = Field(
        None,
        description="Base URL of an OpenAI-compatible endpoint, for `http`; one on another machine gets no memory "
        "above `internal`.",
    )
    api_key_env: str | None = Field(None, description="Environment variable that holds the key, for `http`.")
    dimensions: int | None = Field(None, ge=8, le=8192, description="Vector length, where the endpoint needs telling.")
    threads: int = Field(2, ge=1, le=64, description="Threads the model may use.")


class RerankerSettings(Section):
    """What judges the first hits of a search once more."""

    kind: Literal["none", "transformers", "http"] = Field(
        "none",
        description="`none` leaves hits in the order of the search; `transformers` needs the extra "
        "`adaptive-llm-gateway[transformers]`.",
    )
    model: str | None = Field(None, description="Model name, for `transformers` (a cross-encoder) and `http`.")
    url: str | None = Field(
        None,
        description="Base URL of an endpoint that has `/rerank`, for `http`; one on another machine gets no memory "
        "above `internal`.",
    )
    api_key_env: str | None = Field(None, description="Environment variable that holds the key, for `http`.")
    timeout: float = Field(
        2.0, ge=0.05, le=60, description="Longest time in seconds that a search waits for the reranker."
    )
    top: int = Field(20, ge=2, le=100, description="How many of the first hits are reranked.")


class HubSettings(Section):
    """The long-lived process."""

    idle_minutes: float = Field(30.0, ge=0, description="The hub stops after this long without a client; 0: it stays.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What the hub's log keeps.")
    log_format: Literal["text", "json"] = Field(
        "text", description="Lines of the hub's logs: `text` for people, `json` an object each."
    )


TrustLevel = Literal["public", "internal", "confidential", "secret"]

RemoteAllowances = Literal["ask", "trust"]


class SyncSettings(Section):
    """The remote of the memory repo, and what holds for every remote."""

    remote: str | None = Field(
        None,
        description="URL or path of the git remote; also `alg init --remote`. Default: git's `origin`, if any.",
    )
    push_after_write: bool = Field(True, description="Push soon after a write, when there is a remote.")
    push_delay_seconds: float = Field(2.0, ge=0, le=3600, description="How long to gather writes before that push.")
    interval_seconds: float = Field(
        300.0,
        ge=0,
        le=86400,
        allow_inf_nan=False,
        description="How often to look for what others wrote, give or take a quarter, and to push what waits where "
        "`push_after_write` is on; 0: only when asked, and after a write.",
    )
    timeout_seconds: float = Field(
        60.0,
        ge=1,
        le=3600,
        description="How long the remote may be silent in a fetch or push. While data comes it goes on, up to 60 times "
        "as long.",
    )
    trust: TrustLevel = Field(
        "secret", description="Highest trust level that the memory repo takes, and that may go to its remote."
    )
    read_only: bool = Field(False, description="Only pull: what is written here would never be pushed, and is refused.")
    remote_allowances: RemoteAllowances = Field(
        "ask",
        description="Whether what a pull adds to the list of what is no secret counts once you have agreed to it here, "
        "or at once: then whoever can push there opens the gate for you, too.",
    )


def _checked_repo_name(name: str) -> str:
    if not _REPO_NAME.fullmatch(name):
        raise ValueError("a name has at most 32 of a-z, 0-9 and `-`, and begins with a letter")
    if name == "personal":
        raise ValueError("'personal' is the repo of `memory.path`, whose remote `sync` describes")
    return name


class RepoSettings(Section):
    """A further memory repo."""

    path: Annotated[Path | None, BeforeValidator(_expand), AfterValidator(_absolute_or_none)] = Field(
        None, description="Its folder; default: `repos/<name>` in the home."
    )
    remote: str | None = Field(None, description="URL or path of its git remote.")
    branch: Annotated[str | None, Field(min_length=1, max_length=200)] = Field(
        None, description="Its branch, here and at the remote; default: the one it is on, `main` for a new one."
    )
    projects: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], BeforeValidator(_one_or_more)
    ] = Field(
        (),
        description="Projects whose memories are written here: names, with `*`, `?` and `[...]` as in a shell. The "
        "first repo that has one counts. In the environment a JSON list.",
    )
    trust: TrustLevel = Field(
        "internal", description="Highest trust level that it takes, and that may go to its remote."
    )
    read_only: bool = Field(False, description="Only pull: writes that belong here are refused.")
    remote_allowances: RemoteAllowances = Field("ask", description="As `sync.remote_allowances`, for this repo.")


Repos = dict[Annotated[str, AfterValidator(_checked_repo_name)], RepoSettings]


class SecretsSettings(Section):
    """The second look for secrets, beside those that every write, commit, push and pull gets."""

    idle_scan: bool = Field(
        True,
        description="Look through the objects of the memory repos while nothing else is to be done, and tell of "
        "secrets: `alg memory status` and `alg doctor` show them.",
    )
    idle_seconds: float = Field(
        30.0,
        ge=0,
        le=86400,
        allow_inf_nan=False,
        description="How long nobody must have asked for anything before that begins.",
    )


class SummariesSettings(Section):
    """Which files may be summarised."""

    roots: Annotated[tuple[Path, ...], BeforeValidator(_expand_all), AfterValidator(_absolute)] = Field(
        (),
        description="Folders and files below which `memory_summarize_path` and `alg summarize` may read; none: they "
        "read nothing. In the environment a JSON list.",
    )


class HandoffSettings(Section):
    """Work that one agent offers and another claims."""

    lease_minutes: float = Field(
        60,
        ge=1,
        le=1440,
        allow_inf_nan=False,
        description="How long a claim holds without a word of its holder; progress renews it.",
    )
    tolerance_seconds: float = Field(
        120,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="How far the clocks of machines may differ; a lease ends this much later.",
    )
    expire_days: float = Field(
        30,
        ge=0,
        le=3650,
        allow_inf_nan=False,
        description="How long an offer can be claimed, unless it says; 0: always.",
    )
    checkpoint_days: float = Field(7, ge=0, le=3650, allow_inf_nan=False, description="The same for checkpoints.")
    checkpoint_trust: TrustLevel = Field(
        "internal",
        description="Trust level of checkpoints where the call names none and the session's log is no higher.",
    )
    patch_bytes: int = Field(
        256 * 1024, ge=0, le=1024 * 1024, description="Largest patch that an offer carries, in bytes; 0: none does."
    )
    remote_seconds: float = Field(
        5,
        ge=0,
        le=60,
        allow_inf_nan=False,
        description="How long listing waits for what the remote has before it says that it is out of reach.",
    )


class Settings(BaseSettings):
    """All settings; every one has a default, so that an empty file is a valid one."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=ENV_PREFIX, env_nested_delimiter="__", env_ignore_empty=True
    )

    memory: MemorySettings = MemorySettings()  # pyright: ignore[reportCallIssue]
    index: IndexSettings = IndexSettings()  # pyright: ignore[reportCallIssue]
    embedder: EmbedderSettings = EmbedderSettings()  # pyright: ignore[reportCallIssue]
    reranker: RerankerSettings = RerankerSettings()  # pyright: ignore[reportCallIssue]
    hub: HubSettings = HubSettings()  # pyright: ignore[reportCallIssue]
    sync: SyncSettings = SyncSettings()  # pyright: ignore[reportCallIssue]
    repos: Repos = Field(
        default_factory=dict,
        description="Further memory repos, by names of your own, each for some projects.",
    )
    secrets: SecretsSettings = SecretsSettings()  # pyright: ignore[reportCallIssue]
    summaries: SummariesSettings = SummariesSettings()  # pyright: ignore[reportCallIssue]
    handoffs: HandoffSettings = HandoffSettings()  # pyright: ignore[reportCallIssue]
    http: HttpSettings = HttpSettings()  # pyright: ignore[reportCallIssue]
    audit: AuditSettings = AuditSettings()  # pyright: ignore[reportCallIssue]
    telemetry: TelemetrySettings = TelemetrySettings()  # pyright: ignore[reportCallIssue]
    oauth: OAuthSettings = OAuthSettings()  # pyright: ignore[reportCallIssue]
    gateway: GatewaySettings = GatewaySettings()  # pyright: ignore[reportCallIssue]
    providers: Providers = Field(default_factory=dict, description="Providers of models, by names of your own.")
    routes: Routes = Field(
        default_factory=dict,
        description="Names for models in the order in which they are tried: `provider/model` each, or a model's name.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment overrules the file, which arrives as init values."""
        return (env_settings, init_settings)


def load_settings(home: Home) -> Settings:
    """The settings of `home`.

    Raises:
        ConfigError: the file cannot be read, or a key or value is wrong; the message names the key's path, where it
            was set and what is allowed.
    """
    content = _read(home.config)
    _check_password(content, home.config)
    _check_keys(content, home.config)
    _check_environment()
    try:
        return Settings(**content)
    except ValidationError as error:
        problem = ConfigError(_explain(error, home.config), hint=_hint(error))
    except ValueError as error:  # an environment value that should be JSON for a nested section
        problem = _not_json(error)
    raise problem  # out here, since the error above has the values in it, and they would go along as its context


def _not_json(error: ValueError) -> ConfigError:
    """Those variables of the section of which one is wrong; their values may be secrets, and are not told."""
    found = re.search(r'field "(\w+)"', str(error))
    section = f"{ENV_PREFIX}{found[1] if found is not None else ''}".upper()
    names = sorted(name for name in os.environ if f"{name.upper()}__".startswith(f"{section}__"))
    return ConfigError(
        f"the environment is not JSON where that is needed: {', '.join(names)}",
        hint='Write a list as `["one", "two"]`, also one that has a single item.',
    )


def _read(path: Path) -> dict[str, Any]:
    import yaml  # noqa: PLC0415 - only where a file is read

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {str(path)!r}: {error}", path=str(path)) from error
    try:
        content: object = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        place = getattr(error, "problem_mark", None)
        line = f", line {place.line + 1}" if place else ""
        raise ConfigError(
            f"{str(path)!r}{line} is not valid YAML: {getattr(error, 'problem', None) or error}", path=str(path)
        ) from None
    if content is None:
        return {}
    mapping = cast(dict[object, object], content) if isinstance(content, dict) else None
    if mapping is None or not all(isinstance(key, str) for key in mapping):
        raise ConfigError(
            f"{str(path)!r} must hold sections ({', '.join(Settings.model_fields)}), with names as keys",
            path=str(path),
        )
    # A section whose keys are all commented out is an empty one.
    return {str(key): value for key, value in mapping.items() if value is not None or key not in Settings.model_fields}


_PASSWORD = re.compile(r"://[^/?#]*:[^/?#@]+@|\b(ssl)?password\s*=", re.IGNORECASE)


def _check_password(content: dict[str, Any], path: Path) -> None:
    """A secret stands in no file: files are copied, shown and kept in backups."""
    section = content.get("index")
    url = cast(dict[str, object], section).get("url") if isinstance(section, dict) else None
    if isinstance(url, str) and _PASSWORD.search(url):
        raise ConfigError(
            f"'index.url' in {str(path)!r} holds a password",
            hint="Take it out there. For PostgreSQL, set ALG_INDEX__URL to the whole URL or put the password into "
            "~/.pgpass; for Qdrant, name the environment variable that holds the key in index.api_key_env.",
            key="index.url",
        )


def _check_keys(content: dict[str, Any], path: Path) -> None:
    """Nor does a provider's key."""
    for section in ("gateway", "providers", "routes"):
        if (key := key_in(content.get(section), section)) is not None:
            raise ConfigError(f"{key!r} in {str(path)!r} would hold a provider's key", hint=HOW_TO_GIVE_A_KEY, key=key)


_NAMED = "<name>"
_BY_NAME = {"repos": RepoSettings, "providers": ProviderSettings, "routes": None}
"""Sections whose keys are names of the user's own, with what is below each."""


def _keys() -> dict[str, FieldInfo]:
    """Every key by its dotted path; `<name>` stands for a name of the user's own."""
    found: dict[str, FieldInfo] = {}
    for section, field in Settings.model_fields.items():
        if section not in _BY_NAME:
            model = cast(type[BaseModel], field.annotation)
            found |= {f"{section}.{key}": info for key, info in model.model_fields.items()}
        elif (below := _BY_NAME[section]) is not None:
            found |= {f"{section}.{_NAMED}.{key}": info for key, info in below.model_fields.items()}
        else:
            found[f"{section}.{_NAMED}"] = field
    return found


def _general(key: str) -> str:
    """A key's path with `<name>` for a name of the user's own."""
    section, *rest = key.split(".")
    return ".".join([section, _NAMED, *rest[1:]]) if section in _BY_NAME and rest else key


def _check_environment() -> None:
    known = {ENV_PREFIX + key.upper().replace(".", "__") for key in _keys()}
    for name in os.environ:
        if name.startswith(ENV_PREFIX) and "__" in name:
            key = name.upper().removeprefix(ENV_PREFIX).lower().replace("__", ".")
            if ENV_PREFIX + _general(key).upper().replace(".", "__") not in known or key.endswith("."):
                section = key.partition(".")[0]
                raise ConfigError(
                    f"the environment variable {name!r} is not a setting",
                    hint=HOW_TO_GIVE_A_KEY
                    if section == "providers" and key_in({key.rpartition(".")[2]: ""}, section)
                    else f"Known ones: {', '.join(sorted(known))}.",
                    key=name,
                )


def _explain(error: ValidationError, path: Path) -> str:
    parts: list[str] = []
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"])
        variable = ENV_PREFIX + "__".join(str(part) for part in problem["loc"]).upper()
        where = f"environment variable {variable}" if os.environ.get(variable) else f"{str(path)!r}"
        if problem["type"] == "extra_forbidden":
            parts.append(f"{key!r} in {where} is not a setting")
        elif problem["type"] == "missing":
            parts.append(f"{key!r} is required in {where}" + (f": {said}" if (said := _allowed(key)) else ""))
        else:
            said = _allowed(key) or problem["msg"].removeprefix("Value error, ")
            # What was put in a provider's entry may be its key, in the wrong place.
            shown = not key.startswith("providers") or isinstance(problem["input"], (bool, int, float))
            parts.append(
                f"{key!r} in {where} is {problem['input']!r}: {said}" if shown else f"{key!r} in {where}: {said}"
            )
    return "; ".join(parts)


def _allowed(key: str) -> str | None:
    info = _keys().get(_general(key))
    if info is None:
        return None
    choices = get_args(info.annotation)
    if choices and all(isinstance(choice, str) for choice in choices):
        return "allowed are " + ", ".join(repr(choice) for choice in choices)
    return None


def _hint(error: ValidationError) -> str:
    sections = {str(problem["loc"][0]) for problem in error.errors(include_url=False)}
    known = [key for key in _keys() if key.split(".")[0] in sections] or list(Settings.model_fields)
    return f"Allowed keys: {', '.join(known)}."
