#include "lib/base/fault.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    char name[64];
    long at; // 0: every visit
    bool crash, armed;
    atomic_long visits;
} plan;

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
plan_take(const char *text)
{
    plan.armed = false;
    atomic_store(&plan.visits, 0);
    if (!text)
        return;
    const char *colon = strchr(text, ':');
    size_t length = colon ? (size_t)(colon - text) : strlen(text);
    if (length == 0 || length >= sizeof plan.name)
        return;
    memcpy(plan.name, text, length);
    plan.name[length] = '\0';
    char *end = NULL;
    plan.at = colon ? strtol(colon + 1, &end, 10) : 1;
    plan.crash = end && strcmp(end, ":crash") == 0;
    plan.armed = true;
}

static void
plan_read(void)
{
    plan_take(getenv("OSAE_FAULT"));
}

void
fault_set(const char *text)
{
    pthread_once(&once, plan_read);
    plan_take(text);
}

long
fault_visits(void)
{
    return atomic_load(&plan.visits);
}

bool
fault(const char *place)
{
    pthread_once(&once, plan_read);
    if (!plan.armed || strcmp(place, plan.name) != 0)
        return false;
    long visit = atomic_fetch_add(&plan.visits, 1) + 1;
    if (plan.at != 0 && visit != plan.at)
        return false;
    if (plan.crash)
        kill(getpid(), SIGKILL);
    return true;
}
