"""The operator's one HTTP server: /healthz, /readyz, /metrics and the progress endpoint.

/healthz fails when a worker has been stuck on one key, or a key has waited, for longer than any healthy reconcile could:
then a restart helps. /readyz fails until the operator's key was read; a standby replica is ready, it only does not lead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiohttp import web

STUCK_SECONDS = 180.0


async def serve(
    host: str,
    port: int,
    *,
    stuck: Callable[[], float],
    ready: Callable[[], bool],
    metrics: Callable[[], bytes],
    routes: Iterable[web.RouteDef],
) -> web.AppRunner:
    """Start serving; the caller cleans the runner up. Port 0 picks a free one."""

    async def healthz(_: web.Request) -> web.Response:
        seconds = stuck()
        if seconds > STUCK_SECONDS:
            return web.Response(status=500, text=f"a reconcile has been stuck for {seconds:.0f} s\n")
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if ready() else web.Response(status=503, text="starting\n")

    async def metricsz(_: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    application = web.Application()
    application.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metricsz), *routes])
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
