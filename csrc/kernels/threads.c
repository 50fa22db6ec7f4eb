/* For signal masks, which C11 alone does not have. */
#define _POSIX_C_SOURCE 200809L

#include "threads.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

#include "centerloss.h"

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
    int worker, workers;
    bool started;
    thread_handle handle;
} thread;

static thread_result THREAD_CALL
run(void *argument)
{
    const thread *t = argument;
    t->work(t->argument, t->worker, t->workers);
    return 0;
}

#ifdef _WIN32
static void
start(thread *t)
{
    t->handle = CreateThread(NULL, 0, run, t, 0, NULL);
    t->started = t->handle != NULL;
}

static void
join(thread *t)
{
    WaitForSingleObject(t->handle, INFINITE);
    CloseHandle(t->handle);
}

static void
start_all(thread *threads, int workers)
{
    for (int i = 1; i < workers; i++) {
        start(&threads[i]);
    }
}
#else
static void
start(thread *t)
{
    t->started = pthread_create(&t->handle, NULL, run, t) == 0;
}

static void
join(thread *t)
{
    pthread_join(t->handle, NULL);
}

/* Block every signal that the program's own threads should handle. Signals that a
 * crash raises in the thread itself stay unblocked: blocked, they would end the
 * process without running a handler, and no crash report would be written. */
static void
block_signals(sigset_t *before)
{
    static const int from_a_crash[] = {SIGSEGV, SIGBUS,  SIGFPE, SIGILL,
                                       SIGABRT, SIGTRAP, SIGSYS};
    sigset_t blocked;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof(from_a_crash) / sizeof(from_a_crash[0]); i++) {
        sigdelset(&blocked, from_a_crash[i]);
    }
    pthread_sigmask(SIG_SETMASK, &blocked, before);
}

/* Threads inherit the signal mask of the one that creates them. */
static void
start_all(thread *threads, int workers)
{
    sigset_t before;
    block_signals(&before);
    for (int i = 1; i < workers; i++) {
        start(&threads[i]);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
#endif

void
cl_parallel(cl_work work, void *argument, int workers)
{
    thread threads[CL_MAX_THREADS];
    assert(workers <= CL_MAX_THREADS);
    if (workers <= 1) {
        work(argument, 0, 1);
        return;
    }
    for (int i = 0; i < workers; i++) {
        threads[i] = (thread){
            .work = work, .argument = argument, .worker = i, .workers = workers};
    }
    start_all(threads, workers);
    work(argument, 0, workers);
    for (int i = 1; i < workers; i++) {
        if (threads[i].started) {
            join(&threads[i]);
        }
        else {
            work(argument, i, workers);
        }
    }
}
