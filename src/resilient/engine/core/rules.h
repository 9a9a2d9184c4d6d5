/* What the fast path knows of a guard, beside the guard's methods in Python.

   A rule looks first and changes nothing but notes of its own; the fast path takes the tickets of all guards, or of
   none. No rule runs Python code, so that a look and what follows it are one step under the GIL. */
#ifndef RESILIENT_RULES_H
#define RESILIENT_RULES_H

#include "state.h"

/* What `look` answers besides a ticket. */
enum { UNUSUAL = -1, REFUSES = -2 };

typedef struct {
    /* Return the ticket that `admit` would give; UNUSUAL where `admit` would do more than count,
       REFUSES where it would refuse and change nothing. */
    whole (*look)(PyObject *guard, double now);
    /* Take the ticket that `look` has just promised. */
    void (*take)(PyObject *guard);
    /* Return whether `settle_success` would only count. */
    int (*is_usual)(PyObject *guard, whole ticket, double now, double duration);
    /* Take back the ticket of a success for which `is_usual` has just said yes. */
    void (*give)(PyObject *guard, double duration);
} Rule;

/* Return the rule for a guard; NULL where the core has none for its type. */
const Rule *rule_of(PyObject *guard);

#endif
