/* The rules of the guards that the compiled fast path knows. Each is told in Python first: the
   method that a function stands for is named beside it. */
#include "rate.h"
#include <math.h>

static void
nothing_to_take(PyObject *guard)
{
}

/* -- circuit breaker --------------------------------------------- */

/* CircuitBreaker.admit */
static whole
breaker_look(PyObject *guard, double now)
{
    BreakerState *self = (BreakerState *)guard;
    if (self->simple < NEVER)
        return self->serial;
    return now < self->refuses_until ? REFUSES : UNUSUAL;
}

/* Return whether the failures in the window open the circuit after one more success: Health.bad. */
static int
is_bad(HealthState *health, WindowState *window)
{
    whole calls = window->older + window->newest + 1;
    if (health->failure_rate == Py_None || calls < health->minimum_calls)
        return 0; /* failures in a row: a success has just ended the row */
    double rate = PyFloat_AsDouble(health->failure_rate);
    if (rate == -1.0 && PyErr_Occurred()) {
        PyErr_Clear();
        return 1;
    }
    return (double)window->failures / (double)calls >= rate;
}

/* CircuitBreaker.settle_success */
static int
breaker_is_usual(PyObject *guard, whole ticket, double now, double duration)
{
    BreakerState *self = (BreakerState *)guard;
    if (ticket < self->simple || duration == INFINITY)
        return 0;
    if (self->health == NULL || !PyObject_TypeCheck(self->health, &HealthState_Type))
        return 0;
    HealthState *health = (HealthState *)self->health;
    if (health->window == NULL || health->failure_rate == NULL)
        return 0;
    if (!PyObject_TypeCheck(health->window, &WindowState_Type))
        return 0;
    WindowState *window = (WindowState *)health->window;
    if (now >= window->end)
        return 0; /* a new slice begins */
    return window->failures == 0 || !is_bad(health, window);
}

static void
breaker_give(PyObject *guard, double duration)
{
    HealthState *health = (HealthState *)((BreakerState *)guard)->health;
    health->consecutive = 0;
    ((WindowState *)health->window)->newest++;
}

static const Rule breaker = {breaker_look, nothing_to_take, breaker_is_usual, breaker_give};

/* -- bulkhead --------------------------------------------- */

/* Return how many wait in a bulkhead's line (0), or were granted a slot (1); -1 if it can't say. */
static Py_ssize_t
in_queue(BulkheadState *self, int granted)
{
    if (self->queue == Py_None)
        return 0;
    if (self->queue == NULL || !PyObject_TypeCheck(self->queue, &WaitQueueState_Type))
        return -1;
    WaitQueueState *queue = (WaitQueueState *)self->queue;
    PyObject *found = granted ? queue->granted : queue->line;
    return found != NULL && PyDict_Check(found) ? PyDict_GET_SIZE(found) : -1;
}

/* Bulkhead.admit */
static whole
bulkhead_look(PyObject *guard, double now)
{
    BulkheadState *self = (BulkheadState *)guard;
    if (in_queue(self, 1) != 0)
        return UNUSUAL; /* a grant may have to be taken back */
    if (self->running + self->abandoned < self->max_concurrent)
        return 0;
    return self->queue == Py_None ? REFUSES : UNUSUAL;
}

static void
bulkhead_take(PyObject *guard)
{
    ((BulkheadState *)guard)->running++;
}

/* Bulkhead.settle_success */
static int
bulkhead_is_usual(PyObject *guard, whole ticket, double now, double duration)
{
    return in_queue((BulkheadState *)guard, 0) == 0;
}

static void
bulkhead_give(PyObject *guard, double duration)
{
    ((BulkheadState *)guard)->running--;
}

static const Rule bulkhead = {bulkhead_look, bulkhead_take, bulkhead_is_usual, bulkhead_give};

/* -- retry --------------------------------------------- */

/* Retry.admit */
static whole
retry_look(PyObject *guard, double now)
{
    return ((RetryState *)guard)->hold ? UNUSUAL : 0;
}

/* Retry.settle_success */
static int
retry_is_usual(PyObject *guard, whole ticket, double now, double duration)
{
    PyObject *budget = ((RetryState *)guard)->budget;
    return budget != NULL && PyObject_TypeCheck(budget, &BudgetState_Type);
}

static void
retry_give(PyObject *guard, double duration)
{
    RetryState *self = (RetryState *)guard;
    ((BudgetState *)self->budget)->calls++;
    if (self->typical == 0.0)
        self->typical = duration;
    else
        self->typical *= duration > self->typical ? 1.05 : 0.95;
}

static const Rule retry = {retry_look, nothing_to_take, retry_is_usual, retry_give};

/* -- all of them --------------------------------------------- */

const Rule *
rule_of(PyObject *guard)
{
    if (PyObject_TypeCheck(guard, &BreakerState_Type))
        return &breaker;
    if (PyObject_TypeCheck(guard, &BulkheadState_Type))
        return &bulkhead;
    if (PyObject_TypeCheck(guard, &RetryState_Type))
        return &retry;
    if (PyObject_TypeCheck(guard, &RateLimitState_Type))
        return &rate_limit_rule;
    return NULL;
}
