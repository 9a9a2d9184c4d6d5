/* The objects of a fast path, and the two sections on both sides of the body. */
#include "path.h"
#include <structmember.h>

Settings given;

/* -- time --------------------------------------------- */

double
monotonic_now(void)
{
#if PY_VERSION_HEX >= 0x030d0000
    PyTime_t now;
    if (PyTime_Monotonic(&now) < 0)
        return -1.0;
    return PyTime_AsSecondsDouble(now);
#else
    return _PyTime_AsSecondsDouble(_PyTime_GetMonotonicClock());
#endif
}

int
time_of(CountersState *core, double *now)
{
    if (core->now == given.monotonic) {
        *now = monotonic_now();
        return 0;
    }
    PyObject *clock = core->now;
    if (clock == NULL) {
        PyErr_SetString(PyExc_AttributeError, "now");
        return -1;
    }
    Py_INCREF(clock);
    PyObject *told = PyObject_CallNoArgs(clock);
    Py_DECREF(clock);
    if (told == NULL)
        return -1;
    *now = PyFloat_AsDouble(told);
    Py_DECREF(told);
    return *now == -1.0 && PyErr_Occurred() ? -1 : 0;
}

int
renew_terms(FastPath *path)
{
    double seconds = path->limit->seconds;
    PyObject *clock = path->core->now;
    if (clock == NULL) {
        PyErr_SetString(PyExc_AttributeError, "now");
        return -1;
    }
    if (path->terms != NULL && seconds == path->seconds && clock == path->clock)
        return 0;
    Py_INCREF(clock);
    PyObject *limit = PyFloat_FromDouble(seconds), *terms = NULL;
    if (limit != NULL)
        terms = PyObject_CallMethodObjArgs(path->ends, names.terms, limit, clock, NULL);
    Py_XDECREF(limit);
    if (terms == NULL) {
        Py_DECREF(clock);
        return -1;
    }
    Py_XSETREF(path->terms, terms);
    path->seconds = seconds;
    Py_XSETREF(path->clock, clock);
    Py_INCREF(Py_None);
    Py_XSETREF(path->timers, Py_None); /* they are of the old limit */
    return 0;
}

PyObject *
new_deadline(FastPath *path, double now)
{
    PyTypeObject *type = (PyTypeObject *)path->deadline_type;
    DeadlineState *own = (DeadlineState *)type->tp_alloc(type, 0);
    if (own == NULL)
        return NULL;
    own->when = now + path->seconds;
    Py_INCREF(path->terms);
    own->terms = path->terms;
    Py_INCREF(Py_None);
    own->outer = Py_None;
    own->open = 1;
    return (PyObject *)own;
}

int
close_deadline(Pass *pass, int reset)
{
    DeadlineState *own = (DeadlineState *)pass->deadline;
    if (own == NULL)
        return 0;
    own->open = 0;
    if (!reset)
        return 0; /* a closed deadline in the context binds nothing */
    PyObject *current;
    if (PyContextVar_Get(given.current, NULL, &current) < 0)
        return -1;
    int is_own = current == (PyObject *)own;
    Py_XDECREF(current);
    if (!is_own)
        return 0;
    PyObject *token = PyContextVar_Set(given.current, Py_None);
    Py_XDECREF(token);
    return token == NULL ? -1 : 0;
}

PyObject *
handle(PyObject *error)
{
    PyObject *before = PyErr_GetHandledException();
    PyErr_SetHandledException(error);
    return before;
}

void
handled_before(PyObject *before)
{
    /* A generator that runs here handles nothing of its own: what was seen is its caller's. */
    PyErr_SetHandledException(NULL);
    PyObject *seen = PyErr_GetHandledException();
    if (seen != before)
        PyErr_SetHandledException(before);
    Py_XDECREF(seen);
    Py_XDECREF(before);
}

/* -- passes --------------------------------------------- */

enum { MOST_FREE = 32 };
static Pass *free_passes[MOST_FREE];
static int free_number;
static Pass *newest; /* of the sync calls in flight, of all threads */

