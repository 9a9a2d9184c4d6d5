/* Hand a job to a worker thread: the twin of `Signal` and `exchange` in engine/sync/workers.py.

   Whoever is woken while the waker still has the GIL must wait for that, and is woken twice. Here
   a thread lets go of the GIL first, then wakes the other one, and waits, in one step. */
#include "path.h"

typedef struct {
    PyObject_HEAD
    PyThread_type_lock lock;
    char held; /* nobody has set it since it was made, or taken; changed under the GIL */
} Signal;

static PyObject *
signal_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (!PyArg_ParseTuple(args, ""))
        return NULL;
    Signal *self = (Signal *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->lock = PyThread_allocate_lock();
    if (self->lock == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    PyThread_acquire_lock(self->lock, NOWAIT_LOCK);
    self->held = 1;
    return (PyObject *)self;
}

static void
signal_dealloc(PyObject *op)
{
    Signal *self = (Signal *)op;
    if (self->lock != NULL) {
        if (self->held)
            PyThread_release_lock(self->lock);
        PyThread_free_lock(self->lock);
    }
    Py_TYPE(op)->tp_free(op);
}

static PyObject *
signal_set(PyObject *op, PyObject *unused)
{
    Signal *self = (Signal *)op;
    if (self->held) {
        self->held = 0;
        PyThread_release_lock(self->lock);
    }
    Py_RETURN_TRUE;
}

/* Return the microseconds that a wait may take, -1 for ever; -2 with an exception. */
static PY_TIMEOUT_T
patience_of(double seconds)
{
    if (seconds != seconds) {
        PyErr_SetString(PyExc_ValueError, "seconds must be a number");
        return -2;
    }
    if (seconds < 0)
        return -1;
    double most = (double)PY_TIMEOUT_MAX / 1e6; /* years */
    return seconds >= most ? PY_TIMEOUT_MAX : (PY_TIMEOUT_T)(seconds * 1e6 + 0.999);
}

/* Set `wake`, if there is one, then wait for `wait`: 1 if it was set, 0 if not, -1 with an exception.
   A signal handler of Python runs as soon as its signal comes. */
static int
wake_and_wait(Signal *wake, Signal *wait, double seconds)
{
    PY_TIMEOUT_T left = patience_of(seconds);
    double until = 0.0, now;
    if (left == -2)
        return -1;
    int wakes = wake != NULL && wake->held;
    if (wakes)
        wake->held = 0;
    for (;;) {
        PyLockStatus got;
        if (left > 0 && until == 0.0)
            until = monotonic_now() + (double)left / 1e6;
        Py_BEGIN_ALLOW_THREADS
        if (wakes)
            PyThread_release_lock(wake->lock);
        got = PyThread_acquire_lock_timed(wait->lock, left, 1);
        Py_END_ALLOW_THREADS
        wakes = 0;
        if (got == PY_LOCK_ACQUIRED) {
            wait->held = 1;
            return 1;
        }
        if (got == PY_LOCK_FAILURE)
            return 0;
        if (Py_MakePendingCalls() < 0)
            return -1;
        if (left > 0) {
            now = monotonic_now();
            left = now >= until ? 0 : (PY_TIMEOUT_T)((until - now) * 1e6 + 0.999);
        }
    }
}

/* take(True, seconds): consume the signal, and return whether it was set in time. */
static PyObject *
signal_take(PyObject *op, PyObject *const *args, Py_ssize_t number)
{
    if (number != 2) {
        PyErr_SetString(PyExc_TypeError, "take() takes two arguments");
        return NULL;
    }
    int blocks = PyObject_IsTrue(args[0]);
    double seconds = PyFloat_AsDouble(args[1]);
    if (blocks < 0 || (seconds == -1.0 && PyErr_Occurred()))
        return NULL;
    int got = wake_and_wait(NULL, (Signal *)op, blocks ? seconds : 0.0);
    return got < 0 ? NULL : PyBool_FromLong(got);
}

static PyMethodDef signal_methods[] = {
    {"set", signal_set, METH_NOARGS, "Wake the waiter; a second call does no harm."},
    {"take", (PyCFunction)(void (*)(void))signal_take, METH_FASTCALL, "Wait for at most so many seconds, for ever if negative."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject Signal_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "resilient._core.Signal",
    .tp_basicsize = sizeof(Signal),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = signal_new,
    .tp_dealloc = signal_dealloc,
    .tp_methods = signal_methods,
};

PyObject *
exchange(PyObject *module, PyObject *const *args, Py_ssize_t number)
{
    if (number != 3 || !PyObject_TypeCheck(args[0], &Signal_Type)
        || !PyObject_TypeCheck(args[1], &Signal_Type)) {
        PyErr_SetString(PyExc_TypeError, "exchange() takes two signals, and seconds");
        return NULL;
    }
    double seconds = PyFloat_AsDouble(args[2]);
    if (seconds == -1.0 && PyErr_Occurred())
        return NULL;
    int got = wake_and_wait((Signal *)args[0], (Signal *)args[1], seconds);
    return got < 0 ? NULL : PyBool_FromLong(got);
}
