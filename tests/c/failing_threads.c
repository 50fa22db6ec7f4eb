/*
 * A pthread_create() that fails on request, for csrc/ compiled with
 * -Dpthread_create=failing_pthread_create. By default the first call fails, and then
 * every second one.
 */
#undef pthread_create
#include <errno.h>
#include <pthread.h>
#include <stdint.h>

/* Call i fails if bit i % 64 is set. */
uint64_t failing_threads_mask = UINT64_C(0x5555555555555555);
int failing_threads_calls;

int
failing_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                       void *(*work)(void *), void *argument)
{
    return failing_threads_mask >> (failing_threads_calls++ % 64) & 1
               ? EAGAIN
               : pthread_create(thread, attributes, work, argument);
}
