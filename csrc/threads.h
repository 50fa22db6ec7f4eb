/*
 * Split work over threads that live as long as the call.
 */
#ifndef CENTERLOSS_THREADS_H
#define CENTERLOSS_THREADS_H

/* Do part `part` of `parts`. */
typedef void (*cl_work)(void *argument, int part, int parts);

/* Do all parts, each on a thread of its own, the caller's among them. Where a
 * thread cannot be had, the caller does its part. Returns when all are done. */
void
cl_parallel(cl_work work, void *argument, int parts);

enum {
    CL_MAX_THREADS = 256
};

#endif
