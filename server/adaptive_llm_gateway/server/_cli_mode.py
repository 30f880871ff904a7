"""`alg mode`: what the hub may connect to, and the proof that offline mode holds."""

from __future__ import annotations

from adaptive_llm_gateway.core import Home
from adaptive_llm_gateway.server import _cli_hub
from adaptive_llm_gateway.server._cli_output import HubRefused, Json, Paint, harmless
from adaptive_llm_gateway.server._mode import checked_mode, read_mode, write_mode

_MEANS = {
    "normal": "models are called where the policy and the consents allow it",
    "local": "only models on this machine are called",
    "offline": "the hub connects to nothing but this machine",
}


def look(root: str) -> Json:
    """The mode, and of offline mode the proof by the hub, if one runs; starts nothing."""
    if _cli_hub.status(root)["running"]:
        with _cli_hub.open_hub(root, start=False) as hub:
            return {"running": True, **hub.call("mode")}
    mode, problem = read_mode(Home(root).mode)
    return {"running": False, "mode": mode, "problem": problem, "proved": None, "proof": None, "cut": []}


def change(root: str, mode: str) -> Json:
    """Change the mode of the home. Offline mode needs a hub for its proof, which is started in that mode if need be.

    Raises:
        InvalidInput: there is no such mode.
        StorageError: it cannot be kept.
        HubRefused: it is kept, but there is no hub that could prove it.
    """
    wanted = checked_mode(mode)
    if not _cli_hub.status(root)["running"]:
        write_mode(Home(root).mode, wanted)  # first: a hub that starts must not connect before it knows
        if wanted != "offline" and not _cli_hub.status(root)["running"]:
            return look(root)
    try:
        with _cli_hub.open_hub(root) as hub:
            return {"running": True, **hub.call("set_mode", mode=wanted)}
    except HubRefused as refused:
        if refused.error["code"] == "storage":
            raise
        raise HubRefused({**refused.error, "message": f"the mode {wanted!r} is not proved: {refused}"}) from None


def as_text(found: Json, paint: Paint) -> str:
    """The mode for people; of offline mode, each attempt to leave on a line."""
    mode: str = found["mode"]
    lines = [f"{paint(mode, 'bold')}: {_MEANS[mode]}"]
    if not found["running"]:
        lines.append("No hub is running; the next one starts in this mode.")
    if found["cut"]:
        lines.append(f"Cut: {', '.join(found['cut'])}")
    for tried in found["proof"] or ():
        mark = paint("blocked", "green") if tried["blocked"] else paint("LET OUT", "red")
        lines.append(f"  {mark}  {tried['what']}: {harmless(tried['how'])}")
    return "\n".join(lines)
