/* What a scrape does with thousands of rows: read them, add them up, and write their lines. The
   twins are telemetry/rows.py, `_exact` and `_added`, and prometheus/text_format.py, `_Shape`. */
#include "path.h"
#include <math.h>
#include <string.h>

/* -- reading --------------------------------------------- */

/* What a number from a page may be, as `RowSchema.cleaning` says. */
enum { ANY, RISING, COUNTED, SECONDS };
static const double grain = 1048576.0; /* parts of a second, to which sums are rounded down */
static const double on_grain = 8589934592.0; /* every double from here on is on that grain */
static const double no_count = 9007199254740992.0; /* from here on a double can't count by one */

static double
made_sound(double value, int way)
{
    if (way == RISING)
        return value < 0.0 ? 0.0 : value;
    if (way == ANY)
        return value;
    if (!(value >= 0.0 && value < no_count))
        return 0.0;
    return way == SECONDS && value < on_grain ? floor(value * grain) / grain + 0.0 : value;
}

PyObject *
exact_row(PyObject *module, PyObject *args)
{
    PyObject *cells, *cleaning;
    if (!PyArg_ParseTuple(args, "SS", &cells, &cleaning))
        return NULL;
    Py_ssize_t length = PyBytes_GET_SIZE(cleaning);
    if (PyBytes_GET_SIZE(cells) != length * (Py_ssize_t)sizeof(double)) {
        PyErr_SetString(PyExc_ValueError, "cells and cleaning differ in length");
        return NULL;
    }
    PyObject *row = PyTuple_New(length);
    for (Py_ssize_t place = 0; row != NULL && place < length; place++) {
        double value;
        memcpy(&value, PyBytes_AS_STRING(cells) + place * sizeof(double), sizeof(double));
        PyObject *number = PyFloat_FromDouble(made_sound(value, PyBytes_AS_STRING(cleaning)[place]));
        if (number == NULL)
            Py_CLEAR(row);
        else
            PyTuple_SET_ITEM(row, place, number);
    }
    return row;
}

/* -- sums --------------------------------------------- */

/* Read the number of a row, a tuple or list; -1 with an exception if there is none. */
static int
number_at(PyObject *row, Py_ssize_t place, double *found)
{
    PyObject *value = PyTuple_Check(row) ? PyTuple_GET_ITEM(row, place) : PyList_GET_ITEM(row, place);
    if (PyFloat_CheckExact(value)) {
        *found = PyFloat_AS_DOUBLE(value);
        return 0;
    }
    *found = PyFloat_AsDouble(value);
    return *found == -1.0 && PyErr_Occurred() ? -1 : 0;
}

static Py_ssize_t
length_of(PyObject *row)
{
    if (PyTuple_Check(row))
        return PyTuple_GET_SIZE(row);
    if (PyList_Check(row))
        return PyList_GET_SIZE(row);
    PyErr_SetString(PyExc_TypeError, "a row is a tuple or a list");
    return -1;
}

/* How one column's numbers are put together, as `RowSchema.ways` says. */
enum { ADDED, LARGEST, SMALLEST, MEAN };

/* Put the numbers of one column together; NaN stands for nothing. The next column has the weights
   of a mean. */
static PyObject *
column_of(PyObject *rows, Py_ssize_t place, int way)
{
    double whole = 0.0, weights = 0.0, value, weight;
    int known = 0;
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(rows); at++) {
        PyObject *row = PyList_GET_ITEM(rows, at);
        if (number_at(row, place, &value) < 0)
            return NULL;
        if (isnan(value))
            continue;
        if (way == MEAN) {
            if (number_at(row, place + 1, &weight) < 0)
                return NULL;
            if (!(weight > 0.0))
                continue;
            weights += weight;
            whole += value * weight;
        }
        else if (way == ADDED)
            whole += value;
        else if (!known || (way == LARGEST ? value > whole : value < whole))
            whole = value;
        known = 1;
    }
    if (!known)
        return PyFloat_FromDouble(NAN);
    return PyFloat_FromDouble(way == MEAN ? whole / weights : whole);
}

/* Look at what `sum_rows` was given; -1 with an exception if it is not of one length. */
static int
check_rows(PyObject *rows, PyObject *ways)
{
    if (PyList_GET_SIZE(rows) == 0) {
        PyErr_SetString(PyExc_TypeError, "sum_rows() takes at least one row");
        return -1;
    }
    Py_ssize_t length = PyBytes_GET_SIZE(ways);
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(rows); at++) {
        Py_ssize_t other = length_of(PyList_GET_ITEM(rows, at));
        if (other < 0)
            return -1;
        if (other != length) {
            PyErr_SetString(PyExc_ValueError, "rows and ways differ in length");
            return -1;
        }
    }
    if (length > 0 && PyBytes_AS_STRING(ways)[length - 1] == MEAN) {
        PyErr_SetString(PyExc_ValueError, "a mean without weights");
        return -1;
    }
    return 0;
}

