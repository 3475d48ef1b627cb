"""The `penstock` command. `penstock local …` runs a real Kubernetes on this machine."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from penstock_local.cluster import Cluster, Config, clusters
from penstock_local.errors import LocalError
from penstock_local.images import ImagesError
from penstock_local.processes import resident_mib
from penstock_local.seeds import Archive


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; errors a user can mend are one line on standard error and exit code 1."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (LocalError, ImagesError) as error:
        sys.exit(f"penstock: {error}")
    except KeyboardInterrupt:
        sys.exit("penstock: interrupted; the same command goes on from here")


def _up(options: argparse.Namespace) -> None:
    cluster = Cluster(options.name)
    config = Config(
        nodes=options.nodes,
        quick_failure=options.fast_node_failure,
        instance_type=options.instance_type,
        gpus=options.gpus,
        efa=options.efa,
    )
    cluster.up(config)
    print(f"export KUBECONFIG={cluster.kubeconfig}")


def _down(options: argparse.Namespace) -> None:
    Cluster(options.name).down()


def _reset(options: argparse.Namespace) -> None:
    _down(options)
    _up(options)


def _status(options: argparse.Namespace) -> None:
    cluster = _existing(options.name)
    print(f"cluster {cluster.name}   KUBECONFIG={cluster.kubeconfig}\n")
    print(f"{'PROCESS':<40}{'PID':>8}{'MEMORY':>10}")
    total = 0.0
    for name, daemon in cluster.daemons().items():
        pid = daemon.pid()
        memory = resident_mib(pid) if pid else 0.0
        total += memory
        print(f"{name:<40}{pid or '-':>8}{f'{memory:.0f} MiB' if pid else 'not running':>12}")
    print(f"{'total':<40}{'':>8}{f'{total:.0f} MiB':>12}\n")
    print(
        cluster.kubectl(
            "get", "nodes", "-L", "node.kubernetes.io/instance-type,topology.kubernetes.io/zone,karpenter.sh/capacity-type"
        )
    )
    columns = "NODE:.metadata.name,GPU:.status.allocatable.nvidia\\.com/gpu,EFA:.status.allocatable.vpc\\.amazonaws\\.com/efa,CPU:.status.allocatable.cpu,MEMORY:.status.allocatable.memory"
    print(cluster.kubectl("get", "nodes", "-o", f"custom-columns={columns}"), end="")


def _kubeconfig(options: argparse.Namespace) -> None:
    cluster = _existing(options.name)
    print(f"export KUBECONFIG={cluster.kubeconfig}" if options.export else cluster.kubeconfig)


def _load_image(options: argparse.Namespace) -> None:
    if not options.archive.exists():
        raise LocalError(f"{options.archive}: no such file; give an OCI or docker-save archive")
    _existing(options.name).load_image(str(options.archive), Archive.of(options.archive))


def _logs(options: argparse.Namespace) -> None:
    daemons = _existing(options.name).daemons()
    if options.process is None:
        print("\n".join(daemons))
        return
    found = daemons.get(options.process)
    if found is None:
        raise LocalError(f"no process {options.process!r}; choose from: {', '.join(daemons)}")
    command = ["tail", "-n", str(options.lines), *(["-f"] if options.follow else []), str(found.log)]
    raise SystemExit(subprocess.run(command).returncode)


def _existing(name: str) -> Cluster:
    cluster = Cluster(name)
    if not cluster.exists:
        there = clusters()
        raise LocalError(f"no cluster {name!r}; " + (f"there are: {', '.join(there)}" if there else "run: penstock local up"))
    return cluster


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="penstock", description="Distributed deep learning on Kubernetes.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    local = commands.add_parser("local", help="a real Kubernetes on this machine, for demos and tests")
    actions = local.add_subparsers(required=True, metavar="ACTION")

    def action(name: str, run: object, help: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=help, description=help)
        made.add_argument(
            "--name",
            default=os.environ.get("PENSTOCK_CLUSTER", "penstock"),
            help="cluster (default: penstock); several can run side by side",
        )
        made.set_defaults(run=run)
        return made

    for name, run, text in (
        ("up", _up, "start the cluster, or heal it"),
        ("reset", _reset, "remove the cluster and start a fresh one"),
    ):
        made = action(name, run, text)
        made.add_argument("--nodes", type=_positive, default=2, help="nodes of a new cluster (default: 2)")
        made.add_argument("--instance-type", default="p4d.24xlarge", help="instance-type label of the nodes")
        made.add_argument("--gpus", type=int, default=8, help="nvidia.com/gpu of each node")
        made.add_argument("--efa", type=int, default=4, help="vpc.amazonaws.com/efa of each node")
        made.add_argument("--fast-node-failure", action="store_true", help="a dead node is noticed after 6 s instead of 40")
    action("down", _down, "remove the cluster without a trace")
    action("status", _status, "processes, memory and nodes")
    action("kubeconfig", _kubeconfig, "where its kubeconfig is").add_argument(
        "--export", action="store_true", help="as a shell command"
    )
    action("load-image", _load_image, "import an image archive into every node").add_argument("archive", type=Path)
    made = action("logs", _logs, "the log of one process (without a name: which there are)")
    made.add_argument("process", nargs="?", metavar="MACHINE/PROCESS")
    made.add_argument("-f", "--follow", action="store_true")
    made.add_argument("-n", "--lines", type=int, default=50)
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 32:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected 1 to 32")
    return int(text)


if __name__ == "__main__":
    main()
