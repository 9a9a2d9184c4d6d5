/* resilient._core: the fast path of a guarded call, and the state that it shares with Python. */
#include "state.h"

/* Types and settings are the process's, so a subinterpreter takes the twin in Python. */
static PyObject *
is_usable(PyObject *module, PyObject *unused)
{
    return PyBool_FromLong(PyInterpreterState_Get() == PyInterpreterState_Main());
}

static PyMethodDef functions[] = {
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
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL || add_state_types(module) < 0) {
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}
