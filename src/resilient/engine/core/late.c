/* What is left of a call that nobody ended: see `give_back`. */
#include "path.h"

/* What a pass that was not booked leaves in the outbox: a call of settlement.give_back. It is made
   without a call, for which the stack may be too short. */
typedef struct {
    PyObject_HEAD
    PyObject *pipeline, *tickets;
    double began;
} Late;

static int
late_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(((Late *)op)->pipeline);
    Py_VISIT(((Late *)op)->tickets);
    return 0;
}

static int
late_clear(PyObject *op)
{
    Py_CLEAR(((Late *)op)->pipeline);
    Py_CLEAR(((Late *)op)->tickets);
    return 0;
}

static void
late_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    late_clear(op);
    PyObject_GC_Del(op);
}

static PyObject *
late_call(PyObject *op, PyObject *args, PyObject *kwargs)
{
    Late *late = (Late *)op;
    return PyObject_CallFunction(given.give_back, "OOdO", late->pipeline, late->tickets,
                                 late->began, Py_None);
}

PyTypeObject Late_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "resilient._core.Late",
    .tp_basicsize = sizeof(Late),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_traverse = late_traverse,
    .tp_clear = late_clear,
    .tp_dealloc = late_dealloc,
    .tp_call = late_call,
};

int
leave_to_outbox(Pass *pass)
{
    FastPath *path = pass->path;
    if (path->core->outbox == NULL || !PyList_Check(path->core->outbox))
        return 0; /* the garbage collector has taken the policy apart */
    Late *late = PyObject_GC_New(Late, &Late_Type);
    if (late == NULL)
        return -1;
    late->pipeline = Py_NewRef(path->pipeline);
    late->began = pass->began;
    late->tickets = tickets_of(pass);
    PyObject_GC_Track(late);
    int failed = late->tickets == NULL || PyList_Append(path->core->outbox, (PyObject *)late) < 0;
    Py_DECREF(late);
    return failed ? -1 : 0;
}
