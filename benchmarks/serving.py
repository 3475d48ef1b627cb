"""Penstock's model server against kserve's own: the same exported model, the same requests, the same two cores.

Run with the serving environment's Python; `--kserve-python` is that of an environment with `kserve==0.21.0` and the same
torch. A small convolutional network is exported once. Both servers run side by side, bound to loopback, and take turns being
asked by 8 connections of one client, so that whatever else the machine does meets both. The figures are medians over the
rounds of the ratios Penstock / kserve. Kept in benchmarks/results/serving.json; the rounds are told on standard error.

kserve's side is its ModelServer with a Model of a dozen lines, as its documentation shows; its access and latency logs and
gRPC are off, since Penstock has none. Both answers are compared before anything is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "serving.json"
CONNECTIONS = 8
V1 = "/v1/models/digits:predict"
V2 = "/v2/models/digits/infer"


def export(folder: Path) -> None:
    """A network for 1 x 8 x 8 images and 10 classes, about the trainer's example, as model.pt2."""
    import torch  # type: ignore[import-not-found,unused-ignore]
    from torch import nn  # type: ignore[import-not-found,unused-ignore]

    torch.manual_seed(7)
    layers = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, 128), nn.ReLU(), nn.Linear(128, 10)).eval()
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(model, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=shapes)
    shape = {"name": "image", "shape": [-1, 1, 8, 8], "dtype": "float32"}
    information = {"name": "digits", "classes": [str(digit) for digit in range(10)], "input": shape}
    torch.export.save(program, folder / "model.pt2", extra_files={"penstock.json": json.dumps(information)})


def serve_kserve(path: str, port: int) -> None:
    """kserve's server, in its own environment; it has no option for the address, so uvicorn's is set."""
    import kserve  # type: ignore[import-not-found,unused-ignore]
    import torch  # type: ignore[import-not-found,unused-ignore]
    import uvicorn  # type: ignore[import-not-found,unused-ignore]
    from kserve.utils.utils import get_predict_input, get_predict_response  # type: ignore[import-not-found,unused-ignore]

    torch.set_num_threads(1)

    class Digits(kserve.Model):  # type: ignore[misc]  # untyped
        def load(self) -> bool:
            self.module = torch.export.load(path).module()
            self.ready = True
            return True

        def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
            rows = torch.as_tensor(get_predict_input(payload), dtype=torch.float32)
            with torch.inference_mode():
                return get_predict_response(payload, self.module(rows).numpy(), self.name)

    original = uvicorn.Config.__init__

    def on_loopback(self: Any, *args: Any, **options: Any) -> None:
        original(self, *args, **{**options, "host": "127.0.0.1", "access_log": False})

    uvicorn.Config.__init__ = on_loopback
    model = Digits("digits")
    model.load()
    kserve.ModelServer(http_port=port, enable_grpc=False, enable_latency_logging=False).start([model])


@contextmanager
def running(command: list[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 90
        while not _is_ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command} does not serve (exit code {process.poll()})")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/digits/ready", timeout=5) as answer:
            return bool(json.load(answer)["ready"])
    except (OSError, ValueError):
        return False


class Connection(asyncio.Protocol):
    """Sends the same request again as soon as it is answered; a few lines, so that the client costs the servers little."""

    def __init__(self, request: bytes, until: float, finished: asyncio.Future[list[float]]) -> None:
        self._request, self._until, self._finished = request, until, finished
        self._seconds: list[float] = []
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._send()

    def _send(self) -> None:
        self._begun = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"answered {self._buffer[:300]!r}")
        now = time.perf_counter()
        self._seconds.append(now - self._begun)
        self._buffer = b""
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._finished.done():
            self._finished.set_result(self._seconds)


async def load(port: int, path: str, body: bytes, seconds: float) -> tuple[float, float]:
    """Requests per second, and the median latency in milliseconds."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    loop = asyncio.get_running_loop()
    begun = time.perf_counter()
    waiting = []
    for _ in range(CONNECTIONS):
        finished: asyncio.Future[list[float]] = loop.create_future()
        await loop.create_connection(lambda f=finished: Connection(head.encode() + body, begun + seconds, f), "127.0.0.1", port)  # type: ignore[misc]
        waiting.append(finished)
    latencies = [each for found in await asyncio.gather(*waiting) for each in found]
    return len(latencies) / (time.perf_counter() - begun), statistics.median(latencies) * 1000


def ask(port: int, path: str, body: bytes) -> list[float]:
    """The ten numbers of one answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        found = json.load(answer)
    numbers: list[float] = found["predictions"][0] if "predictions" in found else found["outputs"][0]["data"]
    return numbers


