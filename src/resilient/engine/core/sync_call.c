/* Call a plain function through its path: what `untimed` and `timed` of engine/sync/twins.py do. */
#include "path.h"

/* Return whether no deadline of the context matters: 1, 0, or -1 with an exception. */
static int
is_unbound(FastPath *path, double now)
{
    PyObject *seen;
    if (PyContextVar_Get(given.current, NULL, &seen) < 0)
        return -1;
    int unbound = 1;
    PyObject *at = seen;
    while (unbound && at != NULL && at != Py_None) {
        if (!PyObject_TypeCheck(at, &DeadlineState_Type)) {
            unbound = 0;
            break;
        }
        DeadlineState *outer = (DeadlineState *)at;
        if (path->limit != NULL) /* the twin finds the tightest */
            unbound = !outer->open && (outer->outer == NULL || outer->outer == Py_None);
        else
            unbound = !(outer->open && now >= outer->when);
        at = outer->outer;
    }
    Py_XDECREF(seen);
    return unbound;
}

/* Enter; on ENTERED the deadline is in the context. */
static Entry
enter_sync(FastPath *path, Pass **made, Py_ssize_t *place, double *now)
{
    PyObject *deadline = NULL;
    if (path->core->gate != 0)
        return NOT_USUAL;
    if (path->limit != NULL && renew_terms(path) < 0)
        return FAULT;
    if (time_of(path->core, now) < 0)
        return FAULT;
    int unbound = is_unbound(path, *now);
    if (unbound != 1)
        return unbound == 0 ? NOT_USUAL : FAULT;
    if (path->limit != NULL && (deadline = new_deadline(path, *now)) == NULL)
        return FAULT;
    Entry entry = enter(path, deadline, *now, made, place);
    if (entry == ENTERED && deadline != NULL) {
        PyObject *token = PyContextVar_Set(given.current, deadline);
        if (token == NULL) {
            Py_CLEAR(*made); /* gives itself back */
            return FAULT;
        }
        Py_DECREF(token);
    }
    return entry;
}

/* Enter for a block or a stream: no call of the path follows, and its end comes to `leave`. */
PyObject *
path_enter_here(PyObject *op, PyObject *unused)
{
    Pass *pass = NULL;
    Py_ssize_t place;
    double now;
    switch (enter_sync((FastPath *)op, &pass, &place, &now)) {
    case FAULT:
        return NULL;
    case ENTERED:
        show_pass(pass);
        return (PyObject *)pass;
    default:
        Py_RETURN_NONE;
    }
}

/* Have Python end a call whose body returned or raised; it takes over the pass. */
static PyObject *
end_in_python(Pass *pass, PyObject *how, PyObject *outcome, PyObject *const *args, size_t nargsf,
              PyObject *kwnames)
{
    PyObject *tuple, *dict;
    if (arguments(args, nargsf, kwnames, &tuple, &dict) < 0)
        return NULL;
    show_pass(pass);
    PyObject *value =
        PyObject_CallMethodObjArgs(pass->path->ends, how, pass, tuple, dict, outcome, NULL);
    Py_DECREF(tuple);
    Py_DECREF(dict);
    if (value == NULL)
        (void)give_back(pass); /* now: the traceback may keep the pass for long */
    return value;
}

/* Book a plain failure; return 1, 0 where it is not plain, -1 with an exception. */
static int
has_failed(Pass *pass, PyObject *error)
{
    if (pass->path->fails == Py_None)
        return 0;
    PyObject *tickets = tickets_of(pass), *began = PyFloat_FromDouble(pass->began), *told = NULL;
    if (tickets != NULL && began != NULL) {
        show_pass(pass);
        told = PyObject_CallFunctionObjArgs(pass->path->fails, pass, tickets, began, error, NULL);
    }
    Py_XDECREF(tickets);
    Py_XDECREF(began);
    int booked = told == NULL ? -1 : told == Py_True;
    if (booked < 0)
        (void)give_back(pass);
    Py_XDECREF(told);
    return booked;
}

