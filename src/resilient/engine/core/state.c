/* The types of state.h: fields as attributes, and what the garbage collector needs. */
#include "rate.h"
#include <structmember.h>

/* Every field is an attribute that may be unset, as one of `__slots__` may. */
#define OBJECT T_OBJECT_EX
#define AT(type, field) offsetof(type, field)

/* -- counters --------------------------------------------- */

static PyMemberDef counters_members[] = {
    {"gate", T_LONGLONG, AT(CountersState, gate), 0, NULL},
    {"in_flight", T_LONGLONG, AT(CountersState, in_flight), 0, NULL},
    {"peak", T_LONGLONG, AT(CountersState, peak), 0, NULL},
    {"quick", T_LONGLONG, AT(CountersState, quick), 0, NULL},
    {"degraded", T_LONGLONG, AT(CountersState, degraded), 0, NULL},
    {"peak_until", T_DOUBLE, AT(CountersState, peak_until), 0, NULL},
    {"duration_sum", T_DOUBLE, AT(CountersState, duration_sum), 0, NULL},
    {"counting_since", T_DOUBLE, AT(CountersState, counting_since), 0, NULL},
    {"now", OBJECT, AT(CountersState, now), 0, NULL},
    {"outbox", OBJECT, AT(CountersState, outbox), 0, NULL},
    {"refused_at", OBJECT, AT(CountersState, refused_at), 0, NULL},
    {"refusals", OBJECT, AT(CountersState, refusals), 0, NULL},
    {"counts", OBJECT, AT(CountersState, counts), 0, NULL},
    {"layout", OBJECT, AT(CountersState, layout), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyObject *
counters_get_row(PyObject *op, void *closure)
{
    CountersState *self = (CountersState *)op;
    PyObject *row = self->shared_row ? self->shared_row : Py_None;
    Py_INCREF(row);
    return row;
}

static void
counters_drop_row(CountersState *self)
{
    if (self->row.obj != NULL)
        PyBuffer_Release(&self->row);
    Py_CLEAR(self->shared_row);
}

/* Take a memoryview of doubles, and hold its memory for as long as it is the row. */
static int
counters_set_row(PyObject *op, PyObject *row, void *closure)
{
    CountersState *self = (CountersState *)op;
    Py_buffer memory = {0};
    if (row == NULL) {
        PyErr_SetString(PyExc_AttributeError, "shared_row can't be deleted");
        return -1;
    }
    if (row != Py_None) {
        if (PyObject_GetBuffer(row, &memory, PyBUF_CONTIG | PyBUF_FORMAT) < 0)
            return -1;
        if (memory.itemsize != sizeof(double) || memory.format == NULL
            || strcmp(memory.format, "d") != 0 || memory.len < 10 * (Py_ssize_t)sizeof(double)) {
            PyBuffer_Release(&memory);
            PyErr_SetString(PyExc_TypeError, "shared_row must be a memoryview of doubles");
            return -1;
        }
    }
    counters_drop_row(self);
    Py_INCREF(row);
    self->shared_row = row;
    self->row = memory;
    return 0;
}

static PyGetSetDef counters_getset[] = {
    {"shared_row", counters_get_row, counters_set_row, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static int
counters_traverse(PyObject *op, visitproc visit, void *arg)
{
    CountersState *self = (CountersState *)op;
    Py_VISIT(self->now);
    Py_VISIT(self->outbox);
    Py_VISIT(self->refused_at);
    Py_VISIT(self->refusals);
    Py_VISIT(self->counts);
    Py_VISIT(self->layout);
    Py_VISIT(self->shared_row);
    return 0;
}

static int
counters_clear(PyObject *op)
{
    CountersState *self = (CountersState *)op;
    Py_CLEAR(self->now);
    Py_CLEAR(self->outbox);
    Py_CLEAR(self->refused_at);
    Py_CLEAR(self->refusals);
    Py_CLEAR(self->counts);
    Py_CLEAR(self->layout);
    counters_drop_row(self);
    return 0;
}

static void
counters_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    counters_clear(op);
    Py_TYPE(op)->tp_free(op);
}

PyTypeObject CountersState_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "resilient._core.CountersState",
    .tp_basicsize = sizeof(CountersState),
    .tp_members = counters_members,
    .tp_getset = counters_getset,
    .tp_traverse = counters_traverse,
    .tp_clear = counters_clear,
    .tp_dealloc = counters_dealloc,
};

/* -- windows and budgets: numbers only --------------------------------------------- */

static PyMemberDef window_members[] = {
    {"end", T_DOUBLE, AT(WindowState, end), 0, NULL},
    {"newest", T_LONGLONG, AT(WindowState, newest), 0, NULL},
    {"older", T_LONGLONG, AT(WindowState, older), 0, NULL},
    {"failures", T_LONGLONG, AT(WindowState, failures), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject WindowState_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "resilient._core.WindowState",
    .tp_basicsize = sizeof(WindowState),
    .tp_members = window_members,
};

static PyMemberDef budget_members[] = {
    {"calls", T_LONGLONG, AT(BudgetState, calls), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject BudgetState_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "resilient._core.BudgetState",
    .tp_basicsize = sizeof(BudgetState),
    .tp_members = budget_members,
};

static PyMemberDef timeout_members[] = {
    {"seconds", T_DOUBLE, AT(TimeoutState, seconds), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject TimeoutState_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "resilient._core.TimeoutState",
    .tp_basicsize = sizeof(TimeoutState),
    .tp_members = timeout_members,
};

/* -- the breaker --------------------------------------------- */

static PyMemberDef health_members[] = {
    {"consecutive", T_LONGLONG, AT(HealthState, consecutive), 0, NULL},
    {"minimum_calls", T_LONGLONG, AT(HealthState, minimum_calls), 0, NULL},
    {"failure_rate", OBJECT, AT(HealthState, failure_rate), 0, NULL},
    {"window", OBJECT, AT(HealthState, window), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static int
health_traverse(PyObject *op, visitproc visit, void *arg)
{
    HealthState *self = (HealthState *)op;
    Py_VISIT(self->failure_rate);
    Py_VISIT(self->window);
    return 0;
}

static int
health_clear(PyObject *op)
{
    HealthState *self = (HealthState *)op;
    Py_CLEAR(self->failure_rate);
    Py_CLEAR(self->window);
    return 0;
}

static void
health_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    health_clear(op);
    Py_TYPE(op)->tp_free(op);
}

PyTypeObject HealthState_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "resilient._core.HealthState",
    .tp_basicsize = sizeof(HealthState),
    .tp_members = health_members,
    .tp_traverse = health_traverse,
    .tp_clear = health_clear,
    .tp_dealloc = health_dealloc,
};

static PyMemberDef breaker_members[] = {
    {"_simple", T_LONGLONG, AT(BreakerState, simple), 0, NULL},
    {"serial", T_LONGLONG, AT(BreakerState, serial), 0, NULL},
    {"_refuses_until", T_DOUBLE, AT(BreakerState, refuses_until), 0, NULL},
    {"health", OBJECT, AT(BreakerState, health), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static int
breaker_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(((BreakerState *)op)->health);
    return 0;
}

static int
breaker_clear(PyObject *op)
{
    Py_CLEAR(((BreakerState *)op)->health);
    return 0;
}

static void
breaker_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    breaker_clear(op);
    Py_TYPE(op)->tp_free(op);
}

PyTypeObject BreakerState_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "resilient._core.BreakerState",
    .tp_basicsize = sizeof(BreakerState),
    .tp_members = breaker_members,
    .tp_traverse = breaker_traverse,
    .tp_clear = breaker_clear,
    .tp_dealloc = breaker_dealloc,
};

/* -- the bulkhead --------------------------------------------- */

static PyMemberDef bulkhead_members[] = {
    {"running", T_LONGLONG, AT(BulkheadState, running), 0, NULL},
    {"abandoned", T_LONGLONG, AT(BulkheadState, abandoned), 0, NULL},
    {"max_concurrent", T_LONGLONG, AT(BulkheadState, max_concurrent), 0, NULL},
    {"queue", OBJECT, AT(BulkheadState, queue), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static int
bulkhead_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(((BulkheadState *)op)->queue);
    return 0;
}

static int
bulkhead_clear(PyObject *op)
{
    Py_CLEAR(((BulkheadState *)op)->queue);
    return 0;
}

static void
bulkhead_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    bulkhead_clear(op);
    Py_TYPE(op)->tp_free(op);
}

PyTypeObject BulkheadState_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "resilient._core.BulkheadState",
    .tp_basicsize = sizeof(BulkheadState),
    .tp_members = bulkhead_members,
    .tp_traverse = bulkhead_traverse,
    .tp_clear = bulkhead_clear,
    .tp_dealloc = bulkhead_dealloc,
};

static PyMemberDef queue_members[] = {
    {"_line", OBJECT, AT(WaitQueueState, line), 0, NULL},
    {"_granted", OBJECT, AT(WaitQueueState, granted), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static int
queue_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(((WaitQueueState *)op)->line);
    Py_VISIT(((WaitQueueState *)op)->granted);
    return 0;
}

static int
queue_clear(PyObject *op)
{
    Py_CLEAR(((WaitQueueState *)op)->line);
    Py_CLEAR(((WaitQueueState *)op)->granted);
    return 0;
}

static void
queue_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    queue_clear(op);
    Py_TYPE(op)->tp_free(op);
}

PyTypeObject WaitQueueState_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "resilient._core.WaitQueueState",
    .tp_basicsize = sizeof(WaitQueueState),
    .tp_members = queue_members,
    .tp_traverse = queue_traverse,
    .tp_clear = queue_clear,
    .tp_dealloc = queue_dealloc,
};

/* -- the retry --------------------------------------------- */

static PyMemberDef retry_members[] = {
    {"typical", T_DOUBLE, AT(RetryState, typical), 0, NULL},
    {"hold", T_BOOL, AT(RetryState, hold), 0, NULL},
    {"budget", OBJECT, AT(RetryState, budget), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static int
retry_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(((RetryState *)op)->budget);
    return 0;
}

static int
retry_clear(PyObject *op)
{
    Py_CLEAR(((RetryState *)op)->budget);
    return 0;
}

static void
retry_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    retry_clear(op);
    Py_TYPE(op)->tp_free(op);
}

PyTypeObject RetryState_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "resilient._core.RetryState",
    .tp_basicsize = sizeof(RetryState),
    .tp_members = retry_members,
    .tp_traverse = retry_traverse,
    .tp_clear = retry_clear,
    .tp_dealloc = retry_dealloc,
};

/* -- deadlines --------------------------------------------- */

static PyMemberDef deadline_members[] = {
    {"when", T_DOUBLE, AT(DeadlineState, when), 0, NULL},
    {"terms", OBJECT, AT(DeadlineState, terms), 0, NULL},
    {"outer", OBJECT, AT(DeadlineState, outer), 0, NULL},
    {"cuts", OBJECT, AT(DeadlineState, cuts), 0, NULL},
    {"task", T_OBJECT, AT(DeadlineState, task), 0, NULL}, /* None where it is unset */
    {"cancelling", T_LONGLONG, AT(DeadlineState, cancelling), 0, NULL},
    {"open", T_BOOL, AT(DeadlineState, open), 0, NULL},
    {"fired", T_BOOL, AT(DeadlineState, fired), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static int
deadline_traverse(PyObject *op, visitproc visit, void *arg)
{
    DeadlineState *self = (DeadlineState *)op;
    Py_VISIT(self->terms);
    Py_VISIT(self->outer);
    Py_VISIT(self->cuts);
    Py_VISIT(self->task);
    return 0;
}

static int
deadline_clear(PyObject *op)
{
    DeadlineState *self = (DeadlineState *)op;
    Py_CLEAR(self->terms);
    Py_CLEAR(self->outer);
    Py_CLEAR(self->cuts);
    Py_CLEAR(self->task);
    return 0;
}

static void
deadline_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    deadline_clear(op);
    Py_TYPE(op)->tp_free(op);
}

PyTypeObject DeadlineState_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "resilient._core.DeadlineState",
    .tp_basicsize = sizeof(DeadlineState),
    .tp_members = deadline_members,
    .tp_traverse = deadline_traverse,
    .tp_clear = deadline_clear,
    .tp_dealloc = deadline_dealloc,
};

static PyMemberDef timer_members[] = {
    {"loop", OBJECT, AT(TimeoutQueueState, loop), 0, NULL},
    {"entries", OBJECT, AT(TimeoutQueueState, entries), 0, NULL},
    {"handle", OBJECT, AT(TimeoutQueueState, handle), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static int
timer_traverse(PyObject *op, visitproc visit, void *arg)
{
    TimeoutQueueState *self = (TimeoutQueueState *)op;
    Py_VISIT(self->loop);
    Py_VISIT(self->entries);
    Py_VISIT(self->handle);
    return 0;
}

static int
timer_clear(PyObject *op)
{
    TimeoutQueueState *self = (TimeoutQueueState *)op;
    Py_CLEAR(self->loop);
    Py_CLEAR(self->entries);
    Py_CLEAR(self->handle);
    return 0;
}

static void
timer_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    timer_clear(op);
    Py_TYPE(op)->tp_free(op);
}

PyTypeObject TimeoutQueueState_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "resilient._core.TimeoutQueueState",
    .tp_basicsize = sizeof(TimeoutQueueState),
    .tp_members = timer_members,
    .tp_traverse = timer_traverse,
    .tp_clear = timer_clear,
    .tp_dealloc = timer_dealloc,
};

/* -- all of them --------------------------------------------- */

int
add_state_types(PyObject *module)
{
    PyTypeObject *types[] = {
        &CountersState_Type, &WindowState_Type, &HealthState_Type, &BreakerState_Type,
        &BulkheadState_Type, &WaitQueueState_Type, &BudgetState_Type, &RetryState_Type,
        &TimeoutState_Type, &DeadlineState_Type, &TimeoutQueueState_Type, &PaceState_Type,
        &RateLimitState_Type,
    };
    for (size_t place = 0; place < Py_ARRAY_LENGTH(types); place++) {
        PyTypeObject *type = types[place];
        type->tp_new = PyBaseObject_Type.tp_new; /* it keeps attributes of subclasses compact */
        type->tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE;
        if (type->tp_traverse != NULL)
            type->tp_flags |= Py_TPFLAGS_HAVE_GC;
        if (PyModule_AddType(module, type) < 0)
            return -1;
    }
    return 0;
}
