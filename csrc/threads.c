/* For signal masks, which C11 alone does not have. */
#define _POSIX_C_SOURCE 200809L

#include "threads.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
typedef HANDLE thread_handle;
typedef DWORD thread_result;
#define THREAD_CALL WINAPI
#else
#include <pthread.h>
#include <signal.h>
typedef pthread_t thread_handle;
typedef void *thread_result;
#define THREAD_CALL
#endif

typedef struct {
    cl_work work;
    void *argument;
    int part, parts;
    bool started;
    thread_handle handle;
} worker;

static thread_result THREAD_CALL
work_on(void *argument)
{
    const worker *w = argument;
    w->work(w->argument, w->part, w->parts);
    return 0;
}

#ifdef _WIN32
static void
start(worker *w)
{
    w->handle = CreateThread(NULL, 0, work_on, w, 0, NULL);
    w->started = w->handle != NULL;
}

static void
join(worker *w)
{
    WaitForSingleObject(w->handle, INFINITE);
    CloseHandle(w->handle);
}

static void
start_all(worker *workers, int parts)
{
    for (int i = 1; i < parts; i++) {
        start(&workers[i]);
    }
}
#else
static void
start(worker *w)
{
    w->started = pthread_create(&w->handle, NULL, work_on, w) == 0;
}

static void
join(worker *w)
{
    pthread_join(w->handle, NULL);
}

/* Workers inherit a mask that blocks every signal: handlers belong to the
 * threads of the program. */
static void
start_all(worker *workers, int parts)
{
    sigset_t all, callers;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &callers);
    for (int i = 1; i < parts; i++) {
        start(&workers[i]);
    }
    pthread_sigmask(SIG_SETMASK, &callers, NULL);
}
#endif

void
cl_parallel(cl_work work, void *argument, int parts)
{
    worker workers[CL_MAX_THREADS];
    if (parts <= 1) {
        work(argument, 0, 1);
        return;
    }
    for (int i = 0; i < parts; i++) {
        workers[i] =
            (worker){.work = work, .argument = argument, .part = i, .parts = parts};
    }
    start_all(workers, parts);
    work(argument, 0, parts);
    for (int i = 1; i < parts; i++) {
        if (workers[i].started) {
            join(&workers[i]);
        }
        else {
            work(argument, i, parts);
        }
    }
}
