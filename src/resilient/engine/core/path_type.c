/* The type of a fast path: how it is made, and what it shows. */
#include "path.h"
#include <structmember.h>

Names names;

static int
intern_names(void)
{
    struct {
        PyObject **name;
        const char *text;
    } all[] = {
        {&names.answer, "answer"},         {&names.answer_failed, "answer_failed"},
        {&names.cancelling, "cancelling"}, {&names.degraded, "degraded"},
        {&names.flush, "flush"},           {&names.is_answer, "is_answer"},
        {&names.getcurrent, "getcurrent"}, {&names.greenlet, "greenlet"},
        {&names.is_unusual, "is_unusual"}, {&names.on_end, "on_end"},
        {&names.raised, "raised"},         {&names.refused_at, "refused_at"},
        {&names.returned, "returned"},     {&names.start, "start"},
        {&names.terms, "terms"},           {&names.timers, "timers"},
        {&names.twin, "twin"},             {&names.parent, "parent"},
    };
    for (size_t at = 0; at < Py_ARRAY_LENGTH(all); at++) {
        *all[at].name = PyUnicode_InternFromString(all[at].text);
        if (*all[at].name == NULL)
            return -1;
    }
    return 0;
}

int
arguments(PyObject *const *args, size_t nargsf, PyObject *kwnames, PyObject **tuple,
          PyObject **dict)
{
    Py_ssize_t number = PyVectorcall_NARGS(nargsf);
    *tuple = PyTuple_New(number);
    *dict = PyDict_New();
    if (*tuple == NULL || *dict == NULL)
        goto failed;
    for (Py_ssize_t place = 0; place < number; place++) {
        Py_INCREF(args[place]);
        PyTuple_SET_ITEM(*tuple, place, args[place]);
    }
    for (Py_ssize_t place = 0; kwnames != NULL && place < PyTuple_GET_SIZE(kwnames); place++) {
        if (PyDict_SetItem(*dict, PyTuple_GET_ITEM(kwnames, place), args[number + place]) < 0)
            goto failed;
    }
    return 0;
failed:
    Py_CLEAR(*tuple);
    Py_CLEAR(*dict);
    return -1;
}

PyObject *
twin_of(FastPath *path)
{
    if (path->twin == NULL) {
        PyObject *twin = PyObject_CallMethodNoArgs(path->ends, names.twin);
        if (twin != NULL && path->twin == NULL)
            path->twin = twin;
        else
            Py_XDECREF(twin);
    }
    return path->twin;
}

static PyObject *
path_twin(PyObject *op, PyObject *unused)
{
    PyObject *twin = twin_of((FastPath *)op);
    Py_XINCREF(twin);
    return twin;
}

/* Take the guards, outermost first, with the rule of each. */
static int
set_guards(FastPath *path, PyObject *guards, PyObject *kinds)
{
    Py_ssize_t number = PyTuple_GET_SIZE(guards);
    if (number > MOST_GUARDS || PyTuple_GET_SIZE(kinds) != number) {
        PyErr_Format(PyExc_ValueError, "guards: %zd; at most %d, each with its kind", number,
                     MOST_GUARDS);
        return -1;
    }
    for (Py_ssize_t at = 0; at < number; at++) {
        Place *place = &path->places[at];
        place->guard = PyTuple_GET_ITEM(guards, at);
        place->kind = PyTuple_GET_ITEM(kinds, at);
        place->rule = rule_of(place->guard);
        Py_INCREF(place->guard);
        Py_INCREF(place->kind);
        path->number = at + 1;
        if (place->rule == NULL || !PyUnicode_CheckExact(place->kind)) {
            PyErr_Format(PyExc_TypeError, "%R: the core has no rule for it", place->guard);
            return -1;
        }
    }
    return 0;
}

static PyObject *
path_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keys[] = {"core", "guards", "kinds", "limit", "deadline_type", "fn", "ends",
                            "pipeline", "leave", "fails", "keep", "answers", "direct", "constant",
                            "detached", NULL};
    PyObject *core, *guards, *kinds, *limit, *deadline_type, *fn, *ends, *pipeline, *leave, *fails,
        *keep, *direct, *constant;
    int answers, detached;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!O!OO!OOOOOOpOOp", keys, &CountersState_Type,
                                     &core, &PyTuple_Type, &guards, &PyTuple_Type, &kinds, &limit,
                                     &PyType_Type, &deadline_type, &fn, &ends, &pipeline, &leave,
                                     &fails, &keep, &answers, &direct, &constant, &detached))
        return NULL;
    if (limit != Py_None && !PyObject_TypeCheck(limit, &TimeoutState_Type))
        return PyErr_Format(PyExc_TypeError, "limit: %R is no timeout", limit);
    if (!PyType_IsSubtype((PyTypeObject *)deadline_type, &DeadlineState_Type))
        return PyErr_Format(PyExc_TypeError, "deadline_type: %R", deadline_type);
    FastPath *path = (FastPath *)type->tp_alloc(type, 0);
    if (path == NULL)
        return NULL;
    path->vectorcall = call_sync;
    path->core = (CountersState *)Py_NewRef(core);
    path->limit = limit == Py_None ? NULL : (TimeoutState *)Py_NewRef(limit);
    path->deadline_type = Py_NewRef(deadline_type);
    path->fn = Py_NewRef(fn);
    path->ends = Py_NewRef(ends);
    path->pipeline = Py_NewRef(pipeline);
    path->leave = Py_NewRef(leave);
    path->fails = Py_NewRef(fails);
    path->keep = Py_NewRef(keep);
    path->answers = (char)answers;
    path->detached = (char)detached;
    path->direct = Py_NewRef(direct);
    path->constant = Py_NewRef(constant);
    path->plain = (PyTypeObject *)Py_NewRef((PyObject *)Py_TYPE(Py_None));
    path->plain_answer = (PyTypeObject *)Py_NewRef((PyObject *)Py_TYPE(Py_None));
    if (set_guards(path, guards, kinds) < 0) {
        Py_DECREF(path);
        return NULL;
    }
    return (PyObject *)path;
}

