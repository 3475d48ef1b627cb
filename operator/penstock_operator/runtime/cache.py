"""What the watch has shown of one kind: a slim view of each object, by key.

kopf's own indexes are not used. Filling them costs time quadratic in the number of objects (each one wakes all that wait for
the rest: 73 s at 1,500 jobs with two pods each), and they keep what was deleted while the watch was away: a worker that is no
more would count as Ready for ever. So this cache is filled by one list before the watch begins, kept by its events, and swept
by another list after each re-listing (sync.py).
"""

from __future__ import annotations

from collections.abc import Set
from typing import Generic, TypeVar

from penstock_operator.runtime.queue import Key

View = TypeVar("View")


class Cache(Generic[View]):
    """Views by key and uid: several pods share the key of their job. The newest resourceVersion wins."""

    def __init__(self) -> None:
        self._entries: dict[Key, dict[str, tuple[int, View]]] = {}

    def see(self, key: Key, uid: str, version: int, view: View) -> None:
        """The object exists. An older version than the known one changes nothing."""
        entries = self._entries.setdefault(key, {})
        if uid not in entries or entries[uid][0] <= version:
            entries[uid] = (version, view)

    def replace(self, key: Key, uid: str, view: View) -> None:
        """Another view of a known object, until the watch shows it anew."""
        entries = self._entries.get(key, {})
        if uid in entries:
            entries[uid] = (entries[uid][0], view)

    def drop(self, key: Key, uid: str) -> None:
        """The object is gone."""
        entries = self._entries.get(key)
        if entries is not None and entries.pop(uid, None) is not None and not entries:
            del self._entries[key]

    def take(self, key: Key, uid: str, version: int) -> bool:
        """Drop the object; True when it was known at exactly this version."""
        known = self._entries.get(key, {}).get(uid)
        self.drop(key, uid)
        return known is not None and known[0] == version

    def clear(self, key: Key) -> None:
        """Drop all of a key."""
        self._entries.pop(key, None)

    def get(self, key: Key) -> list[View]:
        return [view for _, view in self._entries.get(key, {}).values()]

    def known(self) -> list[Key]:
        return list(self._entries)

    def sweep(self, alive: Set[str], version: int) -> list[Key]:
        """Drop what a list at `version` no longer held; what has changed since then is newer than the list and stays.
        Returns the keys that lost something."""
        gone = [
            (key, uid)
            for key, entries in self._entries.items()
            for uid, (seen, _) in entries.items()
            if uid not in alive and seen <= version
        ]
        for key, uid in gone:
            self.drop(key, uid)
        return list(dict.fromkeys(key for key, _ in gone))
