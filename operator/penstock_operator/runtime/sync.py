"""Keeps the caches true where the watch alone would not: filled before the first decision, swept after every re-listing.

kopf lists again when a watch was cut for too long, and shows what exists, but not what was deleted meanwhile. So whenever
listed objects arrive (events without a type) a list of metadata alone tells what is gone; and now and then, since a list that
is empty shows nothing at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from penstock_operator.kube import ApiError, ApiUnreachable, Kube
from penstock_operator.runtime.queue import Key

log = logging.getLogger("penstock.sync")

PAGE = 500


@dataclass(frozen=True, slots=True)
class Source:
    """One watched kind: how its objects enter the caches, and how those that are gone leave them."""

    kind: str
    see: Callable[[dict[str, Any]], object]
    sweep: Callable[[Set[str], int], Iterable[Key]]
    changed: Callable[[Key], None]
    selector: str = ""


class Sync:
    """Lists of all sources in all watched namespaces."""

    def __init__(
        self, kube: Kube, namespaces: Sequence[str], sources: Sequence[Source], every: float = 60.0, settle: float = 1.0
    ) -> None:
        self._kube, self._namespaces, self._sources = kube, tuple(namespaces) or ("",), tuple(sources)
        self._every, self._settle = every, settle
        self._listed = asyncio.Event()

    async def fill(self) -> None:
        """Show the caches everything that exists. The API server being away is waited out."""
        await _persist(self._fill)

    def listed(self) -> None:
        """The watch has begun anew: what it shows is all there is. Returns at once."""
        self._listed.set()

    async def run(self) -> None:
        """Sweep after each re-listing and every `every` seconds, for ever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._listed.wait()
            while self._listed.is_set():  # thousands of objects are listed: wait for the last of them
                self._listed.clear()
                await asyncio.sleep(self._settle)
            await _persist(self.sweep)

    async def sweep(self) -> None:
        """Drop what is gone from the caches, and have its owners looked at."""
        for source in self._sources:
            alive: set[str] = set()
            versions = []
            async for page in self._pages(source, metadata_only=True):
                alive.update(item["metadata"]["uid"] for item in page["items"] or ())
                versions.append(int(page["metadata"]["resourceVersion"]))
            for key in source.sweep(alive, min(versions)):
                source.changed(key)

    async def _fill(self) -> None:
        for source in self._sources:
            async for page in self._pages(source, metadata_only=False):
                for item in page["items"] or ():
                    source.see(item)

    async def _pages(self, source: Source, *, metadata_only: bool) -> AsyncIterator[dict[str, Any]]:
        for namespace in self._namespaces:
            token = ""
            while True:
                query = f"?limit={PAGE}&labelSelector={quote(source.selector)}&continue={quote(token)}"
                page = await self._kube.list(source.kind, namespace, query, metadata_only=metadata_only)
                yield page
                token = page["metadata"].get("continue") or ""
                if not token:
                    break


async def _persist(work: Callable[[], Awaitable[None]]) -> None:
    """Try until it succeeds; says so once. Also waits for a CRD that comes after the operator."""
    told = False
    while True:
        try:
            return await work()
        except (ApiError, ApiUnreachable) as error:
            if not told:
                log.warning("the cluster cannot be listed (is the CRD installed?): %s; trying again", error)
                told = True
            await asyncio.sleep(1.0)
