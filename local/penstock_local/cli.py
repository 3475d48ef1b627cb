"""The `penstock` command. `penstock local …` runs a real Kubernetes on this machine."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from penstock_local import config, failed, status
from penstock_local.cluster import Cluster, Config
from penstock_local.errors import LocalError
from penstock_local.images import ImagesError, archive
from penstock_local.images.catalogue import IMAGES
from penstock_local.seeds import Archive
from penstock_local.steps import Steps

_EXAMPLES = """examples:
  penstock local up                          two nodes, each with 8 nvidia.com/gpu and 4 vpc.amazonaws.com/efa
  export KUBECONFIG=$(penstock local kubeconfig)
  penstock local load-image trainer          build the project's training image and put it on every node
  penstock local up --name second --nodes 3  another cluster beside the first
  penstock local up --aws                    with a fake AWS, FSx volumes and Pod Identity as on EKS
  eval "$(penstock local aws-env)"           then aws s3 ls, boto3 and the rest reach it
  penstock local down                        removes the cluster without a trace
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; errors a user can mend are one message on standard error and exit code 1."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except (LocalError, ImagesError) as error:
        sys.exit(f"penstock: {error}")
    except BrokenPipeError:
        # The reader (head, less) has gone; the interpreter's last flush must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit("\npenstock: interrupted; the same command goes on from here")


def _up(options: argparse.Namespace) -> None:
    steps, cluster = Steps(), Cluster(options.name)
    cluster.up(_asked(options, config.read(cluster.folder)), steps=steps)
    print(f"cluster {cluster.name} is up; where the time went:")
    print("\n".join(f"  {name:<44}{seconds:7.1f} s" for name, seconds in steps.seconds.items()))
    print(f"export KUBECONFIG={cluster.kubeconfig}")


def _asked(options: argparse.Namespace, kept: Config | None) -> Config:
    """What is not said stays as it is. A port that is named is insisted on, so one that is only kept is not named."""
    said = {
        "nodes": options.nodes,
        "quick_failure": options.fast_node_failure or None,
        "instance_type": options.instance_type,
        "capacity_type": options.capacity_type,
        "gpus": options.gpus,
        "efa": options.efa,
        "port": options.port or 0,
        "aws": options.aws or None,
    }
    return replace(kept or Config(), **{name: value for name, value in said.items() if value is not None})


def _down(options: argparse.Namespace) -> None:
    cluster = Cluster(options.name)
    if not cluster.folder.exists() and not failed.folder(options.name).exists():
        print(f"there is no cluster {options.name!r}", file=sys.stderr)
    cluster.down()


def _reset(options: argparse.Namespace) -> None:
    cluster = Cluster(options.name)
    kept = config.read(cluster.folder)
    asked = _asked(options, kept)
    if asked.port:
        cluster.check_port(asked.port)
    cluster.down()
    if not asked.port and kept and config.is_free(kept.port):
        asked.port = kept.port
    cluster.up(asked)
    print(f"export KUBECONFIG={cluster.kubeconfig}")


def _status(options: argparse.Namespace) -> None:
    page = status.report(_existing(options.name))
    print(page.text)
    if not page.well:
        raise SystemExit(1)


def _kubeconfig(options: argparse.Namespace) -> None:
    cluster = _existing(options.name)
    print(f"export KUBECONFIG={cluster.kubeconfig}" if options.export else cluster.kubeconfig)


def _load_image(options: argparse.Namespace) -> None:
    cluster, steps, path = _existing(options.name), Steps(), Path(options.image)
    if path.is_file():
        image, found = path.name, Archive.of(path)
    elif options.image in IMAGES:
        with steps.step(f"image {options.image}"):
            image, found = options.image, Archive.of(archive(options.image))
    else:
        raise LocalError(f"{path}: no such file, nor one of the project's images ({', '.join(IMAGES)})")
    cluster.load_image(image, found, steps=steps)
    steps.say(f"{image} is on every node of cluster {cluster.name}")


def _logs(options: argparse.Namespace) -> None:
    cluster = _existing(options.name)
    if options.process is None:
        print("\n".join(cluster.daemons()))
        return
    everywhere = [name for name in cluster.daemons() if name.endswith(f"/{options.process}")]
    log = cluster.daemon(everywhere[0] if len(everywhere) == 1 else options.process).log
    if not log.exists():
        raise LocalError(f"{options.process} has no log yet; it was never started")
    command = ["tail", "-n", str(options.lines), *(["-F"] if options.follow else []), str(log)]
    raise SystemExit(subprocess.run(command).returncode)


