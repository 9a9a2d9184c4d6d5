"""A service that asks a language model, and lives on: a smaller model, then a set text.

    pip install 'resilient-guards[cli]' openai anthropic starlette uvicorn
    export RESILIENT_STORE=sqlite:////tmp/shop.db     # where flags are flipped
    export OPENAI_API_KEY=... ANTHROPIC_API_KEY=...   # OPENAI_BASE_URL and ANTHROPIC_BASE_URL, too
    uvicorn --app-dir examples llm_service:app --port 8000

What to try:

    curl 'localhost:8000/ask?q=red+shoes'
    curl -N 'localhost:8000/stream?q=red+shoes'
    curl -L localhost:8000/metrics | grep llm
    resilient flags off llm --reason "costs explode"  # elsewhere, with the same RESILIENT_STORE
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anthropic
import openai
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Mount, Route

from resilient import (
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    flag,
    health,
    kill_switch,
    metrics,
    retry,
    timeout,
)
from resilient.integrations.asgi import Middleware

IMPACT = "Descriptions are written by a smaller model, or are a standard text."
LLM = flag("llm", owner="team-search", impact=IMPACT)
# max_retries=0: the SDKs would try three times by themselves, and multiply with our retry.
big = openai.AsyncOpenAI(max_retries=0)
small = anthropic.AsyncAnthropic(max_retries=0)


def callers_fault(error: Exception) -> bool:
    """Say whether the request was wrong: asked again, it would be wrong again."""
    status = getattr(error, "status_code", None)
    return status is not None and 400 <= status < 500 and status not in (408, 409, 429)


def passes(error: Exception) -> bool:
    """Say whether another attempt makes sense."""
    kinds = (openai.APIError, anthropic.APIError)
    return isinstance(error, kinds) and not callers_fault(error)


async def standard_text(question: str) -> str:
    return "No description today."


async def standard_words(question: str) -> AsyncIterator[str]:
    yield await standard_text(question)


cheap = Policy(
    "llm-small", fallback(standard_text, ignore=callers_fault),
    circuit_breaker(ignore=callers_fault), bulkhead(20), timeout(10),
    owner="team-search", tier=3, impact="Descriptions are a standard text.",
)  # fmt: skip
llm = Policy(
    "llm", timeout(40), retry(on=passes), circuit_breaker(ignore=callers_fault), bulkhead(20),
    timeout(20), owner="team-search", tier=2, impact=IMPACT,
)  # fmt: skip


@cheap
async def describe_cheaply(question: str) -> str:
    """Ask the smaller model."""
    asked = [{"role": "user", "content": question}]
    answer = await small.messages.create(model="small", max_tokens=200, messages=asked)
    return answer.content[0].text


@llm.with_(kill_switch(LLM, answer=standard_text), fallback(describe_cheaply, ignore=callers_fault))
async def describe(question: str) -> str:
    """Ask the model. The function is guarded, not the client: one question is one call."""
    asked = [{"role": "user", "content": question}]
    answer = await big.chat.completions.create(model="big", messages=asked)
    return answer.choices[0].message.content or ""


@llm.with_(kill_switch(LLM, answer=standard_words), fallback(standard_words, ignore=callers_fault))
async def words(question: str) -> AsyncIterator[str]:
    """Stream: one call with one slot, from the first word to the last."""
    asked = [{"role": "user", "content": question}]
    async with await big.chat.completions.create(model="big", messages=asked, stream=True) as said:
        async for piece in said:
            yield piece.choices[0].delta.content or ""


async def ask(request: Request) -> JSONResponse:
    return JSONResponse({"answer": await describe(request.query_params["q"])})


async def stream(request: Request) -> StreamingResponse:
    return StreamingResponse(words(request.query_params["q"]), media_type="text/plain")


async def wrong(request: Request, error: Exception) -> JSONResponse:
    """Answer where the model found the request wrong: no outage, so no fallback."""
    return JSONResponse({"error": str(error)}, status_code=400)


app = Starlette(
    routes=[
        Route("/ask", ask), Route("/stream", stream),
        Mount("/metrics", metrics.asgi_app()), Mount("/ready", health.asgi_app()),
    ],
    exception_handlers={openai.APIStatusError: wrong, anthropic.APIStatusError: wrong},
)  # fmt: skip
app.add_middleware(Middleware, at_most=60.0, at_least=0.05)  # deadlines; 503 and 504