static Pass *
new_pass(FastPath *path)
{
    Pass *pass;
    if (free_number > 0) {
        pass = free_passes[--free_number];
        (void)PyObject_Init((PyObject *)pass, &Pass_Type);
    }
    else {
        pass = PyObject_GC_New(Pass, &Pass_Type);
        if (pass == NULL)
            return NULL;
    }
    Py_INCREF(path);
    pass->path = path;
    pass->began = pass->ended = pass->step = pass->spent = 0.0;
    pass->deadline = pass->entries = NULL;
    pass->greenlet = NULL;
    pass->thread = 0;
    pass->booked = 1; /* until it has tickets */
    pass->in_body = 0;
    pass->before = pass->after = NULL;
    return pass;
}

void
list_pass(Pass *pass)
{
    pass->thread = PyThread_get_thread_ident();
    pass->in_body = 1;
    pass->before = newest;
    pass->after = NULL;
    if (newest != NULL)
        newest->after = pass;
    newest = pass;
}

void
unlist_pass(Pass *pass)
{
    if (!pass->in_body)
        return;
    pass->in_body = 0;
    if (pass->after != NULL)
        pass->after->before = pass->before;
    else
        newest = pass->before;
    if (pass->before != NULL)
        pass->before->after = pass->after;
    pass->before = pass->after = NULL;
}

void
show_pass(Pass *pass)
{
    if (!PyObject_GC_IsTracked((PyObject *)pass))
        PyObject_GC_Track(pass);
}

/* The tickets in the form that Python's sections take: one for one guard, else all of them. */
PyObject *
tickets_of(Pass *pass)
{
    Py_ssize_t number = pass->path->number;
    if (number < 2)
        return PyLong_FromLongLong(number == 0 ? 0 : pass->tickets[0]);
    PyObject *tickets = PyList_New(number);
    if (tickets == NULL)
        return NULL;
    for (Py_ssize_t place = 0; place < number; place++) {
        PyObject *ticket = PyLong_FromLongLong(pass->tickets[place]);
        if (ticket == NULL) {
            Py_DECREF(tickets);
            return NULL;
        }
        PyList_SET_ITEM(tickets, place, ticket);
    }
    return tickets;
}

int
give_back(Pass *pass)
{
    if (pass->booked)
        return 0;
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    unlist_pass(pass);
    int failed = leave_to_outbox(pass) < 0;
    pass->booked = !failed;
    failed |= close_deadline(pass, 1) < 0;
    if (failed)
        PyErr_WriteUnraisable((PyObject *)pass->path);
    PyErr_Restore(type, value, trace);
    return failed ? -1 : 0;
}

/* Have the outbox emptied: nobody ends what was dropped, and somebody may wait for its slot. */
static void
flush(CountersState *core)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyObject *done = PyObject_CallMethodNoArgs((PyObject *)core, names.flush);
    if (done == NULL && PyErr_ExceptionMatches(PyExc_RecursionError))
        PyErr_Clear(); /* the next section does it */
    if (done == NULL && PyErr_Occurred())
        PyErr_WriteUnraisable((PyObject *)core);
    Py_XDECREF(done);
    PyErr_Restore(type, value, trace);
}

static int
pass_traverse(PyObject *op, visitproc visit, void *arg)
{
    Pass *pass = (Pass *)op;
    Py_VISIT(pass->path);
    Py_VISIT(pass->deadline);
    Py_VISIT(pass->entries);
    return 0;
}

static void
pass_dealloc(PyObject *op)
{
    Pass *pass = (Pass *)op;
    if (PyObject_GC_IsTracked(op))
        PyObject_GC_UnTrack(op);
    unlist_pass(pass);
    if (!pass->booked && give_back(pass) == 0 && pass->path->detached)
        flush(pass->path->core);
    Py_CLEAR(pass->deadline);
    Py_CLEAR(pass->entries);
    Py_CLEAR(pass->path);
    if (free_number < MOST_FREE)
        free_passes[free_number++] = pass;
    else
        PyObject_GC_Del(pass);
}

static PyObject *
pass_hand_over(PyObject *op, PyObject *unused)
{
    Pass *pass = (Pass *)op;
    if (pass->booked) {
        PyErr_SetString(PyExc_RuntimeError, "it was booked, or handed over, before");
        return NULL;
    }
    pass->booked = 1;
    unlist_pass(pass);
    Py_RETURN_NONE;
}