async def compare(ports: dict[str, int], path: str, body: bytes, rounds: int, seconds: float) -> tuple[float, float]:
    """Penstock / kserve: requests per second, and median latency."""
    first, second = (ask(port, path, body) for port in ports.values())
    if len(first) != 10 or any(abs(a - b) > 1e-4 for a, b in zip(first, second, strict=True)):
        raise RuntimeError(f"{path}: the servers do not agree: {first} and {second}")
    for port in ports.values():
        await load(port, path, body, 0.5)
    rates, latencies = [], []
    for number in range(rounds):
        # Who comes first changes, in case the machine's state does within a round.
        order = list(ports) if number % 2 == 0 else list(ports)[::-1]
        found = {name: await load(ports[name], path, body, seconds) for name in order}
        rates.append(found["penstock"][0] / found["kserve"][0])
        latencies.append(found["penstock"][1] / found["kserve"][1])
        told = ", ".join(f"{name} {rate:.0f} requests/s, p50 {p50:.2f} ms" for name, (rate, p50) in sorted(found.items()))
        print(f"{path} round {number + 1}: {told}", file=sys.stderr, flush=True)
    return statistics.median(rates), statistics.median(latencies)


def figure(name: str, value: float, unit: str, bound: float, *, at_least: bool) -> dict[str, Any]:
    """One line of the table; printed as it is known."""
    ok = value >= bound if at_least else value <= bound
    line = {"name": name, "value": round(value, 3), "unit": unit, "bound": bound, "ok": ok}
    print(json.dumps(line), flush=True)
    return line


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def measure(kserve_python: str, rounds: int, seconds: float) -> list[dict[str, Any]]:
    pixels = [round((number * 37 % 17) / 16, 4) for number in range(64)]
    row = [[pixels[begin : begin + 8] for begin in range(0, 64, 8)]]
    v1 = json.dumps({"instances": [row]}).encode()
    v2 = json.dumps({"inputs": [{"name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": pixels}]}).encode()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        export(Path(folder))
        ports = dict(zip(("penstock", "kserve"), free_ports(2), strict=True))
        settings = {"MODEL_URI": f"{folder}/model.pt2", "MODEL_NAME": "digits", "PENSTOCK_LISTEN_HOST": "127.0.0.1"}
        settings |= {"PENSTOCK_LISTEN_PORT": str(ports["penstock"]), "PENSTOCK_THREADS": "1", "PENSTOCK_DRAIN_SECONDS": "0"}
        stack.enter_context(running([sys.executable, "-m", "penstock_serving"], ports["penstock"], settings))
        other = [kserve_python, __file__, "--serve-kserve", f"{folder}/model.pt2", str(ports["kserve"])]
        stack.enter_context(running(other, ports["kserve"], {}))
        first = asyncio.run(compare(ports, V1, v1, rounds, seconds))
        second = asyncio.run(compare(ports, V2, v2, rounds, seconds))
    return [
        figure("serving_rps_ratio", first[0], "x kserve, v1", 2, at_least=True),
        figure("serving_p50_ratio", first[1], "x kserve, v1", 0.5, at_least=False),
        figure("serving_v2_rps_ratio", second[0], "x kserve, v2", 2, at_least=True),
        figure("serving_v2_p50_ratio", second[1], "x kserve, v2", 0.5, at_least=False),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kserve-python", default=".venv-kserve/bin/python", help="default .venv-kserve/bin/python")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each protocol (default 5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of each server in a round (default 3)")
    parser.add_argument("--serve-kserve", nargs=2, metavar=("MODEL", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_kserve:
        serve_kserve(options.serve_kserve[0], int(options.serve_kserve[1]))
        return
    table = measure(options.kserve_python, options.rounds, options.seconds)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("".join(json.dumps(line) + "\n" for line in table))
    if not all(line["ok"] for line in table):
        sys.exit("a figure misses its bound")


if __name__ == "__main__":
    main()
