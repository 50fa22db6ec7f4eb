/*
 * Split work over threads that live as long as the call.
 */
#ifndef CENTERLOSS_THREADS_H
#define CENTERLOSS_THREADS_H

/* Does share number `worker` of a work that is split into `workers` shares. */
typedef void (*cl_work)(void *argument, int worker, int workers);

/* Run `work` for every worker, each on its own thread; the caller runs worker 0. If a
 * thread cannot be created, the caller runs its share too. Returns when all are done.
 * There are at most CL_MAX_THREADS workers. */
void
cl_parallel(cl_work work, void *argument, int workers);

#endif
