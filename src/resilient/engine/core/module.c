/* resilient._core: the fast path of a guarded call, and the state that it shares with Python. */
#include "path.h"

/* Types and settings are the process's, so a subinterpreter takes the twin in Python. */
static PyObject *
is_usable(PyObject *module, PyObject *unused)
{
    return PyBool_FromLong(PyInterpreterState_Get() == PyInterpreterState_Main());
}

/* Take what the core needs of Python; called once, before the first path is made. */
static PyObject *
set_up(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *keys[] = {"current", "monotonic", "give_back", "raise_it", "refused", "shortest",
                           "quiet", "row", NULL};
    PyObject *current, *monotonic, *give_back, *raise_it;
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "OOOOidd(iiiii)", keys, &current, &monotonic, &give_back, &raise_it,
            &given.refused, &given.shortest, &given.quiet, &given.row_quick,
            &given.row_duration_sum, &given.row_in_flight, &given.row_refused,
            &given.row_degraded))
        return NULL;
    if (!PyContextVar_CheckExact(current))
        return PyErr_Format(PyExc_TypeError, "%R is no context variable", current);
    Py_XSETREF(given.current, Py_NewRef(current));
    Py_XSETREF(given.monotonic, Py_NewRef(monotonic));
    Py_XSETREF(given.give_back, Py_NewRef(give_back));
    Py_XSETREF(given.raise_it, Py_NewRef(raise_it));
    Py_RETURN_NONE;
}

/* Take asyncio's functions for the running loop, and for the task that it runs. */
static PyObject *
set_up_asyncio(PyObject *module, PyObject *args)
{
    PyObject *running_loop, *task_in;
    if (!PyArg_ParseTuple(args, "OO", &running_loop, &task_in))
        return NULL;
    Py_XSETREF(given.running_loop, Py_NewRef(running_loop));
    Py_XSETREF(given.task_in, Py_NewRef(task_in));
    Py_RETURN_NONE;
}

/* Raise RecursionError if the stack has not room for so many calls: see resilient/stack.py. */
static PyObject *
need_room(int calls)
{
    PyThreadState *state = PyThreadState_Get();
#if PY_VERSION_HEX >= 0x030c0000
    int left = state->py_recursion_remaining;
#else
    int left = state->recursion_remaining;
#endif
    if (left > calls)
        Py_RETURN_NONE;
    PyErr_SetString(PyExc_RecursionError, "maximum recursion depth exceeded");
    return NULL;
}

static int section_steps, call_steps;

static PyObject *
room(PyObject *module, PyObject *unused)
{
    return need_room(section_steps);
}

static PyObject *
room_for_call(PyObject *module, PyObject *unused)
{
    return need_room(call_steps);
}

/* Take how deep a section goes, and a call. */
static PyObject *
set_room(PyObject *module, PyObject *args)
{
    if (!PyArg_ParseTuple(args, "ii", &section_steps, &call_steps))
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"exchange", (PyCFunction)(void (*)(void))exchange, METH_FASTCALL,
     "Set one signal, and wait for another at most so many seconds; return whether it was set."},
    {"exact_row", exact_row, METH_VARARGS, "Return the row that is in cells, each number made sound."},
    {"sum_rows", sum_rows, METH_VARARGS, "Return the sum of rows, each column by its way."},
    {"lines", lines, METH_VARARGS, "Return the lines of a row, a text for each run of values."},
    {"spread", spread, METH_VARARGS, "Append each text of a row to the pieces of its run."},
    {"room", room, METH_NOARGS, NULL},
    {"set_room", set_room, METH_VARARGS, NULL},
    {"room_for_call", room_for_call, METH_NOARGS, NULL},
    {"set_up", (PyCFunction)(void (*)(void))set_up, METH_VARARGS | METH_KEYWORDS, NULL},
    {"set_up_asyncio", set_up_asyncio, METH_VARARGS, NULL},
    {"quicken", quicken, METH_O, "Have calls of a function round a path go straight to it."},
    {"passes_here", passes_here, METH_NOARGS, "Return this thread's sync calls in flight."},
    {"forget_others", forget_others, METH_NOARGS, "Forget, in a child, those of other threads."},
    {"is_usable", is_usable, METH_NOARGS, "Return whether this is the main interpreter."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "resilient._core",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "the types of resilient._core are the main interpreter's");
        return NULL;
    }
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL || add_state_types(module) < 0 || add_path_types(module) < 0) {
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}
