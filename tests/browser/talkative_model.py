"""What the providers behind the web page answer: each wish is told by the last message."""

from __future__ import annotations

import json

from scripted_upstream import HANG, Asked, Reply, Script, called, chunk, document, said, stream, usage
from visit import HOSTILE as HOSTILE_NAME

HOSTILE = (
    "<script>window.harmed = 1</script><img src=x onerror='window.harmed = 1'>"
    "[click](javascript:window.harmed=1) <svg onload=window.harmed=1> ![look](http://evil.example/x.png)\n\n"
    "```html\n<iframe src='http://evil.example'></iframe>\n```\n\n"
    "<style>body { display: none }</style><a href='http://evil.example' style='position:fixed;inset:0'>all</a>"
)
"""An answer that would take over a page that trusts it."""
LONG = " ".join(f"word{number}" for number in range(400))


def at(name: str) -> Script:
    """The script of the provider of that name."""
    return lambda asked: _answer(name, asked)


def _answer(name: str, asked: Asked) -> Reply:
    if not asked.raw:
        return document({"object": "list", "data": []})
    body = asked.body
    last = body["messages"][-1]
    wish = str(last["content"])
    if last["role"] == "tool":
        return said(f"The tool said {wish}.")
    if "who are you" in wish:
        return said(f"I am talkative, and {name} at that.")
    if "refuse" in wish:
        return document({"error": {"message": f"I refuse. {HOSTILE_NAME}"}}, status=400)
    if "hostile tool" in wish:
        return called((HOSTILE_NAME, {"city": "Paris"}))
    if "hostile arguments" in wish:
        return called(("get_weather", {"city": HOSTILE_NAME}))
    if "weather" in wish and body.get("tools"):
        return called(("get_weather", {"city": "Paris"}))
    if "json" in wish and body.get("response_format"):
        return said(json.dumps({"name": "Ada", "age": 36}))
    if "hostile" in wish:
        return said(HOSTILE)
    if "long" in wish:
        return stream(
            chunk(role="assistant"),
            *(chunk(content=f"{word} ") for word in LONG.split()),
            chunk(finish="stop"),
            usage(),
        )
    if "table" in wish:
        return said("# Roads\n\n| road | km |\n|---|---|\n| **Via Appia** | 650 |\n\n```python\nprint('Rome')\n```\n")
    if "endless" in wish:
        return Reply([*stream(chunk(role="assistant"), chunk(content="It begins"), done=False).parts, HANG])
    return said(f"You said: {wish}")
