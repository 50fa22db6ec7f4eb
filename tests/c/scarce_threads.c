/*
 * pthread_create() where threads are scarce: every second one cannot be had,
 * the first included. For a bits that is compiled with
 * -Dpthread_create=scarce_pthread_create.
 */
#undef pthread_create
#include <errno.h>
#include <pthread.h>

int
scarce_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                      void *(*work)(void *), void *argument)
{
    static int calls;
    return calls++ % 2 == 0 ? EAGAIN
                            : pthread_create(thread, attributes, work, argument);
}
