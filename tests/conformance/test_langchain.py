"""LangChain's own tests of chat models: against a scripted server that knows tools, and one that knows nothing."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import httpx
import openai
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests
from live_server import MODEL, LiveServer
from remote_server import NATIVE, PNG, WORDY, RemoteServer

# What other people's libraries leave open or will change is theirs.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings"),
    pytest.mark.filterwarnings("ignore:Received a Pydantic BaseModel V1 schema"),
]
NOT_OURS = {
    "test_pdf_inputs": "documents other than text are not read",
    "test_pdf_tool_message": "documents other than text are not read",
    "test_audio_inputs": "sound is not heard",
    "test_anthropic_inputs": "the protocol is OpenAI's",
    "test_stream_time": "it plays a recording, which would take the place of the server",
}


class Suite(ChatModelIntegrationTests):
    """What all runs of the suite have in common."""

    left_out: ClassVar[dict[str, str]] = NOT_OURS
    server: LiveServer
    model_id: ClassVar[str]

    @pytest.fixture(autouse=True)
    async def _serve(self, remote_server: RemoteServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
        """LangChain keeps its own clients, which outlive the event loop of a test."""
        self.server = remote_server.server
        # The suite fetches its pictures from the internet.
        monkeypatch.setattr(httpx, "get", lambda *_, **__: httpx.Response(200, content=PNG))
        with openai.DefaultHttpxClient(verify=False) as client:
            async with openai.DefaultAsyncHttpxClient(verify=False) as async_client:
                self.clients = {"http_client": client, "http_async_client": async_client}
                yield

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        address = {"base_url": f"{self.server.url}/v1", "api_key": self.server.key}
        return {"model": self.model_id, "max_retries": 0, "stream_usage": True, **address, **self.clients}

    @property
    def model_override_value(self) -> str:
        return "acme/native-2"

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        return True


class TestNative(Suite):
    """The server knows tools and schemas itself."""

    model_id = NATIVE


@pytest.mark.full
class TestNativeByCalls(Suite):
    """Structured output by way of a tool that must be called."""

    model_id = NATIVE

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": "function_calling"}


class TestInWords(Suite):
    """The server only chats: tools and schemas go to it in words."""

    model_id = WORDY


@pytest.mark.full
class TestInWordsByCalls(Suite):
    model_id = WORDY

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": "function_calling"}


def test_what_is_left_out_is_listed(repository: Path) -> None:
    listed = (repository / "docs" / "conformance.md").read_text()
    for name, reason in TestStarterModel.left_out.items():
        assert f"| `{name}` | " in listed
        assert reason in listed


def test_pictures_came_through(remote_server: RemoteServer) -> None:
    """Whatever the suite made of them."""
    assert base64.b64encode(PNG) in b"".join(asked.raw for asked in remote_server.upstream.asked)


class TestStarterModel(Suite):
    """The starter model: what constrained decoding guarantees, whatever a small model would rather say."""

    model_id = MODEL
    left_out = NOT_OURS | {
        "test_image_inputs": "the model reads text only",
        "test_image_tool_message": "the model reads text only",
        "test_tool_calling": "which number it passes to a tool is the model's choice",
        "test_tool_calling_async": "which number it passes to a tool is the model's choice",
        "test_unicode_tool_call_integration": "which name it passes to a tool, and how long, is the model's choice",
        "test_agent_loop": "whether it calls a tool that it need not call is the model's choice",
        "test_json_mode": "which keys the object has is the model's choice",
    }

    @pytest.fixture(autouse=True)
    def _serve_locally(self, live_server: LiveServer) -> None:
        self.server = live_server

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """The same answer every time. Left alone the little model repeats its words, and its calls, for as long as it
        may."""
        steady = {"temperature": 0, "frequency_penalty": 1, "max_tokens": 512}
        return {**super().chat_model_params, **steady, "model_kwargs": {"parallel_tool_calls": False}}

    @property
    def model_override_value(self) -> str:
        """An alias."""
        return MODEL.rpartition("/")[2]
