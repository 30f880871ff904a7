"""Credentials in files and variables that configure the hub, and in what a provider quotes: told by nobody."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from canary_made import FORMATS, Planter, every_byte

WRONG = {
    "a value": "hub: {{log_level: '{}'}}\n",
    "a number": "hub: {{idle_minutes: '{}'}}\n",
    "a section": "'{}': {{x: 1}}\n",
    "a key": "hub: {{'{}': 1}}\n",
    "a section's value": "hub: '{}'\n",
    "a provider's name": "providers: {{'{}': {{kind: built_in}}}}\n",
    "a provider's kind": "providers: {{x: {{kind: '{}'}}}}\n",
    "a provider's address": "providers: {{x: {{kind: openai_compatible, url: '{}'}}}}\n",
    "a provider's key": "providers: {{x: {{kind: openai_compatible, url: 'http://127.0.0.1:9', key: '{}'}}}}\n",
    "the name of a key's variable": "providers: {{x: {{kind: openai_compatible, key_env: '{}'}}}}\n",
    "the embedder's key": "embedder: {{kind: http, url: 'http://127.0.0.1:9', api_key: '{}'}}\n",
    "the embedder's address": "embedder: {{kind: http, url: 'http://x:{}@127.0.0.1:9', model: m}}\n",
    "the remote": "sync: {{remote: '{}'}}\n",
    "the remote's password": "sync: {{remote: 'https://x:{}@127.0.0.1:9/a.git'}}\n",
    "no YAML": "hub: [{}\n",
}
"""What may be wrong in a configuration, `{{}}` standing for the credential."""


def test_no_credential_in_a_configuration_is_told_or_stored_elsewhere(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    planter = Planter()
    said: list[tuple[str, bytes]] = []
    for way, text in WRONG.items():
        server.configure(text.format(planter.plant(way)))
        for words in (("doctor",), *([("memory", "status")] if way.startswith(("a value", "the remote")) else [])):
            done = server.alg(*words, check=False)
            assert words != ("doctor",) or "  config " in done.stdout, done.stderr
            said.append((f"{' '.join(words)} with {way}", (done.stdout + done.stderr).encode()))
        if server.hub_pid() is not None:
            server.kill_hub()  # it reads its configuration as it starts
    own = {
        str(server.home / "config.yaml"),  # the person's own file
        str(server.repo / ".git" / "config"),  # where git has the remote that the person names
    }
    places = [*said, *every_byte(server.home, tmp_path / "tmp", tmp_path / "user")]
    told = planter.sweep(places, but=lambda where, _: where in own)
    assert not told, "\n".join(told)


def test_no_credential_in_a_variable_or_a_policy_is_told(server: Any, tmp_path: Path) -> None:
    planter = Planter()
    said: list[tuple[str, bytes]] = []
    for variable in ("ALG_HUB__LOG_LEVEL", "ALG_HUB__IDLE_MINUTES", "ALG_SYNC__TRUST"):
        environment = {**os.environ, variable: planter.plant(variable)}
        done = server.alg("doctor", check=False, env=environment)
        said.append((f"doctor with {variable}", (done.stdout + done.stderr).encode()))
    policy = server.home / "policy.yaml"
    server.home.mkdir(exist_ok=True)
    for text in ("'{}': 1\n", "version: '{}'\n", "rules: [{{'{}': 1}}]\n", "rules: ['{}']\n", "[{}\n"):
        policy.write_text(text.format(planter.plant(f"a policy: {text}")), encoding="utf-8")
        for words in (("policy", "show"), ("policy", "test", str(policy))):
            done = server.alg(*words, check=False)
            said.append((f"{' '.join(words[:2])} with {text}", (done.stdout + done.stderr).encode()))
    done = server.alg("complete", "x", check=False)  # a hub with a policy that is none
    said.append(("complete", (done.stdout + done.stderr).encode()))
    told = planter.sweep([*said, *every_byte(server.home)], but=lambda where, _: where == str(policy))
    assert not told, "\n".join(told)


def test_what_a_provider_quotes_of_a_prompt_is_kept_and_told_without_credentials(
    server: Any, tmp_path: Path, serve: Callable[..., Any]
) -> None:
    class Quoting(BaseHTTPRequestHandler):
        """Refuses every prompt and repeats it."""

        def do_POST(self) -> None:
            prompt = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))))["messages"][-1][
                "content"
            ]
            error = {"error": {"message": f"cannot read {prompt}", "type": prompt, "code": prompt}}
            data = json.dumps(error).encode()
            self.send_response(400)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep quiet."""

    url = f"http://127.0.0.1:{serve(Quoting).server_port}/v1"
    models = "models: [{name: m, chat: true, stream: true}]"
    server.configure(
        "hub: {log_level: debug}\ngateway: {discover: false}\n"
        f"providers: {{p: {{kind: openai_compatible, url: '{url}', {models}}}}}\n"
    )
    client = server.client()
    planter = Planter()
    said: list[tuple[str, bytes]] = []
    for form in FORMATS:
        prompt = f"What is this?\n\n{planter.plant('a prompt', form)}\n"
        answer = client.answer(client.start_call("gateway_complete", prompt=prompt, model="p/m"))["result"]
        assert answer["isError"], answer
        said.append(("the error", json.dumps(answer).encode()))
    for extra in ([], ["--json"], ["--no-stream"]):
        secret = planter.plant("a prompt of the command line")
        done = server.alg("complete", "--model", "p/m", *extra, f"Is {secret} a key?", check=False)
        assert done.returncode
        said.append((f"alg complete {extra}", (done.stdout + done.stderr).encode()))
    server.alg("hub", "stop")
    told = planter.sweep([*said, *every_byte(server.home)])
    assert not told, "\n".join(told)
