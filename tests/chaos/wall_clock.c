/* For LD_PRELOAD: a wall clock that is ahead of the machine's by as many seconds as the file says that WALL_CLOCK names
 * (8 bytes in the machine's order, mapped: what is written there counts at once). The monotonic clock stays what it is,
 * as it does when a real clock is set. Waits until a time of the wall clock are handed on in the machine's time. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile int64_t *ahead;

static int64_t offset(void) {
    static const int64_t none = 0;
    if (!ahead) {
        const char *name = getenv("WALL_CLOCK");
        int file = name ? open(name, O_RDONLY) : -1;
        void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
        ahead = mapped == MAP_FAILED ? (volatile int64_t *)&none : mapped;
    }
    return *ahead;
}

#define REAL(function) ((__typeof__(&function))dlsym(RTLD_NEXT, #function))

int clock_gettime(clockid_t clock, struct timespec *now) {
    static __typeof__(&clock_gettime) real;
    if (!real)
        real = REAL(clock_gettime);
    int failed = real(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += offset();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now)
        *now = precise.tv_sec;
    return precise.tv_sec;
}

/* Of the machine: no uptime is as long as the time since 1970. */
static struct timespec of_the_machine(const struct timespec *when) {
    struct timespec shifted = *when;
    if (shifted.tv_sec > 1000000000)
        shifted.tv_sec -= offset();
    return shifted;
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict when) {
    static __typeof__(&pthread_cond_timedwait) real;
    if (!real)
        real = REAL(pthread_cond_timedwait);
    struct timespec shifted = of_the_machine(when);
    return real(condition, mutex, &shifted);
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict when) {
    static __typeof__(&sem_timedwait) real;
    if (!real)
        real = REAL(sem_timedwait);
    struct timespec shifted = of_the_machine(when);
    return real(semaphore, &shifted);
}