def _aws_env(options: argparse.Namespace) -> None:
    print("\n".join(f"export {name}={value}" for name, value in _existing(options.name).aws_environment().items()))


def _pod_identity(options: argparse.Namespace) -> None:
    cluster = _existing(options.name)
    if options.change == "dissociate":
        cluster.dissociate(options.namespace, options.account)
    else:
        role = cluster.associate(options.namespace, options.account, options.role)
        print(f"new pods of service account {options.namespace}/{options.account} get credentials of {role}")


def _existing(name: str) -> Cluster:
    cluster = Cluster(name)
    _ = cluster.config
    return cluster


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="penstock",
        description="Penstock: distributed deep learning on Kubernetes.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    text = "a real Kubernetes on this machine, for demos and tests (Linux, root)"
    local = commands.add_parser(
        "local", help=text, description=text, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = local.add_subparsers(required=True, metavar="ACTION", title="actions")

    def action(name: str, run: object, text: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=text, description=text)
        default = config.default_name()
        made.add_argument(
            "--name",
            default=default,
            help=f"which cluster (default: {default}, from PENSTOCK_CLUSTER where that is set); several can run side by side",
        )
        made.set_defaults(run=run)
        return made

    _shape(action("up", _up, "start the cluster, heal it, or add nodes to it; no effect when all is well"))
    action("down", _down, "remove the cluster without a trace")
    action("status", _status, "processes, memory, nodes, images; exit code 1 when something is down")
    made = action("kubeconfig", _kubeconfig, "print where its kubeconfig is")
    made.add_argument("--export", action="store_true", help="as a shell command")
    made = action("load-image", _load_image, "put an image on every node that does not have it")
    made.add_argument("image", metavar="IMAGE", help=f"an OCI or docker-save archive, or one of {', '.join(IMAGES)}")
    made = action("logs", _logs, "the log of one process; without a name, which there are")
    made.add_argument("process", nargs="?", metavar="MACHINE/PROCESS", help="for example node1/kubelet, or fake-aws")
    made.add_argument("-f", "--follow", action="store_true", help="go on as it grows")
    made.add_argument("-n", "--lines", type=int, default=50, help="how many lines from its end (default: 50)")
    action("aws-env", _aws_env, "shell commands that lead AWS clients on this machine to the cluster's fake AWS")
    made = action("pod-identity", _pod_identity, "EKS Pod Identity: which service account has credentials of which role")
    made.add_argument("change", choices=("associate", "dissociate"))
    made.add_argument("namespace", metavar="NAMESPACE")
    made.add_argument("account", metavar="SERVICEACCOUNT")
    made.add_argument("--role", metavar="ARN", help="of the role (default: one named NAMESPACE-SERVICEACCOUNT)")
    _shape(action("reset", _reset, "remove the cluster and start a fresh one"))
    return parser


def _shape(parser: argparse.ArgumentParser) -> None:
    """What is left out stays as the cluster has it."""
    parser.add_argument("--nodes", type=_nodes, help="how many (new cluster: 2); an existing cluster can grow")
    parser.add_argument(
        "--instance-type", type=_instance_type, metavar="TYPE", help="label of the nodes (new cluster: p4d.24xlarge)"
    )
    parser.add_argument(
        "--capacity-type", choices=("spot", "on-demand", "reserved"), help="label of the nodes (new cluster: spot)"
    )
    parser.add_argument("--gpus", type=_count, metavar="N", help="nvidia.com/gpu of each node (new cluster: 8)")
    parser.add_argument("--efa", type=_count, metavar="N", help="vpc.amazonaws.com/efa of each node (new cluster: 4)")
    parser.add_argument("--port", type=_port, help="of the API server on 127.0.0.1 (new cluster: a free one)")
    parser.add_argument("--aws", action="store_true", help="with a fake AWS, FSx volumes and Pod Identity")
    parser.add_argument("--fast-node-failure", action="store_true", help="a silent node is noticed after 5 s instead of 40")


def _instance_type(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]+\.[a-z0-9-]+", text):
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a name as EC2 writes it, such as p4d.24xlarge")
    return text


def _nodes(text: str) -> int:
    return _between(text, 1, config.MOST_NODES)


def _count(text: str) -> int:
    return _between(text, 0, 64)


def _port(text: str) -> int:
    return _between(text, 1024, 65535)


def _between(text: str, least: int, most: int) -> int:
    if not text.isdigit() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected {least} to {most}")
    return int(text)


if __name__ == "__main__":
    main()