static int
path_traverse(PyObject *op, visitproc visit, void *arg)
{
    FastPath *path = (FastPath *)op;
    for (Py_ssize_t at = 0; at < path->number; at++)
        Py_VISIT(path->places[at].guard);
    Py_VISIT(path->core);
    Py_VISIT(path->limit);
    Py_VISIT(path->fn);
    Py_VISIT(path->terms);
    Py_VISIT(path->clock);
    Py_VISIT(path->deadline_type);
    Py_VISIT(path->timers);
    Py_VISIT(path->ends);
    Py_VISIT(path->pipeline);
    Py_VISIT(path->twin);
    Py_VISIT(path->leave);
    Py_VISIT(path->fails);
    Py_VISIT(path->keep);
    Py_VISIT(path->direct);
    Py_VISIT(path->constant);
    Py_VISIT(path->plain);
    Py_VISIT(path->plain_answer);
    return 0;
}

/* A cycle through a path goes through what it calls: what its sections read stays until the end,
   since a finalizer may still call it. */
static int
path_clear(PyObject *op)
{
    FastPath *path = (FastPath *)op;
    Py_CLEAR(path->twin);
    Py_CLEAR(path->terms);
    Py_CLEAR(path->timers);
    return 0;
}

static void
path_dealloc(PyObject *op)
{
    FastPath *path = (FastPath *)op;
    PyObject_GC_UnTrack(op);
    path_clear(op);
    for (Py_ssize_t at = 0; at < path->number; at++) {
        Py_CLEAR(path->places[at].guard);
        Py_CLEAR(path->places[at].kind);
    }
    Py_CLEAR(path->core);
    Py_CLEAR(path->limit);
    Py_CLEAR(path->fn);
    Py_CLEAR(path->clock);
    Py_CLEAR(path->deadline_type);
    Py_CLEAR(path->ends);
    Py_CLEAR(path->pipeline);
    Py_CLEAR(path->leave);
    Py_CLEAR(path->fails);
    Py_CLEAR(path->keep);
    Py_CLEAR(path->direct);
    Py_CLEAR(path->constant);
    Py_CLEAR(path->plain);
    Py_CLEAR(path->plain_answer);
    Py_TYPE(op)->tp_free(op);
}

static PyMethodDef path_methods[] = {
    {"enter", path_enter, METH_NOARGS, "Return a pass, or None where the twin must run the call."},
    {"enter_here", path_enter_here, METH_NOARGS, "The same for a block or a stream of sync code."},
    {"enter_task", path_enter_task, METH_O, "The same for a task whose limit the caller enforces."},
    {"leave", (PyCFunction)(void (*)(void))path_leave, METH_FASTCALL,
     "Book a pass whose body returned a value; return False where Python must do that."},
    {"twin", path_twin, METH_NOARGS, "Return the same function in Python."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject FastPath_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "resilient._core.FastPath",
    .tp_basicsize = sizeof(FastPath),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(FastPath, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_new = path_new,
    .tp_traverse = path_traverse,
    .tp_clear = path_clear,
    .tp_dealloc = path_dealloc,
    .tp_methods = path_methods,
};

static vectorcallfunc python_call; /* what every function of Python has */

/* The vectorcall of a function that Python made round a path: its first cell holds the path. */
static PyObject *
call_quickened(PyObject *fn, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    PyObject *cells = PyFunction_GET_CLOSURE(fn);
    PyObject *path = cells == NULL ? NULL : PyCell_Get(PyTuple_GET_ITEM(cells, 0));
    if (path == NULL || !Py_IS_TYPE(path, &FastPath_Type)) { /* somebody has changed the function */
        Py_XDECREF(path);
        return python_call(fn, args, nargsf, kwnames);
    }
    PyObject *value = call_sync(path, args, nargsf, kwnames);
    Py_DECREF(path);
    return value;
}

PyObject *
quicken(PyObject *module, PyObject *fn)
{
#if PY_VERSION_HEX >= 0x030c0000
    vectorcallfunc now = PyFunction_Check(fn) ? ((PyFunctionObject *)fn)->vectorcall : NULL;
    PyObject *cells = PyFunction_Check(fn) ? PyFunction_GET_CLOSURE(fn) : NULL;
    PyObject *path =
        cells != NULL && PyTuple_GET_SIZE(cells) == 1 ? PyCell_Get(PyTuple_GET_ITEM(cells, 0)) : NULL;
    int is_path = path != NULL && Py_IS_TYPE(path, &FastPath_Type);
    Py_XDECREF(path);
    if (!is_path)
        return PyErr_Format(PyExc_TypeError, "%R is no function round one path", fn);
    if (now != call_quickened)
        python_call = now;
    PyFunction_SetVectorcall((PyFunctionObject *)fn, call_quickened);
#else
    (void)call_quickened; /* the interpreter would inline the function's own code */
#endif
    return Py_NewRef(fn);
}

int
add_path_types(PyObject *module)
{
    return intern_names() < 0 || PyModule_AddIntMacro(module, MOST_GUARDS) < 0
                   || PyModule_AddType(module, &FastPath_Type) < 0
                   || PyModule_AddType(module, &Pass_Type) < 0
                   || PyModule_AddType(module, &Late_Type) < 0
                   || PyModule_AddType(module, &Signal_Type) < 0
                   || PyModule_AddType(module, &Forward_Type) < 0
               ? -1 : 0;
}
