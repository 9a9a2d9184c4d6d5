/* Answer a refused call by a fallback that does not look at the error: engine/fast_refusal.py. */
#include "path.h"

/* Add one to a number that a list or a dict holds; return it, or -1 with an exception. */
static whole
one_more(PyObject *number, PyObject **more)
{
    whole value = number == NULL ? -1 : PyLong_AsLongLong(number);
    if (value < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "a count that is no count");
        return -1;
    }
    *more = PyLong_FromLongLong(value + 1);
    return *more == NULL ? -1 : value + 1;
}

/* Write a count of refusals by one kind of guard to the shared row, where it has a place there. */
static int
show_refusals(CountersState *core, PyObject *kind, whole refused, whole of_kind)
{
    if (core->row.obj == NULL || core->layout == NULL || core->layout == Py_None)
        return 0;
    double *row = core->row.buf;
    Py_ssize_t length = core->row.len / (Py_ssize_t)sizeof(double);
    PyObject *places = PyObject_GetAttr(core->layout, names.refused_at);
    if (places == NULL)
        return -1;
    row[given.row_refused] = (double)refused;
    PyObject *at = PyDict_Check(places) ? PyDict_GetItemWithError(places, kind) : NULL;
    if (at != NULL) { /* a view's guard may be newer than the row */
        Py_ssize_t place = PyLong_AsSsize_t(at);
        if (place >= 0 && place < length)
            row[place] = (double)of_kind;
    }
    Py_DECREF(places);
    return PyErr_Occurred() ? -1 : 0;
}

/* stops.count_refusal: return 1, or 0 where it is news, whose event needs the error; -1 on an
   exception. Nothing here runs Python code: the keys are strings. */
static int
count_refusal(CountersState *core, PyObject *kind, double now)
{
    if (core->refused_at == NULL || !PyDict_Check(core->refused_at) || core->refusals == NULL
        || !PyDict_Check(core->refusals) || core->counts == NULL || !PyList_Check(core->counts)
        || PyList_GET_SIZE(core->counts) <= given.refused)
        return 0;
    PyObject *last = PyDict_GetItemWithError(core->refused_at, kind);
    if (last == NULL)
        return PyErr_Occurred() ? -1 : 0;
    if (!PyFloat_Check(last) || now - PyFloat_AS_DOUBLE(last) >= given.quiet)
        return 0;
    PyObject *at = PyFloat_FromDouble(now), *of_kind = NULL, *all = NULL;
    whole kinds = one_more(PyDict_GetItemWithError(core->refusals, kind), &of_kind);
    whole refused = one_more(PyList_GET_ITEM(core->counts, given.refused), &all);
    int failed = at == NULL || kinds < 0 || refused < 0
                 || PyDict_SetItem(core->refused_at, kind, at) < 0
                 || PyDict_SetItem(core->refusals, kind, of_kind) < 0;
    if (!failed) {
        Py_INCREF(all);
        failed = PyList_SetItem(core->counts, given.refused, all) < 0
                 || show_refusals(core, kind, refused, kinds) < 0;
    }
    Py_XDECREF(at);
    Py_XDECREF(of_kind);
    Py_XDECREF(all);
    return failed ? -1 : 1;
}

/* Count an answer; where the policy is busy, or somebody is told of each end, Python does it. */
static int
count_answer(FastPath *path)
{
    CountersState *core = path->core;
    PyObject *told = PyObject_GetAttr((PyObject *)Py_TYPE(core), names.on_end);
    if (told == NULL)
        return -1;
    int alone = told == Py_None && core->gate == 0;
    Py_DECREF(told);
    if (alone) {
        core->degraded++;
        if (core->row.obj != NULL)
            ((double *)core->row.buf)[given.row_degraded] = (double)core->degraded;
        return 0;
    }
    PyObject *done = PyObject_CallMethodNoArgs(path->ends, names.degraded);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* The fallback raised, or returned what can't be an answer: Python counts that, and raises. */
static PyObject *
answer_failed(FastPath *path)
{
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (trace != NULL)
        (void)PyException_SetTraceback(error, trace);
    PyObject *before = handle(error);
    PyObject *done = PyObject_CallMethodOneArg(path->ends, names.answer_failed, error);
    handled_before(before);
    if (done != NULL) {
        Py_DECREF(done);
        PyErr_Restore(type, error, trace);
        return NULL;
    }
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(trace);
    return NULL;
}

/* Return whether an answer, of a type that was not seen last, is one: 1, or -1 with its error. */
static int
is_answer(FastPath *path, PyObject *value)
{
    PyObject *told = PyObject_CallMethodOneArg(path->ends, names.is_answer, value);
    if (told == NULL)
        return -1;
    int plain = PyObject_IsTrue(told);
    Py_DECREF(told);
    if (plain == 1) {
        PyTypeObject *type = Py_TYPE(value);
        Py_INCREF(type);
        Py_XSETREF(path->plain_answer, type);
    }
    return plain < 0 ? -1 : 1;
}

PyObject *
answer_refusal(FastPath *path, Py_ssize_t place, double now, PyObject *const *args, size_t nargsf,
               PyObject *kwnames)
{
    int counted = count_refusal(path->core, path->places[place].kind, now);
    if (counted != 1)
        return NULL;
    PyObject *value;
    if (path->constant != Py_None) {
        value = path->constant;
        Py_INCREF(value);
    }
    else if (path->direct != Py_None) {
        value = PyObject_Vectorcall(path->direct, args, nargsf, kwnames);
    }
    else {
        PyObject *tuple, *dict;
        if (arguments(args, nargsf, kwnames, &tuple, &dict) < 0)
            return NULL;
        value = PyObject_CallMethodObjArgs(path->ends, names.answer, tuple, dict, NULL);
        Py_DECREF(tuple);
        Py_DECREF(dict);
        return value;
    }
    if (value != NULL && Py_TYPE(value) != path->plain_answer && is_answer(path, value) < 0)
        Py_CLEAR(value);
    if (value == NULL)
        return answer_failed(path);
    if (count_answer(path) < 0)
        Py_CLEAR(value);
    return value;
}
