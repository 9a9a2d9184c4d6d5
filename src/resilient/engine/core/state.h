/* The fields that the fast path reads and writes. Python's guards, counters and deadlines inherit
   these types, so that there is one store of state: Python sees the fields as attributes. The twin
   of this file is `resilient/state_types.py`: the same names, with `__slots__`. */
#ifndef RESILIENT_STATE_H
#define RESILIENT_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

typedef long long whole;

/* A policy's counters, its gate and its clock: resilient.engine.counters and .section. */
typedef struct {
    PyObject_HEAD
    whole gate;      /* not 0: no call may take the fast path now */
    whole in_flight;
    whole peak;
    whole quick;     /* successes in the first bucket of durations */
    whole degraded;
    double peak_until;
    double duration_sum;
    double counting_since; /* calls from before it belong to a parent process */
    PyObject *now;         /* the clock */
    PyObject *outbox;      /* a list */
    PyObject *refused_at;  /* dict of str to float */
    PyObject *refusals;    /* dict of str to int */
    PyObject *counts;      /* list of int, by outcome */
    PyObject *layout;      /* of the shared row; None without one */
    PyObject *shared_row;  /* a memoryview of doubles in a page, or None */
    Py_buffer row;         /* its memory; row.obj is NULL without one */
} CountersState;

/* A sliding window over results: resilient.guards.window. */
typedef struct {
    PyObject_HEAD
    double end;     /* of the newest slice */
    whole newest;   /* calls in the newest slice */
    whole older;    /* calls in the other slices */
    whole failures; /* in the whole window */
} WindowState;

/* The evidence of a circuit breaker: resilient.guards.circuit_breaker.trip_rules. */
typedef struct {
    PyObject_HEAD
    whole consecutive;
    whole minimum_calls;
    PyObject *failure_rate; /* a float, or None */
    PyObject *window;       /* a WindowState */
} HealthState;

/* A circuit breaker: resilient.guards.circuit_breaker. */
typedef struct {
    PyObject_HEAD
    whole simple;         /* the epoch while the closed state's fast checks suffice, else NEVER */
    whole serial;         /* the newest ticket */
    double refuses_until; /* while it is open and the time is before this, it refuses every call */
    PyObject *health;     /* a HealthState */
} BreakerState;

/* A bulkhead and its queue: resilient.guards.bulkhead and .wait_queue. */
typedef struct {
    PyObject_HEAD
    whole running;
    whole abandoned;
    whole max_concurrent;
    PyObject *queue; /* a WaitQueueState, or None */
} BulkheadState;

typedef struct {
    PyObject_HEAD
    PyObject *line;    /* a dict of those who wait */
    PyObject *granted; /* a dict of those who were granted a slot and have not taken it */
} WaitQueueState;

/* A retry and its budget: resilient.guards.retry and .budget. */
typedef struct {
    PyObject_HEAD
    whole calls;
} BudgetState;

typedef struct {
    PyObject_HEAD
    double typical;   /* seconds that a good attempt takes */
    char hold;        /* first attempts are held back, too */
    PyObject *budget; /* a BudgetState */
} RetryState;

/* A timeout, and the crew of its worker threads: resilient.guards.timeout. */
typedef struct {
    PyObject_HEAD
    double seconds;
} TimeoutState;

/* One call's time limit: resilient.deadline and resilient.engine.aio.timers. */
typedef struct {
    PyObject_HEAD
    double when;
    PyObject *terms;
    PyObject *outer; /* a DeadlineState, or None */
    PyObject *cuts;  /* unset until somebody asks to be told */
    PyObject *task;  /* an asyncio task, for an entry of a timer */
    whole cancelling;
    char open;
    char fired;
} DeadlineState;

/* The calls of one event loop with one time limit: resilient.engine.aio.timers. */
typedef struct {
    PyObject_HEAD
    PyObject *loop;
    PyObject *entries; /* a dict, oldest first */
    PyObject *handle;  /* of the running timer, or None */
} TimeoutQueueState;

extern PyTypeObject CountersState_Type, WindowState_Type, HealthState_Type, BreakerState_Type,
    BulkheadState_Type, WaitQueueState_Type, BudgetState_Type, RetryState_Type, TimeoutState_Type,
    DeadlineState_Type, TimeoutQueueState_Type;

/* Make the types ready and add them to the module; return -1 with an exception on failure. */
int add_state_types(PyObject *module);

static const whole NEVER = 1LL << 62; /* above every ticket: guards.circuit_breaker.moves */

#endif
