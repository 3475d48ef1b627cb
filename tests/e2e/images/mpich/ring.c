/* Passes a sum around the ring of ranks, tells where each rank ran, and ends with the code given as the first argument.
 * A second argument is the seconds to stay in between, for tests that interrupt a running job. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
  int rank, size, length, sum = 0;
  char host[MPI_MAX_PROCESSOR_NAME];
  const int code = argc > 1 ? atoi(argv[1]) : 0;
  const unsigned int stay = argc > 2 ? (unsigned int)atoi(argv[2]) : 0;

  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Get_processor_name(host, &length);

  const int next = (rank + 1) % size, previous = (rank + size - 1) % size;
  if (rank > 0) MPI_Recv(&sum, 1, MPI_INT, previous, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  sum += rank;
  if (size > 1) {
    MPI_Send(&sum, 1, MPI_INT, next, 0, MPI_COMM_WORLD);
    if (rank == 0) MPI_Recv(&sum, 1, MPI_INT, previous, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  }
  MPI_Bcast(&sum, 1, MPI_INT, 0, MPI_COMM_WORLD);
  printf("rank %d of %d on %s: sum of ranks %d\n", rank, size, host, sum);
  fflush(stdout);
  for (unsigned int left = stay; left > 0;) left = sleep(left);
  MPI_Barrier(MPI_COMM_WORLD);
  /* A failing program ends by MPI_Abort: Debian's MPICH 4.0 (ch4:ucx) stays in MPI_Finalize for ever in about half of all runs
   * over TCP, where one rank flushes its endpoints and the others, already in the last barrier, no longer answer. */
  if (code != 0) MPI_Abort(MPI_COMM_WORLD, code);
  MPI_Finalize();
  return sum == size * (size - 1) / 2 ? code : 99;
}
