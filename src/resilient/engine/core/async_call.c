/* Before and after the body of a coroutine function: what `timed` and `untimed` of engine/aio/twins.py do. */
#include "path.h"

/* Return the queue of time limits for a loop, a new reference; NULL with an exception. */
static TimeoutQueueState *
timers_of(FastPath *path, PyObject *loop)
{
    PyObject *found = NULL;
    if (path->timers != NULL && path->timers != Py_None) {
#if PY_VERSION_HEX >= 0x030d0000
        if (PyWeakref_GetRef(path->timers, &found) < 0)
            return NULL;
#else
        found = PyWeakref_GetObject(path->timers);
        Py_XINCREF(found);
#endif
        if (found != NULL && found != Py_None && ((TimeoutQueueState *)found)->loop == loop)
            return (TimeoutQueueState *)found;
        Py_CLEAR(found);
    }
    PyObject *seconds = PyFloat_FromDouble(path->seconds);
    if (seconds == NULL)
        return NULL;
    found = PyObject_CallMethodObjArgs(path->ends, names.timers, loop, seconds, NULL);
    Py_DECREF(seconds);
    if (found == NULL)
        return NULL;
    PyObject *weak = PyObject_TypeCheck(found, &TimeoutQueueState_Type)
                         ? PyWeakref_NewRef(found, NULL) : NULL;
    if (weak == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "not a TimeoutQueueState");
        Py_DECREF(found);
        return NULL;
    }
    Py_XSETREF(path->timers, weak);
    return (TimeoutQueueState *)found;
}

/* Return an entry for the running task, and its queue; 0 where there is none, -1 on an exception. */
static int
new_entry(FastPath *path, double now, PyObject **made, TimeoutQueueState **timers)
{
    if (given.running_loop == NULL || given.task_in == NULL)
        return 0;
    PyObject *loop = PyObject_CallNoArgs(given.running_loop);
    if (loop == NULL || loop == Py_None) {
        Py_XDECREF(loop);
        return loop == NULL ? -1 : 0;
    }
    int known = -1;
    DeadlineState *own = NULL;
    PyObject *before = NULL;
    PyObject *task = PyObject_CallOneArg(given.task_in, loop);
    if (task == NULL)
        goto done;
    if (task == Py_None) {
        known = 0;
        goto done;
    }
    *timers = timers_of(path, loop);
    if (*timers == NULL)
        goto done;
    before = PyObject_CallMethodNoArgs(task, names.cancelling);
    if (before == NULL)
        goto done;
    own = (DeadlineState *)new_deadline(path, now);
    if (own == NULL)
        goto done;
    own->cancelling = PyLong_AsLongLong(before);
    if (own->cancelling == -1 && PyErr_Occurred())
        goto done;
    Py_INCREF(task);
    own->task = task;
    *made = (PyObject *)own;
    own = NULL;
    known = 1;
done:
    if (known != 1)
        Py_CLEAR(*timers);
    Py_XDECREF(own);
    Py_XDECREF(before);
    Py_XDECREF(task);
    Py_DECREF(loop);
    return known;
}

/* Have the timer of a queue end this entry in time. */
static int
queue_up(Pass *pass, TimeoutQueueState *timers)
{
    PyObject *entry = pass->deadline;
    if (timers->entries == NULL || PyDict_SetItem(timers->entries, entry, Py_None) < 0)
        return -1;
    Py_INCREF(timers->entries);
    pass->entries = timers->entries;
    if (timers->handle == Py_None) {
        PyObject *started = PyObject_CallMethodNoArgs((PyObject *)timers, names.start);
        if (started == NULL) {
            PyObject *type, *error, *trace;
            PyErr_Fetch(&type, &error, &trace);
            if (PyDict_DelItem(timers->entries, entry) < 0)
                PyErr_Clear();
            PyErr_Restore(type, error, trace);
            return -1;
        }
        Py_DECREF(started);
    }
    return 0;
}

/* Have a timer, if there is one, end the deadline in time, and put that into the context. */
static int
set_limit(Pass *pass, TimeoutQueueState *timers)
{
    if (timers != NULL && queue_up(pass, timers) < 0)
        return -1;
    PyObject *token = PyContextVar_Set(given.current, pass->deadline);
    Py_XDECREF(token);
    return token == NULL ? -1 : 0;
}

int
is_free(void)
{
    PyObject *seen;
    if (PyContextVar_Get(given.current, NULL, &seen) < 0)
        return -1;
    int free = seen == NULL || seen == Py_None;
    if (!free && PyObject_TypeCheck(seen, &DeadlineState_Type)) {
        DeadlineState *outer = (DeadlineState *)seen;
        free = !outer->open && (outer->outer == NULL || outer->outer == Py_None);
    }
    Py_XDECREF(seen);
    return free;
}

