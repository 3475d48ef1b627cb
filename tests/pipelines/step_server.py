"""`step_server.py SOCKET MODULE...`: loads the modules, makes AWS clients, then runs each step that is sent in its own fork.

A request is the JSON of [source, arguments, environment], ended by shutdown; the answer is what the step prints, a NUL, and its
exit code. `prepared.py` says what it is for. Standard input is its life: it ends when that does.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from penstock_components import aws


def serve(address: str, modules: list[str]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    os.setpgid(0, 0)
    for module in modules:
        importlib.import_module(module)
    for service in ("s3", "sagemaker"):
        aws.client(service)  # a step finds it where its AWS variables are those of this process
    gc.freeze()  # the collector would touch, and so copy, every page of them in every fork
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        print("ready", flush=True)
        while server in select.select([server, sys.stdin], [], [])[0]:
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                answer(connection)
            connection.close()
    os.killpg(0, signal.SIGKILL)  # with it the steps of a test that was broken off: they would wait on for hours


def answer(connection: socket.socket) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection.makefile("rb") as request:
        source, arguments, environment = json.load(request)
    child = os.fork()
    if child == 0:
        for stream, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, connection.fileno()), (2, connection.fileno())):
            os.dup2(file, stream)
        connection.close()
        step(source, arguments, environment)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.sendall(b"\0%d" % code)
    os._exit(0)


def step(source: str, arguments: list[str], environment: dict[str, str]) -> NoReturn:
    """What the command of a lightweight component does: the source into a file, then kfp's executor over it."""
    from kfp.dsl.executor_main import executor_main

    os.environ.clear()
    os.environ.update(environment)
    program = Path(tempfile.mkdtemp()) / "ephemeral_component.py"
    program.write_text(source)
    sys.argv = ["executor_main", "--component_module_path", str(program), *arguments]
    executor_main()
    sys.exit(0)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
