"""What each scenario of MCP's conformance suite (`@modelcontextprotocol/conformance`) must come to with our hub.

The suite is made for a server of examples: most of its scenarios call tools, prompts and resources that only that one
has. For each check that does not succeed, the table has why: the fixture that it wants, or the optional part of the
protocol that we do not have. A scenario without such checks passes.
"""

from __future__ import annotations

from collections.abc import Mapping

_TASKS = "the extension io.modelcontextprotocol/tasks, which is optional"
_SUBSCRIBE = "the capability resources.subscribe, which is optional"
_LISTEN = "notices of changes (subscriptions/listen), which are optional"
_COMPLETION = "the capability completions, which is optional"
_LOGGING = "the capability logging, which is optional and deprecated"
_HEADERS = "a tool whose schema has x-mcp-header"
_SCHEMA = "the tool json_schema_2020_12_tool"


def _tool(name: str) -> str:
    return f"the tool {name}"


def _asks(name: str) -> str:
    return f"the tool test_input_required_result_{name}"


_BOTH: dict[str, dict[str, str]] = {
    "completion-complete": {"completion-complete": _COMPLETION},
    "dns-rebinding-protection": {},
    "json-schema-2020-12": {"json-schema-2020-12-tool-found": _SCHEMA},
    "prompts-get-embedded-resource": {"prompts-get-embedded-resource": "the prompt test_prompt_with_embedded_resource"},
    "prompts-get-simple": {"prompts-get-simple": "the prompt test_simple_prompt"},
    "prompts-get-with-args": {"prompts-get-with-args": "the prompt test_prompt_with_arguments"},
    "prompts-get-with-image": {"prompts-get-with-image": "the prompt test_prompt_with_image"},
    "prompts-list": {},
    "resources-list": {},
    "resources-read-binary": {"resources-read-binary": "the resource test://static-binary"},
    "resources-read-text": {"resources-read-text": "the resource test://static-text"},
    "resources-templates-read": {"resources-templates-read": "the resource test://template/{id}/data"},
    "server-sse-multiple-streams": {},
    "tools-call-audio": {"tools-call-audio": _tool("test_audio_content")},
    "tools-call-embedded-resource": {"tools-call-embedded-resource": _tool("test_embedded_resource")},
    "tools-call-error": {},
    "tools-call-image": {"tools-call-image": _tool("test_image_content")},
    "tools-call-mixed-content": {"tools-call-mixed-content": _tool("test_multiple_content_types")},
    "tools-call-simple-text": {},
    "tools-call-with-progress": {"tools-call-with-progress": _tool("test_tool_with_progress")},
    "tools-list": {},
}

_2025_11_25: dict[str, dict[str, str]] = {
    "elicitation-sep1034-defaults": {"elicitation-sep1034-general": _tool("test_elicitation_sep1034_defaults")},
    "elicitation-sep1330-enums": {"elicitation-sep1330-general": _tool("test_elicitation_sep1330_enums")},
    "logging-set-level": {"logging-set-level": _LOGGING},
    "ping": {},
    "resources-subscribe": {"resources-subscribe": _SUBSCRIBE},
    "resources-unsubscribe": {"resources-unsubscribe": _SUBSCRIBE},
    "server-initialize": {},
    "server-session-lifecycle": {},
    "server-sse-polling": {},
    "tools-call-elicitation": {"tools-call-elicitation": _tool("test_elicitation")},
    "tools-call-sampling": {"tools-call-sampling": _tool("test_sampling")},
    "tools-call-with-logging": {"tools-call-with-logging": _LOGGING},
}