static PyObject *
pass_give_back(PyObject *op, PyObject *unused)
{
    (void)give_back((Pass *)op);
    Py_RETURN_NONE;
}

static PyObject *
pass_lift(PyObject *op, PyObject *unused)
{
    if (lift_limit((Pass *)op) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
pass_pipeline(PyObject *op, void *closure)
{
    PyObject *pipeline = ((Pass *)op)->path->pipeline;
    Py_INCREF(pipeline);
    return pipeline;
}

static PyMethodDef pass_methods[] = {
    {"hand_over", pass_hand_over, METH_NOARGS,
     "Leave what it holds to the caller, who books it."},
    {"give_back", pass_give_back, METH_NOARGS, "Have the outbox give back what it holds."},
    {"begin_step", pass_begin_step, METH_NOARGS,
     "Begin another step of a stream; return False where that is not usual."},
    {"end_step", pass_end_step, METH_O, "End a step, which gave an item or ended the stream."},
    {"lift", pass_lift, METH_NOARGS, "Take its deadline out of the queue of its timer."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef pass_members[] = {
    {"began", T_DOUBLE, offsetof(Pass, began), READONLY, NULL},
    {"ended", T_DOUBLE, offsetof(Pass, ended), READONLY, NULL},
    {"step", T_DOUBLE, offsetof(Pass, step), READONLY, NULL},
    {"spent", T_DOUBLE, offsetof(Pass, spent), READONLY, NULL},
    {"deadline", T_OBJECT, offsetof(Pass, deadline), READONLY, NULL},
    {"booked", T_BOOL, offsetof(Pass, booked), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyObject *
pass_tickets(PyObject *op, void *closure)
{
    return tickets_of((Pass *)op);
}

static PyGetSetDef pass_getset[] = {
    {"tickets", pass_tickets, NULL, NULL, NULL},
    {"pipeline", pass_pipeline, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject Pass_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "resilient._core.Pass",
    .tp_basicsize = sizeof(Pass),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_traverse = pass_traverse,
    .tp_dealloc = pass_dealloc,
    .tp_methods = pass_methods,
    .tp_members = pass_members,
    .tp_getset = pass_getset,
};

void *
greenlet_here(void)
{
    if (given.getcurrent == NULL) {
        PyObject *module = PyDict_GetItemWithError(PyImport_GetModuleDict(), names.greenlet);
        if (module != NULL)
            given.getcurrent = PyObject_GetAttr(module, names.getcurrent);
        if (given.getcurrent == NULL) {
            PyErr_Clear(); /* it is not imported, or not yet as a whole */
            return NULL;
        }
    }
    PyObject *greenlet = PyObject_CallNoArgs(given.getcurrent);
    if (greenlet == NULL)
        PyErr_Clear();
    Py_XDECREF(greenlet); /* it runs, so it lives */
    return greenlet;
}

/* Return whether a greenlet is the one that its thread begins with: 1, or 0. */
static int
is_first(PyObject *greenlet)
{
    PyObject *parent = greenlet == NULL ? NULL : PyObject_GetAttr(greenlet, names.parent);
    if (greenlet != NULL && parent == NULL)
        PyErr_Clear();
    Py_XDECREF(parent);
    return greenlet == NULL || parent == Py_None;
}

PyObject *
passes_here(PyObject *module, PyObject *unused)
{
    unsigned long thread = PyThread_get_thread_ident();
    void *greenlet = greenlet_here();
    int first = is_first(greenlet); /* it runs what was entered before there were greenlets */
    PyObject *found = PyList_New(0);
    for (Pass *pass = newest; found != NULL && pass != NULL; pass = pass->before) {
        int ours = pass->greenlet == NULL ? first : pass->greenlet == greenlet;
        if (pass->thread != thread || !ours)
            continue;
        show_pass(pass);
        if (PyList_Append(found, (PyObject *)pass) < 0)
            Py_CLEAR(found);
    }
    return found;
}

/* In a forked child: the other threads are gone, and a new one may have the name of one of them. */
PyObject *
forget_others(PyObject *module, PyObject *unused)
{
    unsigned long thread = PyThread_get_thread_ident();
    Pass *pass = newest;
    while (pass != NULL) {
        Pass *next = pass->before;
        if (pass->thread != thread)
            unlist_pass(pass);
        pass = next;
    }
    Py_RETURN_NONE;
}

/* -- the two sections --------------------------------------------- */

/* Look at all guards; on ENTERED the tickets are in the pass, and nothing has changed yet. */
static Entry
look(FastPath *path, double now, Pass *pass, Py_ssize_t *place)
{
    CountersState *core = path->core;
    if (core->gate != 0 || now >= core->peak_until || core->outbox == NULL
        || !PyList_Check(core->outbox) || PyList_GET_SIZE(core->outbox) != 0)
        return NOT_USUAL;
    for (Py_ssize_t at = 0; at < path->number; at++) {
        whole ticket = path->places[at].rule->look(path->places[at].guard, now);
        if (ticket >= 0) {
            pass->tickets[at] = ticket;
            continue;
        }
        *place = at;
        return ticket == REFUSES && path->answers ? REFUSED : NOT_USUAL;
    }
    return ENTERED;
}

Entry
enter(FastPath *path, PyObject *deadline, double now, Pass **made, Py_ssize_t *place)
{
    Pass *pass = new_pass(path); /* first: it may collect garbage, which may run any code */
    if (pass == NULL) {
        Py_XDECREF(deadline);
        return FAULT;
    }
    pass->deadline = deadline;
    pass->began = pass->step = now;
    pass->greenlet = greenlet_here();
    Entry entry = look(path, now, pass, place);
    if (entry != ENTERED) {
        Py_DECREF(pass);
        return entry;
    }
    CountersState *core = path->core;
    for (Py_ssize_t at = 0; at < path->number; at++)
        path->places[at].rule->take(path->places[at].guard);
    core->in_flight++;
    if (core->in_flight > core->peak)
        core->peak = core->in_flight;
    if (core->row.obj != NULL)
        ((double *)core->row.buf)[given.row_in_flight] = (double)core->in_flight;
    pass->booked = 0;
    *made = pass;
    return ENTERED;
}

double
duration_of(Pass *pass)
{
    return pass->spent + (pass->ended - pass->step);
}

int
is_usual(Pass *pass)
{
    FastPath *path = pass->path;
    CountersState *core = path->core;
    double duration = duration_of(pass);
    if (core->gate != 0 || pass->began < core->counting_since)
        return 0;
    if (duration > given.shortest)
        return 0;
    for (Py_ssize_t at = path->number - 1; at >= 0; at--) {
        Place *place = &path->places[at];
        if (!place->rule->is_usual(place->guard, pass->tickets[at], pass->ended, duration))
            return 0;
    }
    return 1;
}

static int
leave_in_python(Pass *pass)
{
    PyObject *tickets = tickets_of(pass);
    if (tickets == NULL)
        return -1;
    PyObject *done =
        PyObject_CallFunction(pass->path->leave, "Ndd", tickets, pass->began, pass->ended);
    if (done == NULL) {
        /* At the end of the stack it books nothing; an interrupt may have come after it did. */
        if (!PyErr_ExceptionMatches(PyExc_RecursionError))
            pass->booked = 1;
        return -1;
    }
    pass->booked = 1;
    Py_DECREF(done);
    return 0;
}

int
leave(Pass *pass)
{
    FastPath *path = pass->path;
    CountersState *core = path->core;
    double duration = duration_of(pass);
    unlist_pass(pass);
    if (!is_usual(pass))
        return leave_in_python(pass);
    for (Py_ssize_t at = path->number - 1; at >= 0; at--)
        path->places[at].rule->give(path->places[at].guard, duration);
    core->in_flight--;
    core->duration_sum += duration;
    core->quick++;
    pass->booked = 1;
    if (core->row.obj != NULL) {
        double *row = core->row.buf;
        row[given.row_quick] = (double)core->quick;
        row[given.row_duration_sum] = core->duration_sum;
        row[given.row_in_flight] = (double)core->in_flight;
    }
    if (core->outbox == NULL || !PyList_Check(core->outbox) || PyList_GET_SIZE(core->outbox) == 0)
        return 0;
    PyObject *done = PyObject_CallMethodNoArgs((PyObject *)core, names.flush);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}
