"""How each MPI is told what to run where: host file, launch line and environment. Pure tables; the launcher pod uses them.

Ranks are started through the ring's `ssh` script in a star: workers hold no key, so no worker can start another (Open MPI's
tree spawn is off). Open MPI 5 reads none of Open MPI 4's ORTE variables and would run every rank in the launcher with exit
code 0; so both families are set, and the host file is an argument, which both honour.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock_operator import names
from penstock_operator.api.trainingjob import Backend, MPIImplementation, TrainingJobSpec

_AGENT = f"{names.RING_PATH}/ssh"
HOSTFILE = f"{names.HOSTS_PATH}/hostfile"


def hostfile(implementation: MPIImplementation, hosts: Sequence[str], slots: int) -> str:
    """One line a worker, in rank order."""
    form = "{} slots={}" if implementation is MPIImplementation.OPEN_MPI else "{}:{}"
    return "".join(form.format(host, slots) + "\n" for host in hosts)


def launch_line(spec: TrainingJobSpec) -> list[str]:
    """argv of the launcher container: mpirun, its arguments, the program."""
    ranks = str(spec.ranks)
    if spec.mpi.implementation is MPIImplementation.OPEN_MPI:
        line = ["mpirun", "-np", ranks, "--hostfile", HOSTFILE]
        # Ranks of two workers on one node would all be bound to core 0; the container's cpuset is the binding.
        line += ["--bind-to", "none", "--map-by", "slot"]
    else:
        # The proxies call back: they are given the launcher's address, since its host name resolves nowhere else. -genvnone:
        # hydra would otherwise overwrite each worker's environment (its pod IP, its node) with the launcher's.
        line = ["mpirun", "-f", HOSTFILE, "-n", ranks, "-localhost", "$(PENSTOCK_POD_IP)", "-genvnone"]
    # In a container's command the kubelet expands $(NAME), with the launcher's environment, and reads every `$$` as `$`.
    return [*line, *spec.mpi.args, *(one.replace("$", "$$") for one in spec.command)]


def launch_environment(spec: TrainingJobSpec) -> dict[str, str]:
    """Environment of mpirun itself. Ranks do not get it, but for Open MPI's own OMPI_MCA_ variables."""
    if spec.mpi.implementation is MPIImplementation.OPEN_MPI:
        built = {
            "OMPI_MCA_plm_rsh_agent": _AGENT,
            "OMPI_MCA_plm_rsh_no_tree_spawn": "1",
            "PRTE_MCA_plm_ssh_agent": _AGENT,
            "PRTE_MCA_plm_ssh_no_tree_spawn": "1",
            # Daemons that stay in their ssh session: one that dies is noticed, and so is a worker whose network is gone
            # (ServerAliveInterval). Detached ones would leave mpirun waiting for ever.
            "OMPI_MCA_orte_leave_session_attached": "1",
            "PRTE_MCA_prte_leave_session_attached": "1",
        }
        if spec.backend is Backend.HOROVOD:
            # Horovod's own advice for mpirun (docs/mpi.rst): ob1 without openib; NCCL or Gloo carry the data.
            built |= {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "^openib", "OMPI_MCA_mpi_yield_when_idle": "1"}
        return built
    if spec.mpi.implementation is MPIImplementation.MPICH:
        return {"HYDRA_LAUNCHER": "ssh", "HYDRA_LAUNCHER_EXEC": _AGENT}
    return {"I_MPI_HYDRA_BOOTSTRAP": "ssh", "I_MPI_HYDRA_BOOTSTRAP_EXEC": _AGENT}