/* Read the clock, if a call may enter now: 1; 0 where the twin must run it, -1 on an exception. */
static int
begin(FastPath *path, double *now)
{
    int limited = path->limit != NULL;
    if (path->core->gate != 0 || (limited && path->core->now != given.monotonic))
        return 0;
    if (limited) {
        int free = is_free();
        if (free != 1)
            return free;
        if (renew_terms(path) < 0)
            return -1;
    }
    return time_of(path->core, now) < 0 ? -1 : 1;
}

/* Enter with a deadline, or NULL, which this takes over, and the queue of its timer, or NULL. */
static PyObject *
enter_task(FastPath *path, PyObject *deadline, TimeoutQueueState *timers, double now)
{
    Pass *pass;
    Py_ssize_t place;
    Entry how = enter(path, deadline, now, &pass, &place);
    if (how == FAULT)
        return NULL;
    if (how != ENTERED)
        Py_RETURN_NONE;
    if (deadline != NULL && set_limit(pass, timers) < 0) {
        Py_DECREF(pass); /* gives itself back */
        return NULL;
    }
    show_pass(pass);
    return (PyObject *)pass;
}

PyObject *
path_enter(PyObject *op, PyObject *unused)
{
    FastPath *path = (FastPath *)op;
    PyObject *entry = NULL;
    TimeoutQueueState *timers = NULL;
    double now;
    int usual = begin(path, &now);
    if (usual == 1 && path->limit != NULL)
        usual = new_entry(path, now, &entry, &timers);
    if (usual < 0)
        return NULL;
    if (usual == 0)
        Py_RETURN_NONE;
    PyObject *entered = enter_task(path, entry, timers, now);
    Py_XDECREF(timers);
    return entered;
}

/* The same for a task of another library, whose time limit the caller enforces. */
PyObject *
path_enter_task(PyObject *op, PyObject *task)
{
    FastPath *path = (FastPath *)op;
    double now;
    int usual = begin(path, &now);
    if (usual < 0)
        return NULL;
    if (usual == 0)
        Py_RETURN_NONE;
    PyObject *deadline = NULL;
    if (path->limit != NULL) {
        deadline = new_deadline(path, now);
        if (deadline == NULL)
            return NULL;
        ((DeadlineState *)deadline)->task = Py_NewRef(task);
    }
    return enter_task(path, deadline, NULL, now);
}

int
lift_limit(Pass *pass)
{
    DeadlineState *own = (DeadlineState *)pass->deadline;
    if (own == NULL)
        return 0;
    own->open = 0;
    if (pass->entries == NULL || PyDict_DelItem(pass->entries, pass->deadline) == 0)
        return 0;
    if (!PyErr_ExceptionMatches(PyExc_KeyError))
        return -1;
    PyErr_Clear(); /* its time was up */
    return 0;
}

/* Return whether the value ends the call as a success of a kind that needs no interpreter. */
static int
is_usual_end(Pass *pass, PyObject *value)
{
    FastPath *path = pass->path;
    DeadlineState *own = (DeadlineState *)pass->deadline;
    if (Py_TYPE(value) != path->plain) {
        PyObject *told = PyObject_CallMethodOneArg(path->ends, names.is_unusual, value);
        if (told == NULL)
            return -1;
        int unusual = PyObject_IsTrue(told);
        Py_DECREF(told);
        if (unusual != 0)
            return unusual < 0 ? -1 : 0;
        PyTypeObject *type = Py_TYPE(value);
        Py_INCREF(type);
        Py_XSETREF(path->plain, type);
    }
    if (time_of(path->core, &pass->ended) < 0)
        return -1;
    return own == NULL || (pass->ended < own->when && !own->fired);
}

PyObject *
path_leave(PyObject *op, PyObject *const *args, Py_ssize_t number)
{
    if (number != 2 || !Py_IS_TYPE(args[0], &Pass_Type)) {
        PyErr_SetString(PyExc_TypeError, "leave() takes a pass and a value");
        return NULL;
    }
    Pass *pass = (Pass *)args[0];
    if (pass->booked) {
        PyErr_SetString(PyExc_RuntimeError, "it was booked, or handed over, before");
        return NULL;
    }
    if (lift_limit(pass) < 0 || (pass->path->detached && close_deadline(pass, 1) < 0))
        return NULL;
    int usual = is_usual_end(pass, args[1]);
    if (usual < 0)
        return NULL;
    if (!usual || (pass->step != pass->began && !is_usual(pass))) /* Python's section knows no steps */
        Py_RETURN_FALSE;
    if (pass->deadline != NULL)
        Py_CLEAR(((DeadlineState *)pass->deadline)->task); /* the context keeps the entry */
    if (leave(pass) < 0)
        return NULL;
    Py_RETURN_TRUE;
}