PyObject *
sum_rows(PyObject *module, PyObject *args)
{
    PyObject *rows, *ways;
    if (!PyArg_ParseTuple(args, "O!S", &PyList_Type, &rows, &ways) || check_rows(rows, ways) < 0)
        return NULL;
    Py_ssize_t length = PyBytes_GET_SIZE(ways);
    PyObject *sums = PyList_New(length);
    for (Py_ssize_t place = 0; sums != NULL && place < length; place++) {
        PyObject *sum = column_of(rows, place, PyBytes_AS_STRING(ways)[place]);
        if (sum == NULL)
            Py_CLEAR(sums);
        else
            PyList_SET_ITEM(sums, place, sum);
    }
    return sums;
}

/* -- lines --------------------------------------------- */

enum { OFTEN = 10000 };
static PyObject *texts[OFTEN]; /* of whole numbers, each made when it is first needed */

/* Return a number as repr() writes it, a new reference. */
static PyObject *
text_of(double value)
{
    value += 0.0; /* no -0.0 */
    int is_frequent = value >= 0 && value < OFTEN && value == floor(value);
    if (is_frequent && texts[(int)value] != NULL)
        return Py_NewRef(texts[(int)value]);
    char *digits = PyOS_double_to_string(value, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
    if (digits == NULL)
        return NULL;
    PyObject *text = PyUnicode_FromString(digits);
    PyMem_Free(digits);
    if (is_frequent && text != NULL)
        texts[(int)value] = Py_NewRef(text);
    return text;
}

/* Write the lines of one run of values; NaN has no line. */
static PyObject *
run_of(PyObject *heads, PyObject *middle, PyObject *values, Py_ssize_t from, Py_ssize_t to)
{
    PyObject *nothing = PyUnicode_FromStringAndSize("", 0), *parts = PyList_New(0), *text = NULL;
    if (nothing == NULL || parts == NULL)
        goto done;
    for (Py_ssize_t at = from; at < to; at++) {
        double value;
        if (number_at(values, at, &value) < 0)
            goto done;
        if (isnan(value))
            continue;
        PyObject *number = text_of(value);
        int failed = number == NULL || PyList_Append(parts, PyTuple_GET_ITEM(heads, at)) < 0
                     || PyList_Append(parts, middle) < 0 || PyList_Append(parts, number) < 0;
        Py_XDECREF(number);
        if (failed)
            goto done;
    }
    text = PyUnicode_Join(nothing, parts);
done:
    Py_XDECREF(nothing);
    Py_XDECREF(parts);
    return text;
}

/* Return the lines of a row, a text for each run: lines(heads, ends, middle, values). */
PyObject *
lines(PyObject *module, PyObject *args)
{
    PyObject *heads, *ends, *middle, *values;
    if (!PyArg_ParseTuple(args, "O!O!UO", &PyTuple_Type, &heads, &PyTuple_Type, &ends, &middle,
                          &values))
        return NULL;
    Py_ssize_t number = length_of(values), from = 0;
    if (number < 0)
        return NULL;
    PyObject *runs = PyTuple_New(PyTuple_GET_SIZE(ends));
    for (Py_ssize_t run = 0; runs != NULL && run < PyTuple_GET_SIZE(ends); run++) {
        Py_ssize_t to = PyLong_AsSsize_t(PyTuple_GET_ITEM(ends, run));
        if (to < from || to > number || to > PyTuple_GET_SIZE(heads)) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "ends: not positions of values, in order");
            Py_CLEAR(runs);
            break;
        }
        PyObject *text = run_of(heads, middle, values, from, to);
        if (text == NULL)
            Py_CLEAR(runs);
        else
            PyTuple_SET_ITEM(runs, run, text);
        from = to;
    }
    return runs;
}

/* Append each text of a row to the pieces of its run: spread(pieces, texts). */
PyObject *
spread(PyObject *module, PyObject *args)
{
    PyObject *pieces, *given;
    if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &pieces, &PyTuple_Type, &given))
        return NULL;
    if (PyList_GET_SIZE(pieces) != PyTuple_GET_SIZE(given)) {
        PyErr_SetString(PyExc_ValueError, "not a text for each run");
        return NULL;
    }
    for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(given); at++) {
        PyObject *list = PyList_GET_ITEM(pieces, at);
        if (!PyList_Check(list)) {
            PyErr_SetString(PyExc_TypeError, "the pieces of a run are a list");
            return NULL;
        }
        if (PyList_Append(list, PyTuple_GET_ITEM(given, at)) < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}
