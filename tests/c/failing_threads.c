/*
 * pthread_create() where threads are scarce, for csrc/ compiled with
 * -Dpthread_create=failing_pthread_create. As it is, every second one cannot be
 * had, the first included; a program that loads this may say which.
 */
#undef pthread_create
#include <errno.h>
#include <pthread.h>
#include <stdint.h>

/* Bit i is set if the i-th thread cannot be had, of each 64 that are asked for. */
uint64_t failing_threads_denied = UINT64_C(0x5555555555555555);
int failing_threads_asked;

int
failing_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                       void *(*work)(void *), void *argument)
{
    return failing_threads_denied >> (failing_threads_asked++ % 64) & 1
               ? EAGAIN
               : pthread_create(thread, attributes, work, argument);
}