/* The body raised. Python decides what the caller gets, while the error is being handled. */
static PyObject *
raised(Pass *pass, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (trace != NULL)
        (void)PyException_SetTraceback(error, trace);
    PyObject *value = NULL;
    int booked = -1;
    if (close_deadline(pass, 1) == 0) {
        PyObject *before = handle(error);
        booked = has_failed(pass, error);
        if (booked == 0)
            value = end_in_python(pass, names.raised, error, args, nargsf, kwnames);
        handled_before(before);
    }
    if (booked == 1 || value == given.raise_it) {
        Py_CLEAR(value);
        PyErr_Restore(type, error, trace);
        return NULL;
    }
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(trace);
    return value;
}

/* Return whether a value, of a type that was not seen last, ends the call: 1, 0, -1. */
static int
is_plain(FastPath *path, PyObject *value)
{
    PyObject *told = PyObject_CallMethodOneArg(path->ends, names.is_unusual, value);
    if (told == NULL)
        return -1;
    int unusual = PyObject_IsTrue(told);
    Py_DECREF(told);
    if (unusual == 0) {
        PyTypeObject *type = Py_TYPE(value);
        Py_INCREF(type);
        Py_XSETREF(path->plain, type);
    }
    return unusual < 0 ? -1 : !unusual;
}

/* The body returned, a value that this takes over. */
static PyObject *
returned(Pass *pass, PyObject *value, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    FastPath *path = pass->path;
    int plain = Py_TYPE(value) == path->plain ? 1 : is_plain(path, value);
    int timed = plain == 1 ? time_of(path->core, &pass->ended) : 0;
    if (plain < 0 || timed < 0) {
        Py_DECREF(value);
        if (timed < 0 && path->limit == NULL) /* a clock that raised is no failure of the body */
            return NULL;
        return raised(pass, args, nargsf, kwnames);
    }
    DeadlineState *own = (DeadlineState *)pass->deadline;
    if (!plain || (own != NULL && pass->ended >= own->when)) {
        PyObject *ended = end_in_python(pass, names.returned, value, args, nargsf, kwnames);
        Py_DECREF(value);
        return ended;
    }
    if (leave(pass) < 0) {
        Py_DECREF(value);
        return NULL;
    }
    if (path->keep == Py_None)
        return value;
    PyObject *tuple, *dict, *done = NULL;
    if (arguments(args, nargsf, kwnames, &tuple, &dict) == 0) {
        done = PyObject_CallFunction(path->keep, "OOOd", value, tuple, dict, pass->ended);
        Py_DECREF(tuple);
        Py_DECREF(dict);
    }
    if (done == NULL)
        Py_CLEAR(value);
    Py_XDECREF(done);
    return value;
}

static PyObject *
call_twin(FastPath *path, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    PyObject *twin = twin_of(path);
    return twin == NULL ? NULL : PyObject_Vectorcall(twin, args, nargsf, kwnames);
}

PyObject *
call_sync(PyObject *op, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    FastPath *path = (FastPath *)op;
    Pass *pass = NULL;
    Py_ssize_t place = 0;
    double now = 0.0;
    PyObject *value;
    switch (enter_sync(path, &pass, &place, &now)) {
    case FAULT:
        return NULL;
    case NOT_USUAL:
        return call_twin(path, args, nargsf, kwnames);
    case REFUSED:
        value = answer_refusal(path, place, now, args, nargsf, kwnames);
        if (value == NULL && !PyErr_Occurred())
            return call_twin(path, args, nargsf, kwnames);
        return value;
    case ENTERED:
        break;
    }
    Py_INCREF(path);
    list_pass(pass);
    value = PyObject_Vectorcall(path->fn, args, nargsf, kwnames);
    if (pass->deadline != NULL)
        ((DeadlineState *)pass->deadline)->open = 0;
    if (value == NULL)
        value = raised(pass, args, nargsf, kwnames);
    else
        value = returned(pass, value, args, nargsf, kwnames);
    Py_DECREF(pass);
    Py_DECREF(path);
    return value;
}
