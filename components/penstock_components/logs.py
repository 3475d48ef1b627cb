"""A running pod's log, followed into the step's own log by a thread.

`follow(pod)` may be called again and again, with the same pod or its successor: each pod is followed once. A stream that breaks
is taken up at the last line's time; a pod that has not started is asked again. Bounded: after `lines` lines only the tail is
kept, so that a program that prints for days fills neither the step's memory nor its log.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import urllib3

from .kube import Kube, Refused

log = logging.getLogger(__name__)

TAIL: Final = 50


class Follower:
    """Follows pods one after another. Threads are daemons: they never keep the step alive."""

    def __init__(self, kube: Kube, lines: int = 20_000, write: Callable[[str], None] = log.info, pause: float = 1.0) -> None:
        self._kube, self._left, self._write, self._pause = kube, lines, write, pause
        self._threads: dict[str, threading.Thread] = {}
        self._ended = threading.Event()
        self._tails: dict[str, deque[str]] = {}

    def follow(self, pod: str) -> None:
        """Follow this pod too, if it is not followed yet."""
        if pod and pod not in self._threads:
            self._tails[pod] = deque(maxlen=TAIL)
            self._threads[pod] = threading.Thread(target=self._run, args=(pod,), name=f"log of {pod}", daemon=True)
            self._threads[pod].start()

    @property
    def newest(self) -> str:
        """The pod followed last; '' if there was none."""
        return next(reversed(self._threads), "")

    def finish(self, seconds: float = 5.0) -> None:
        """Give what is still coming a moment to come, then stop writing."""
        deadline = time.monotonic() + seconds
        for thread in self._threads.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        self._ended.set()

    def tail(self, pod: str) -> list[str]:
        """The pod's last lines, oldest first; read once more if the thread saw none."""
        return list(self._tails.get(pod, ())) or read_tail(self._kube, pod)

    def _run(self, pod: str) -> None:
        last = ""
        while not self._ended.is_set():
            over = self._over(pod)  # asked first: a stream opened after the end holds everything
            resumed = last
            try:
                for line in self._kube.log_lines(pod, follow=True, since=resumed):
                    if self._ended.is_set():
                        return
                    stamp, _, text = line.partition(" ")
                    if stamp > resumed:  # one kubelet, one fixed format: the order of the texts is that of the times
                        last = stamp
                        self._put(pod, text)
                if over:
                    return
            except Refused as error:
                # 404: the pod is gone. 400: its container waits to start, or it has no node yet.
                if error.status == 404 or over:
                    return
            except urllib3.exceptions.HTTPError as error:
                log.debug("log of %s: %s", pod, error)
            self._ended.wait(self._pause)

    def _over(self, pod: str) -> bool:
        try:
            found = self._kube.get("v1", "Pod", pod)
        except (Refused, urllib3.exceptions.HTTPError):
            return False
        return found is None or found.get("status", {}).get("phase") in {"Succeeded", "Failed"}

    def _put(self, pod: str, text: str) -> None:
        self._tails[pod].append(text)
        if self._left > 0:
            self._write(f"{pod} | {text}")
        elif self._left == 0:
            self._write(f"{pod} | (too much output: from here on only its end is kept; kubectl logs {pod} has all of it)")
        self._left -= 1


def read_tail(kube: Kube, pod: str, previous: bool = False, lines: int = TAIL) -> list[str]:
    """The last lines of a pod's log without their times; none if there is no log any more."""
    try:
        return [line.partition(" ")[2] for line in kube.log_lines(pod, tail=lines, previous=previous)]
    except (Refused, urllib3.exceptions.HTTPError):
        return []
