"""The server's paths and its life: listen, load and warm up, serve; after SIGTERM drain, finish what is in flight, end.

It listens before the model is loaded, so that liveness can be asked and readiness says no. Bodies are parsed in the event
loop: orjson and numpy hold the interpreter's lock while they read JSON, so another thread would not help; many megabytes of
numbers belong into binary tensors, which are not parsed at all.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from penstock_serving import model as models
from penstock_serving import sagemaker, v1, v2
from penstock_serving.batcher import Batcher, InferenceThread
from penstock_serving.errors import RequestError
from penstock_serving.metrics import Metrics
from penstock_serving.model import Model
from penstock_serving.settings import Settings, usable_cpus
from penstock_serving.tensors import Array

log = logging.getLogger("penstock")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_MIB = 1 << 20


class Server:
    """One model behind one address."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._thread = InferenceThread()
        self._model: Model | None = None
        self._batcher: Batcher | None = None
        self._stopping = False
        self._metrics = Metrics(waiting=lambda: self._batcher.waiting if self._batcher else 0, ready=self._is_ready)
        name = settings.model_name
        self._paths: list[tuple[str, str, Handler]] = [
            ("GET", "/v1/models", self._v1_models),
            ("GET", f"/v1/models/{name}", self._v1_model),
            ("POST", f"/v1/models/{name}:predict", self._v1_predict),
            ("GET", "/v2", self._v2_server),
            ("GET", "/v2/health/live", self._v2_live),
            ("GET", "/v2/health/ready", self._v2_ready),
            ("GET", f"/v2/models/{name}", self._v2_model),
            ("GET", f"/v2/models/{name}/ready", self._v2_model_ready),
            ("POST", f"/v2/models/{name}/infer", self._v2_infer),
            ("GET", "/ping", self._ping),
            ("POST", "/invocations", self._invocations),
            ("GET", "/metrics", self._scrape),
        ]

    def application(self) -> web.Application:
        application = web.Application(client_max_size=int(self.settings.request_max_mib * _MIB), middlewares=[self._account])
        application.add_routes([web.route(method, path, handler) for method, path, handler in self._paths])
        return application

    async def load(self) -> None:
        """Load and warm up the model; ready afterwards.

        Raises:
            ModelError: it cannot be served.
        """
        settings, loop = self.settings, asyncio.get_running_loop()
        loaded: asyncio.Future[Model] = loop.create_future()

        def done(found: Model, error: BaseException | None) -> None:
            if not loaded.done():
                loaded.set_exception(error) if error else loaded.set_result(found)

        threads = settings.threads or usable_cpus()
        options: dict[str, int] = {"warm_up_rows": settings.batch_max_rows, "threads": threads}
        limit = int(settings.model_max_mib * _MIB)
        begun = time.monotonic()
        self._thread.call(lambda: models.load(settings.model_uri, max_bytes=limit, **options), done)
        self._model = model = await loaded
        self._batcher = Batcher(
            model.run,
            self._thread,
            max_rows=settings.batch_max_rows,
            delay_seconds=settings.batch_delay_ms / 1000,
            max_waiting=settings.queue_requests,
            observe=self._metrics.batch,
        )
        # What is there now stays: the collector need not look at torch's 200,000 objects again and again.
        gc.collect()
        gc.freeze()
        shape, seconds = f"{model.input.shape} {model.input.datatype}", time.monotonic() - begun
        log.info(
            "serving %s (sha256 %s), input %s, %d threads, loaded in %.1f s",
            model.source,
            model.sha256,
            shape,
            threads,
            seconds,
        )

    def stop(self) -> None:
        """Not ready from now on; requests are still answered, and their connections closed."""
        self._stopping = True

    @web.middleware
    async def _account(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Deadline, errors as answers, metrics."""
        begun, code = time.perf_counter(), 499
        try:
            response = await self._answered(request, handler)
            code = response.status
        finally:
            # 499: the client closed the connection, as nginx counts it.
            resource = request.match_info.route.resource
            self._metrics.request(resource.canonical if resource else "other", code, time.perf_counter() - begun)
        if self._stopping:
            response.force_close()
        return response

    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        limit = self.settings.request_timeout_seconds
        try:
            async with asyncio.timeout(limit):
                return await handler(request)
        except RequestError as error:
            return _error(error.status, str(error), error.retry_after)
        except TimeoutError:
            return _error(504, f"no answer within {limit:g} s")
        except web.HTTPRequestEntityTooLarge:
            return _error(413, f"the body is larger than {self.settings.request_max_mib:g} MiB")
        except web.HTTPNotFound:
            served = self.settings.model_name
            return _error(404, f"{request.method} {request.path}: no such path; the model served here is {served!r}")
        except web.HTTPException as error:
            return _error(error.status, f"{request.method} {request.path}: {error.reason}")
        except Exception:
            log.exception("%s %s", request.method, request.path)
            return _error(500, "an error of the server; its log says more")

    async def _v1_models(self, _: web.Request) -> web.Response:
        return _json({"models": [self.settings.model_name]})

    async def _v1_model(self, _: web.Request) -> web.Response:
        ready = self._is_ready()
        return _json(v1.metadata(self.settings.model_name, self._model, ready), 200 if ready else 503)

    async def _v1_predict(self, request: web.Request) -> web.Response:
        model, batcher = self._loaded()
        rows = await batcher.submit(v1.read(await request.read(), model.input))
        return web.Response(body=v1.answer(rows), content_type="application/json")

    async def _v2_server(self, _: web.Request) -> web.Response:
        return _json(v2.server_metadata())

    async def _v2_live(self, _: web.Request) -> web.Response:
        stuck = self._batcher.running_seconds() if self._batcher else 0.0
        live = stuck <= self.settings.stuck_seconds
        return _json({"live": live}, 200 if live else 503)

    async def _v2_ready(self, _: web.Request) -> web.Response:
        ready = self._is_ready()
        return _json({"ready": ready}, 200 if ready else 503)

    async def _v2_model(self, _: web.Request) -> web.Response:
        return _json(v2.metadata(self.settings.model_name, self._loaded()[0]))

    async def _v2_model_ready(self, _: web.Request) -> web.Response:
        ready = self._is_ready()
        return _json({"name": self.settings.model_name, "ready": ready}, 200 if ready else 503)

    async def _v2_infer(self, request: web.Request) -> web.Response:
        model, batcher = self._loaded()
        found = v2.read(await request.read(), request.headers.get(v2.LENGTH_HEADER), model.input, model.output)
        rows: Array = await batcher.submit(found.rows)
        body, length = v2.answer(self.settings.model_name, found, rows, model.output)
        if length is None:
            return web.Response(body=body, content_type="application/json")
        return web.Response(body=body, content_type="application/octet-stream", headers={v2.LENGTH_HEADER: str(length)})

    async def _ping(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self._is_ready() else 503)

    async def _invocations(self, request: web.Request) -> web.Response:
        model, batcher = self._loaded()
        given = request.content_type.lower()
        # First, so that nothing is computed for an answer that cannot be given.
        wanted = sagemaker.answer_type(request.headers.get("Accept", ""), given)
        rows = await batcher.submit(sagemaker.read(await request.read(), given, model.input))
        return web.Response(body=sagemaker.answer(rows, wanted), content_type=wanted)

    async def _scrape(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    def _is_ready(self) -> bool:
        return self._model is not None and not self._stopping

    def _loaded(self) -> tuple[Model, Batcher]:
        if self._model is None or self._batcher is None:
            raise RequestError(503, "the model is being loaded; try again", retry_after=2)
        return self._model, self._batcher


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ModelError: the model cannot be served.
        OSError: the address cannot be listened on.
    """
    server, stop, loop = Server(settings), asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    options: dict[str, Any] = {"access_log": None, "handle_signals": False, "handler_cancellation": True}
    runner = web.AppRunner(server.application(), shutdown_timeout=settings.stop_seconds, **options)
    await runner.setup()
    stopped, loaded = asyncio.create_task(stop.wait()), asyncio.create_task(server.load())
    try:
        site = web.TCPSite(runner, settings.listen_host, settings.listen_port)
        await site.start()
        for host, port, *_ in runner.addresses:
            log.info("listening on %s:%d", host, port)
        await asyncio.wait({stopped, loaded}, return_when=asyncio.FIRST_COMPLETED)
        if loaded.done():
            loaded.result()
            await stopped
            log.info("stopping: not ready now, still serving for %g s", settings.drain_seconds)
            server.stop()
            await asyncio.sleep(settings.drain_seconds)
    finally:
        for task in (stopped, loaded):
            task.cancel()
        # Closes the socket, waits for requests in flight, then cancels what is left.
        await runner.cleanup()


def _json(found: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(found), status=status, content_type="application/json")


def _error(status: int, message: str, retry_after: int | None = None) -> web.Response:
    response = _json({"error": message}, status)
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return response
