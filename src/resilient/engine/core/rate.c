/* The rate limit: its fields, and its rule. Time is counted in parts: a second has 2**64 ticks, and a
   tick has as many parts as a period has calls; see guards/rate_limit/pace.py. */
#include "rate.h"
#include <structmember.h>

#define AT(type, field) offsetof(type, field)

/* -- whole numbers of 128 bits as attributes --------------------------------------------- */

#ifdef __SIZEOF_INT128__

static PyObject *
wide_get(PyObject *op, void *offset)
{
    wide value = *(wide *)((char *)op + (Py_ssize_t)offset);
    PyObject *high = PyLong_FromLongLong((long long)(value >> 64));
    PyObject *low = PyLong_FromUnsignedLongLong((unsigned long long)value);
    PyObject *width = PyLong_FromLong(64), *shifted = NULL, *whole_value = NULL;
    if (high != NULL && low != NULL && width != NULL)
        shifted = PyNumber_Lshift(high, width);
    if (shifted != NULL)
        whole_value = PyNumber_Or(shifted, low);
    Py_XDECREF(high);
    Py_XDECREF(low);
    Py_XDECREF(width);
    Py_XDECREF(shifted);
    return whole_value;
}

static int
wide_set(PyObject *op, PyObject *value, void *offset)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "it can't be deleted");
        return -1;
    }
    unsigned long long low = PyLong_AsUnsignedLongLongMask(value);
    if (low == (unsigned long long)-1 && PyErr_Occurred())
        return -1;
    PyObject *width = PyLong_FromLong(64);
    PyObject *shifted = width == NULL ? NULL : PyNumber_Rshift(value, width);
    Py_XDECREF(width);
    if (shifted == NULL)
        return -1;
    long long high = PyLong_AsLongLong(shifted);
    Py_DECREF(shifted);
    if (high == -1 && PyErr_Occurred())
        return -1;
    *(wide *)((char *)op + (Py_ssize_t)offset) = (wide)(((uwide)(unsigned long long)high << 64) | low);
    return 0;
}

static PyGetSetDef pace_fields[] = {
    {"parts", wide_get, wide_set, NULL, (void *)AT(PaceState, parts)},
    {"before", wide_get, wide_set, NULL, (void *)AT(PaceState, before)},
    {"step", wide_get, wide_set, NULL, (void *)AT(PaceState, step)},
    {"ahead", wide_get, wide_set, NULL, (void *)AT(PaceState, ahead)},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef pace_members[] = {
    {"max_calls", T_LONGLONG, AT(PaceState, max_calls), 0, NULL},
    {"last", T_LONGLONG, AT(PaceState, last), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

#else /* such numbers are objects, and the rule below never says yes */

static PyMemberDef pace_members[] = {
    {"parts", T_OBJECT_EX, AT(PaceState, parts), 0, NULL},
    {"before", T_OBJECT_EX, AT(PaceState, before), 0, NULL},
    {"step", T_OBJECT_EX, AT(PaceState, step), 0, NULL},
    {"ahead", T_OBJECT_EX, AT(PaceState, ahead), 0, NULL},
    {"max_calls", T_LONGLONG, AT(PaceState, max_calls), 0, NULL},
    {"last", T_LONGLONG, AT(PaceState, last), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static void
pace_dealloc(PyObject *op)
{
    PaceState *self = (PaceState *)op;
    Py_CLEAR(self->parts);
    Py_CLEAR(self->before);
    Py_CLEAR(self->step);
    Py_CLEAR(self->ahead);
    Py_TYPE(op)->tp_free(op);
}

#endif

PyTypeObject PaceState_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "resilient._core.PaceState",
    .tp_basicsize = sizeof(PaceState),
    .tp_members = pace_members,
#ifdef __SIZEOF_INT128__
    .tp_getset = pace_fields,
#else
    .tp_dealloc = pace_dealloc,
#endif
};

/* -- the guard --------------------------------------------- */

static PyMemberDef rate_limit_members[] = {
    {"pace", T_OBJECT_EX, AT(RateLimitState, pace), 0, NULL},
    {"line", T_OBJECT_EX, AT(RateLimitState, line), 0, NULL},
    {"max_wait", T_DOUBLE, AT(RateLimitState, max_wait), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static int
rate_limit_traverse(PyObject *op, visitproc visit, void *arg)
{
    RateLimitState *self = (RateLimitState *)op;
    Py_VISIT(self->pace);
    Py_VISIT(self->line);
    return 0;
}

static int
rate_limit_clear(PyObject *op)
{
    RateLimitState *self = (RateLimitState *)op;
    Py_CLEAR(self->pace);
    Py_CLEAR(self->line);
    return 0;
}

static void
rate_limit_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    rate_limit_clear(op);
    Py_TYPE(op)->tp_free(op);
}

PyTypeObject RateLimitState_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "resilient._core.RateLimitState",
    .tp_basicsize = sizeof(RateLimitState),
    .tp_members = rate_limit_members,
    .tp_traverse = rate_limit_traverse,
    .tp_clear = rate_limit_clear,
    .tp_dealloc = rate_limit_dealloc,
};

/* -- the rule --------------------------------------------- */

#ifdef __SIZEOF_INT128__

/* Between these, in seconds, a double is a whole number of ticks, and no sum is too large. */
static const double EARLIEST = 1.0 / 4096, LATEST = 4294967296.0;
static const double TICKS = 18446744073709551616.0; /* of a second: 2**64 */

/* RateLimit.admit, where nobody waits */
static whole
rate_limit_look(PyObject *guard, double now)
{
    RateLimitState *self = (RateLimitState *)guard;
    if (self->pace == NULL || !PyObject_TypeCheck(self->pace, &PaceState_Type))
        return UNUSUAL; /* a quota */
    if (self->line == NULL || !PyDict_Check(self->line) || PyDict_GET_SIZE(self->line) != 0)
        return UNUSUAL;
    if (!(now >= EARLIEST && now < LATEST))
        return UNUSUAL;
    PaceState *pace = (PaceState *)self->pace;
    wide here = (wide)(now * TICKS) * pace->max_calls;
    if (pace->parts - pace->ahead > here)
        return self->max_wait == 0.0 ? REFUSES : UNUSUAL;
    pace->next = (pace->parts > here ? pace->parts : here) + pace->step;
    return pace->last + 1;
}

/* Smooth.take */
static void
rate_limit_take(PyObject *guard)
{
    PaceState *pace = (PaceState *)((RateLimitState *)guard)->pace;
    pace->before = pace->parts;
    pace->parts = pace->next;
    pace->last++;
}

#else

static whole
rate_limit_look(PyObject *guard, double now)
{
    return UNUSUAL;
}

static void
rate_limit_take(PyObject *guard)
{
}

#endif

/* RateLimit.settle_success */
static int
rate_limit_is_usual(PyObject *guard, whole ticket, double now, double duration)
{
    return 1;
}

static void
rate_limit_give(PyObject *guard, double duration)
{
}

const Rule rate_limit_rule = {rate_limit_look, rate_limit_take, rate_limit_is_usual, rate_limit_give};
