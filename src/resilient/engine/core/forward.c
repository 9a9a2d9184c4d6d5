/* Forward a call of a proxy to its client's method, without a frame: what `_sync_forward` and
   `_async_forward` of policy/clients/proxy_methods.py do where all is usual. */
#include "path.h"
#include <structmember.h>

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *name;     /* of the method */
    PyObject *home;     /* the class of proxies that hold the function */
    Py_ssize_t client;  /* where a proxy has its client */
    PyObject *wrapper;  /* says whether an argument can be a proxy: */
    Py_ssize_t hands_out; /* where it does */
    PyObject *data;     /* a set of types whose values are given as they are; or None: all are */
    PyObject *timeouts; /* a tuple of exception types */
    PyObject *timed_out; /* called while one of them is handled */
    PyObject *hand;     /* called with the proxy, another value, and the other arguments */
    PyObject *python;   /* the same function in Python */
} Forward;

enum { MOST_ON_STACK = 8 };

/* What an object has in the slot there; NULL: nothing. Borrowed. */
static PyObject *
in_slot(PyObject *of, Py_ssize_t offset)
{
    return *(PyObject **)((char *)of + offset);
}

/* Call the client's method with all arguments but the first. */
static PyObject *
call_method(Forward *self, PyObject *client, PyObject *const *args, size_t nargsf,
            PyObject *kwnames)
{
    Py_ssize_t number = PyVectorcall_NARGS(nargsf);
    Py_ssize_t all = number + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames));
    PyObject *few[MOST_ON_STACK], **given = few;
    Py_INCREF(client);
    if (all > MOST_ON_STACK && (given = PyMem_New(PyObject *, all)) == NULL) {
        Py_DECREF(client);
        return PyErr_NoMemory();
    }
    given[0] = client;
    for (Py_ssize_t at = 1; at < all; at++)
        given[at] = args[at];
    PyObject *value = PyObject_VectorcallMethod(self->name, given, number, kwnames);
    if (given != few)
        PyMem_Free(given);
    Py_DECREF(client);
    return value;
}

/* A library's own limit may have expired because the deadline did: Python says so by an error. */
static void
tell_timeout(Forward *self)
{
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (trace != NULL)
        (void)PyException_SetTraceback(error, trace);
    PyObject *before = handle(error);
    PyObject *told = PyObject_CallNoArgs(self->timed_out);
    handled_before(before);
    if (told == NULL) {
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(trace);
        return;
    }
    Py_DECREF(told);
    PyErr_Restore(type, error, trace);
}

static PyObject *
hand_out(Forward *self, PyObject *value, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    PyObject *tuple, *dict, *handed = NULL;
    if (arguments(args + 1, PyVectorcall_NARGS(nargsf) - 1, kwnames, &tuple, &dict) == 0) {
        handed = PyObject_CallFunctionObjArgs(self->hand, args[0], value, tuple, dict, NULL);
        Py_DECREF(tuple);
        Py_DECREF(dict);
    }
    Py_DECREF(value);
    return handed;
}

static PyObject *
forward_call(PyObject *op, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Forward *self = (Forward *)op;
    PyObject *client = NULL;
    if (PyVectorcall_NARGS(nargsf) > 0 && (PyObject *)Py_TYPE(args[0]) == self->home &&
        in_slot(self->wrapper, self->hands_out) == Py_False)
        client = in_slot(args[0], self->client);
    if (client == NULL)
        return PyObject_Vectorcall(self->python, args, nargsf, kwnames);
    PyObject *value = call_method(self, client, args, nargsf, kwnames);
    if (value == NULL) {
        if (PyErr_ExceptionMatches(self->timeouts))
            tell_timeout(self);
        return NULL;
    }
    int plain = self->data == Py_None ? 1 : PySet_Contains(self->data, (PyObject *)Py_TYPE(value));
    if (plain == 1)
        return value;
    if (plain < 0) {
        Py_DECREF(value);
        return NULL;
    }
    return hand_out(self, value, args, nargsf, kwnames);
}

/* Where objects of a class have the slot that a descriptor of it stands for; -1: error. */
static Py_ssize_t
offset_of(PyObject *descriptor, PyTypeObject *type)
{
    if (Py_IS_TYPE(descriptor, &PyMemberDescr_Type) &&
        PyType_IsSubtype(type, PyDescr_TYPE(descriptor))) {
        PyMemberDef *member = ((PyMemberDescrObject *)descriptor)->d_member;
        if (member->type == T_OBJECT_EX)
            return member->offset;
    }
    PyErr_Format(PyExc_TypeError, "%R is no slot of %R", descriptor, type);
    return -1;
}

static PyObject *
forward_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keys[] = {"name", "home",     "client",    "wrapper", "hands_out",
                           "data", "timeouts", "timed_out", "hand",    "python",    NULL};
    PyObject *name, *home, *client, *wrapper, *hands_out;
    PyObject *data, *timeouts, *timed_out, *hand, *python;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "UO!OOOOO!OOO", keys, &name, &PyType_Type, &home,
                                     &client, &wrapper, &hands_out, &data, &PyTuple_Type, &timeouts,
                                     &timed_out, &hand, &python))
        return NULL;
    if (data != Py_None && !PyAnySet_Check(data))
        return PyErr_Format(PyExc_TypeError, "data: %R is no set", data);
    Py_ssize_t at_client = offset_of(client, (PyTypeObject *)home);
    if (at_client < 0)
        return NULL;
    Py_ssize_t at_hands_out = offset_of(hands_out, Py_TYPE(wrapper));
    if (at_hands_out < 0)
        return NULL;
    Forward *self = (Forward *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->client = at_client;
    self->hands_out = at_hands_out;
    self->vectorcall = forward_call;
    self->name = Py_NewRef(name);
    PyUnicode_InternInPlace(&self->name);
    self->home = Py_NewRef(home);
    self->wrapper = Py_NewRef(wrapper);
    self->data = Py_NewRef(data);
    self->timeouts = Py_NewRef(timeouts);
    self->timed_out = Py_NewRef(timed_out);
    self->hand = Py_NewRef(hand);
    self->python = Py_NewRef(python);
    return (PyObject *)self;
}

static int
forward_traverse(PyObject *op, visitproc visit, void *arg)
{
    Forward *self = (Forward *)op;
    Py_VISIT(self->home);
    Py_VISIT(self->wrapper);
    Py_VISIT(self->data);
    Py_VISIT(self->timeouts);
    Py_VISIT(self->timed_out);
    Py_VISIT(self->hand);
    Py_VISIT(self->python);
    return 0;
}

/* A cycle goes through the class of the proxies or through the wrapper, which can be cleared. */
static void
forward_dealloc(PyObject *op)
{
    Forward *self = (Forward *)op;
    PyObject_GC_UnTrack(op);
    Py_CLEAR(self->name);
    Py_CLEAR(self->home);
    Py_CLEAR(self->wrapper);
    Py_CLEAR(self->data);
    Py_CLEAR(self->timeouts);
    Py_CLEAR(self->timed_out);
    Py_CLEAR(self->hand);
    Py_CLEAR(self->python);
    Py_TYPE(op)->tp_free(op);
}

PyTypeObject Forward_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "resilient._core.Forward",
    .tp_basicsize = sizeof(Forward),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(Forward, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_new = forward_new,
    .tp_traverse = forward_traverse,
    .tp_dealloc = forward_dealloc,
};
