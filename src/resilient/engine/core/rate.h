/* The fields of a rate limit, of which the twin is `resilient/state_types.py`. */
#ifndef RESILIENT_RATE_H
#define RESILIENT_RATE_H

#include "rules.h"

#ifdef __SIZEOF_INT128__
typedef __int128 wide;
typedef unsigned __int128 uwide;
#else
typedef PyObject *wide;
#endif

/* When calls may begin: resilient.guards.rate_limit.pace. A clock beyond 2**62 / max_calls seconds,
   139,000 years, is an OverflowError. */
typedef struct {
    PyObject_HEAD
    wide parts;      /* when the next call is due if they come evenly */
    wide before;     /* when the last one was */
    wide step;       /* from one call to the next */
    wide ahead;      /* how long before it is due a call may begin */
    wide next;       /* what `parts` becomes if the call begins that was just looked at */
    whole max_calls; /* parts of a tick */
    whole last;      /* the number of the last call */
} PaceState;

typedef struct {
    PyObject_HEAD
    PyObject *pace; /* a PaceState, or a quota */
    PyObject *line; /* a dict of those who wait */
    double max_wait; /* 0: nobody waits */
} RateLimitState;

extern PyTypeObject PaceState_Type, RateLimitState_Type;
extern const Rule rate_limit_rule;

#endif
