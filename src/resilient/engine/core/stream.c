/* The steps of a stream: between two of them its consumer runs, for whom its limit does not count.
   What `SyncFlow` and `AsyncFlow` do round each step where all is usual. */
#include "path.h"

/* Return whether another step may be taken here, and begin it: its limit is in the context then. */
PyObject *
pass_begin_step(PyObject *op, PyObject *unused)
{
    Pass *pass = (Pass *)op;
    CountersState *core = pass->path->core;
    DeadlineState *own = (DeadlineState *)pass->deadline;
    double now;
    int free = core->gate == 0 ? is_free() : 0;
    if (free < 0 || (free && time_of(core, &now) < 0))
        return NULL;
    if (!free || pass->booked || (own != NULL && now >= own->when))
        Py_RETURN_FALSE;
    if (own != NULL) {
        own->open = 1;
        PyObject *token = PyContextVar_Set(given.current, (PyObject *)own);
        if (token == NULL)
            return NULL;
        Py_DECREF(token);
    }
    pass->step = now;
    Py_RETURN_TRUE;
}

/* End a step: its limit leaves the context. If it gave an item, its time is added to what was spent;
   else the end of the call adds it. */
PyObject *
pass_end_step(PyObject *op, PyObject *gave)
{
    Pass *pass = (Pass *)op;
    double now;
    if (close_deadline(pass, 1) < 0)
        return NULL;
    if (gave != Py_True)
        Py_RETURN_NONE;
    if (time_of(pass->path->core, &now) < 0)
        return NULL;
    pass->spent += now - pass->step;
    Py_RETURN_NONE;
}
