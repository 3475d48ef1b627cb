"""What mpirun, hydra and ssh write when they end, and what it means.

The end of the launcher's log is kept in the pod's status by FallbackToLogsOnError, so it comes with the watch event.
"""

from __future__ import annotations

import re

# Open MPI 4 and 5, hydra (MPICH, Intel) and OpenSSH, each when a remote daemon or its connection is gone.
RING_BROKEN = re.compile(
    r"lost communication with|ORTE was unable to reliably start|PRTE has lost communication|A daemon .{0,40}died unexpectedly"
    # Programs say "Connection closed by peer" too; only ssh names the port.
    r"|^ssh: connect to host|^Connection (closed|reset) by \S+ port \d+|^Connection to \S+ closed by remote host"
    r"|^kex_exchange_identification: |^client_loop: send disconnect|^Timeout, server \S+ not responding"
    r"|^Connection timed out during banner exchange"
    r"|^\[\S+\] HYD[^\n]*assert [^\n]*(sock|pmi)|unexpected (EOF|disconnect)[^\n]*proxy",
    re.IGNORECASE | re.MULTILINE,
)
# mpirun's own words for a program that is not there; programs say "no such file" about much else.
NOT_FOUND = re.compile(
    r"(mpirun|prterun|mpiexec|orterun) was unable to (launch the specified application as it\s+could not\s+(access|find)"
    r"|find the specified executable)|execvp error on file",
    re.IGNORECASE,
)
SHELL_NOT_FOUND = re.compile(r"command not found|No such file or directory|Permission denied", re.IGNORECASE)
# mpirun's own words for arguments that it does not know: a typing error, or those of another MPI. Open MPI 4 and 5, hydra.
USAGE = re.compile(
    r"^(mpirun|mpiexec|orterun|prterun): (Error: (unknown option|option \S+ did not have enough)|unrecognized option)[^\n]*"
    r"|^Open MPI has detected that a parameter given to a command line\s+option does not match[^:]*:"
    r"\s+Option:[^\n]*\s+Param:[^\n]*"
    r"|^The specified (mapping|binding|ranking) policy is not recognized:\s+Policy:[^\n]*"
    r"|^\[(mpiexec|proxy:\S+)@\S+\] [^\n]*(unrecognized (argument|launcher|directive)|unable to find interface)[^\n]*",
    re.MULTILINE,
)
# ssh and sshd look their own user up. No later try helps: the ring's key is the same for its whole life.
NO_USER = re.compile(
    r"^No user exists for uid \d+|^\S+@(?P<host>[\d.:a-f]+): Permission denied \([^)]*publickey[^)]*\)", re.MULTILINE
)
# Who failed first: Open MPI 4 and 5 by rank, Intel by rank and host, MPICH by host alone; and a call of MPI_Abort.
_CULPRITS = (
    re.compile(r"Process name:\s*\[\S+,(?P<rank>\d+)\]\s*Exit code:\s*(?P<code>\d+)"),
    re.compile(r"process rank (?P<rank>\d+) with PID \d+ on node (?P<host>\S+) exited on\s+signal (?P<signal>\d+)"),
    re.compile(
        r"MPI_ABORT was invoked on rank (?P<rank>\d+) in communicator [^\n]*(\s+Proc: \S+)?"
        r"\s+(with )?errorcode:?\s+(?P<code>\d+)",
        re.IGNORECASE,
    ),
    re.compile(r"application called MPI_Abort\([^,()]*, (?P<code>\d+)\) - process (?P<rank>\d+)"),
    re.compile(r"RUNNING AT (?P<host>\S+)\s*=\s*EXIT CODE:\s*\d+[\s\S]*EXIT STRING: [^\n]*\(signal (?P<signal>\d+)\)"),
    re.compile(
        r"(RANK (?P<rank>\d+) )?PID \d+ RUNNING AT (?P<host>\S+)\s*=\s*"
        r"(EXIT CODE:\s*(?P<code>\d+)|KILLED BY SIGNAL:\s*(?P<signal>\d+))"
    ),
)
# What the status can hold (api/status.py). Any program can write like mpirun, and a status that is refused ends no job.
_LARGEST = 2**31 - 1


def culprit_of(text: str) -> dict[str, int]:
    """What mpirun says of the process that failed first: `rank`, `code`, `signal`, as far as it knows them."""
    known = _first_to_fail(text)
    numbers = {key: int(said) for key in ("rank", "code", "signal") if (said := known.get(key)) is not None}
    return {key: number for key, number in numbers.items() if number <= _LARGEST}


def host_of(text: str) -> str:
    """The address of that process, where mpirun names one: the host file holds pod addresses."""
    return _first_to_fail(text).get("host") or ""


def _first_to_fail(text: str) -> dict[str, str | None]:
    found = next((match for one in _CULPRITS if (match := one.search(text))), None)
    return found.groupdict() if found else {}


def ring_line(text: str) -> str:
    """The line that tells of the broken ring."""
    found = RING_BROKEN.search(text)
    return next((line.strip() for line in text.splitlines() if found and found[0].splitlines()[0] in line), "")[:200]


def first_line(text: str) -> str:
    """The first line that says anything."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:200]