_2026_07_28: dict[str, dict[str, str]] = {
    "caching": {"sep-2549-resources-read-caching-hints": "a resource without an argument"},
    "http-custom-header-server-validation": {
        "sep-2243-server-decode-base64": _HEADERS,
        "sep-2243-server-no-xmcp-tool": _HEADERS,
        "sep-2243-server-reject-invalid-param-chars": _HEADERS,
        "sep-2243-server-reject-param-mismatch": _HEADERS,
        "sep-2243-server-validate-param-match": _HEADERS,
    },
    "http-header-validation": {},
    "input-required-result-basic-elicitation": {"sep-2322-elicitation-incomplete": _asks("elicitation")},
    "input-required-result-basic-list-roots": {"sep-2322-list-roots-incomplete": _asks("list_roots")},
    "input-required-result-basic-sampling": {"sep-2322-sampling-incomplete": _asks("sampling")},
    "input-required-result-capability-check": {"sep-2322-respect-client-capabilities": _asks("capabilities")},
    "input-required-result-ignore-extra-params": {},
    "input-required-result-missing-input-response": {"sep-2322-missing-response-rerequests": _asks("elicitation")},
    "input-required-result-multi-round": {"sep-2322-multi-round-r1": _asks("multi_round")},
    "input-required-result-multiple-input-requests": {"sep-2322-multiple-inputs-incomplete": _asks("multiple_inputs")},
    "input-required-result-non-tool-request": {
        "sep-2322-non-tool-incomplete": "the prompt test_input_required_result_prompt"
    },
    "input-required-result-request-state": {"sep-2322-request-state-incomplete": _asks("request_state")},
    "input-required-result-result-type": {"sep-2322-result-type-included": _asks("elicitation")},
    "input-required-result-tampered-state": {"sep-2322-reject-tampered-state": _asks("tampered_state")},
    "input-required-result-unsupported-methods": {},
    "input-required-result-validate-input": {
        "sep-2322-error-on-protocol-error": _asks("elicitation"),
        "sep-2322-validate-input-responses": _asks("elicitation"),
    },
    "sep-2164-resource-not-found": {},
    "server-stateless": {
        "sep-2575-missing-capability-http-400": _tool("test_missing_capability"),
        "sep-2575-server-honors-notification-filter": _LISTEN,
        "sep-2575-server-rejects-undeclared-capability": _tool("test_missing_capability"),
        "sep-2575-server-sends-prompts-list-changed-on-subscription": _LISTEN,
        "sep-2575-server-sends-subscription-ack": _LISTEN,
        "sep-2575-server-sends-tools-list-changed-on-subscription": _LISTEN,
        "sep-2575-server-tags-subscription-id": _LISTEN,
    },
    "tasks-capability-negotiation": dict.fromkeys(
        ("sep-2663-tasks-methods-non-declaring", "tasks-extension-advertised", "tasks-per-request-meta-opt-in"), _TASKS
    ),
    "tasks-dispatch-and-envelope": dict.fromkeys(
        (
            "sep-2663-durable-create-strong-consistency",
            "sep-2663-tasks-get-invalid-task-id-32602",
            "tasks-server-directed-creation-no-hint",
        ),
        _TASKS,
    ),
    "tasks-lifecycle": dict.fromkeys(
        (
            "sep-2663-cancel-ack-empty-result",
            "sep-2663-result-type-task-on-create",
            "sep-2663-tasks-get-status-completed",
            "sep-2663-tasks-get-status-failed",
            "sep-2663-tasks-get-status-working",
            "sep-2663-tool-error-uses-completed-status",
            "tasks-cancel-terminal-idempotent-ack",
        ),
        _TASKS,
    ),
    "tasks-mrtr-composition": {"sep-2663-mrtr-synchronous-before-task-creation": _TASKS},
    "tasks-mrtr-input": dict.fromkeys(
        (
            "sep-2663-tasks-get-status-input-required",
            "tasks-mrtr-partial-fulfillment",
            "tasks-mrtr-tasks-update-resumes",
        ),
        _TASKS,
    ),
    "tasks-request-headers": dict.fromkeys(
        (
            "sep-2663-routing-headers-accepted-on-tasks-get",
            "sep-2663-server-rejects-mismatched-mcp-name-on-tasks-get",
            "tasks-headers-tolerate-mcp-method-on-tools-call",
        ),
        _TASKS,
    ),
    "tasks-request-state-removal": {"tasks-request-state-removal-setup": _TASKS},
    "tasks-required-task-error": {"sep-2663-server-returns-missing-capability-when-required": _TASKS},
    "tasks-status-notifications": {"tasks-status-notifications": _TASKS},
    "tasks-wire-fields": dict.fromkeys(
        (
            "tasks-no-early-ttl-expiry",
            "tasks-no-related-task-meta-on-inlined-result",
            "tasks-wire-field-renames",
        ),
        _TASKS,
    ),
}

EXPECTED: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "2025-11-25": {**_BOTH, **_2025_11_25},
    "2026-07-28": {**_BOTH, **_2026_07_28},
}
"""Version of the specification -> scenario -> check that does not succeed -> what it wants.

Three scenarios pass because our answer to a call of a tool of theirs is a text, too, and say nothing of us:
`input-required-result-ignore-extra-params`, `tools-call-error` and `tools-call-simple-text`.
"""

ANSWERED_AT_ONCE = frozenset({"server-sse-polling"})
"""Scenarios that look at a stream, and end where there is an answer without one, which is allowed."""

NOT_RUN = {
    "sep-2640-skills-directory": "the extension of skills, which is optional",
    "sep-2640-skills-enumeration": "the extension of skills, which is optional",
    "sep-2640-skills-manifest": "the extension of skills, which is optional",
}
"""Scenarios of servers that no version of the specification asks for, and why they are left out."""
