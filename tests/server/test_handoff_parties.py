"""Whose a handoff is, with a real hub: who has a token is whom the token says, whatever programs call themselves."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import HandoffSettings, NotHolder
from adaptive_llm_gateway.memory import Author
from adaptive_llm_gateway.memory.testing import temporary_store
from adaptive_llm_gateway.server._access import acting_for
from adaptive_llm_gateway.server._authentication import Admitted
from adaptive_llm_gateway.server._handoff_operations import HandoffOperations
from adaptive_llm_gateway.server._operations import Operations

JSON = {"Content-Type": "application/json"}


def _token(server: Any, name: str) -> str:
    return server.json("clients", "add", name, "--scope", "handoff,memory:read")["token"]


def _post(web: Any, token: str, path: str, **given: Any) -> Any:
    return web.request("POST", f"/api/v1/handoffs{path}", json.dumps(given).encode(), token=token, headers=JSON)


def test_a_program_on_the_machine_and_a_tokens_client_of_its_name_end_nothing_of_each_other(server: Any) -> None:
    web = server.web()
    token = _token(server, "ci")
    local = server.client("ci")
    first, second = (
        local.call("handoff_create", objective=f"Mend {what}", next_action="Begin").split(" id ", 1)[1][:26]
        for what in ("this", "that")
    )
    claimed = _post(web, token, f"/{first}/claim")
    assert claimed.status == 200, claimed.body
    assert "does not hold handoff" in local.refused("handoff_complete", id=first, result="Mine?")
    assert "does not hold handoff" in local.refused("handoff_release", id=first)
    assert "is taken" in local.refused("handoff_claim", id=first, anyway=True)
    local.call("handoff_claim", id=second)
    for what, given in (("complete", {"result": "Mine?"}), ("release", {}), ("update", {"text": "Mine?"})):
        refused = _post(web, token, f"/{second}/{what}", **given)
        assert (refused.status, refused.json()["code"]) == (409, "not_holder"), refused.body
    withdrawn = _post(web, token, f"/{second}/release", outcome="withdrawn")
    assert withdrawn.status == 409, withdrawn.body
    assert _post(web, token, f"/{first}/complete", result="Done").status == 200
    local.call("handoff_complete", id=second, result="Done")


def test_who_gets_the_name_of_a_client_that_was_revoked_gets_nothing_that_it_held(server: Any) -> None:
    web = server.web()
    before = _token(server, "ci")
    id_ = server.client("claude").call("handoff_create", objective="Mend it", next_action="Begin")
    id_ = id_.split(" id ", 1)[1][:26]
    assert _post(web, before, f"/{id_}/claim").status == 200
    server.alg("clients", "revoke", "ci")
    after = _token(server, "ci")
    refused = _post(web, after, f"/{id_}/complete", result="Mine?")
    assert (refused.status, refused.json()["code"]) == (409, "not_holder"), refused.body
    assert "another client with a token" in refused.json()["detail"]
    assert _post(web, after, f"/{id_}/claim", anyway=True).json()["code"] == "handoff_taken"


def test_a_new_token_of_a_client_goes_on_with_what_it_holds(server: Any) -> None:
    web = server.web()
    before = _token(server, "ci")
    id_ = server.client("claude").call("handoff_create", objective="Mend it", next_action="Begin")
    id_ = id_.split(" id ", 1)[1][:26]
    assert _post(web, before, f"/{id_}/claim").status == 200
    after = server.json("clients", "rotate", "ci")["token"]
    assert _post(web, after, f"/{id_}/complete", result="Done").status == 200


def test_an_issuers_clients_of_long_names_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    long = "https://login.example.org/" + "a" * 300
    one, other = (Admitted(client="ci@login.example.org", identity=f"{long} {name}") for name in ("one", "other"))

    async def work() -> None:
        with temporary_store(tmp_path / "store") as store:
            memory = Operations(lambda: store, commit_wait=30.0)
            handoffs = HandoffOperations(memory, HandoffSettings.model_validate({}), is_connected=lambda _: False)
            author = Author("ci@login.example.org")
            id_ = (await handoffs.create("Mend it", author=author, next_action="Begin"))["id"]
            with acting_for(one):
                await handoffs.claim(id_, author=author)
            with acting_for(other), pytest.raises(NotHolder):
                await handoffs.complete(id_, author=author)
            with acting_for(one):
                assert (await handoffs.complete(id_, author=author))["state"] == "done"
            handoffs.close()

    asyncio.run(work())
