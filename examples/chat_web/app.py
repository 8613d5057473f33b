"""A chat page: answers stream to the browser, *Stop* aborts them upstream, and a page that is reloaded in the middle of
an answer goes on where it was.

    pip install starlette uvicorn
    uvicorn --app-dir examples/chat_web app:app            # the sandbox, which repeats what it is told
    PI_AI_MODEL=openrouter/auto uvicorn --app-dir examples/chat_web app:app

An answer belongs to the server, not to the request that asked for it: it runs in the application's task group, and each
page that looks at it is one reader of its ``FanOut``.
"""

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pi_ai import Context, FanOut, Registry
from pi_ai.bridges import UIMessageResponse, context_from_ui_messages
from pi_ai.testing import Delivery, Sandbox, Turn

KEPT_S = 60.0  # how long a finished answer can still be looked at


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        name = os.environ.get("PI_AI_MODEL", "")
        if name:
            pi = await stack.enter_async_context(Registry())
            app.state.model = pi.get_model(name)
        else:
            box = await stack.enter_async_context(Sandbox())
            box.script(Turn("Here is a long story. " * 40), delivery=Delivery(tokens_per_second=20))
            pi = await stack.enter_async_context(Registry())
            app.state.model = box.model("anthropic-messages")
        app.state.pi = pi
        app.state.answers = {}
        app.state.tasks = await stack.enter_async_context(anyio.create_task_group())
        yield
        app.state.tasks.cancel_scope.cancel()


async def ask(request: Request) -> Response:
    """Begin an answer; its id is where to look at it."""
    try:
        context = context_from_ui_messages(await request.json(), system_prompt="Be helpful.")
    except ValueError as error:  # its text names the place
        return JSONResponse({"error": str(error)}, status_code=400)
    state, answer = request.app.state, uuid.uuid4().hex
    await state.tasks.start(run, state, answer, context)
    return JSONResponse({"answer": answer})


async def run(state: object, name: str, context: Context, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    async with FanOut(state.pi.stream(state.model, context)) as answer:
        state.answers[name] = answer
        task_status.started()
        await answer.result()
    await anyio.sleep(KEPT_S)
    del state.answers[name]


async def look(request: Request) -> ASGIApp:
    """The events of an answer, from its beginning or after ``Last-Event-ID``."""
    answer = request.app.state.answers.get(request.path_params["answer"])
    return Response(status_code=404) if answer is None else UIMessageResponse(answer)


async def stop(request: Request) -> Response:
    answer = request.app.state.answers.get(request.path_params["answer"])
    if answer is not None:
        answer.abort()
    return Response(status_code=204)


async def page(_: Request) -> Response:
    return FileResponse(Path(__file__).with_name("page.html"))


app = Starlette(
    routes=[
        Route("/", page),
        Route("/answers", ask, methods=["POST"]),
        Route("/answers/{answer}", look),
        Route("/answers/{answer}/stop", stop, methods=["POST"]),
    ],
    lifespan=lifespan,
)
