/* The fast path of one guarded function: resilient.engine.fast_path in C.

   It looks at everything first and commits only if all is usual; else the twin in Python runs the
   call, of which nothing was taken. */
#ifndef RESILIENT_PATH_H
#define RESILIENT_PATH_H

#include "rules.h"

enum { MOST_GUARDS = 8 };

typedef struct {
    PyObject *guard;
    const Rule *rule;
    PyObject *kind; /* its name in the counts of refusals */
} Place;

/* How one function is called; made by resilient.engine.compiled. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    CountersState *core;
    Py_ssize_t number; /* of guards */
    Place places[MOST_GUARDS];
    TimeoutState *limit; /* NULL without one */
    PyObject *fn;        /* the body */

    /* For deadlines: what they share while neither the limit nor the clock has changed. */
    PyObject *terms, *clock, *deadline_type;
    double seconds;
    PyObject *timers; /* a weak reference to the TimeoutQueueState of the last call, or None */

    /* Python's part: what is rare. */
    PyObject *ends;     /* resilient.engine.compiled: its methods end a call that is not usual */
    PyObject *pipeline; /* for what goes to the outbox */
    PyObject *twin;     /* the function in Python; NULL until it is needed */
    PyObject *leave;    /* book a success in the policy's section */
    PyObject *fails;    /* book a plain failure: engine/fast_failure.py; or None */
    PyObject *keep;     /* give a good value to the guards that keep some; or None */
    PyObject *direct;   /* the fallback's function, called with the call's arguments; or None */
    PyObject *constant; /* the fallback's value; or None */
    char answers;       /* a fallback answers each refusal */
    char detached;      /* its passes are of blocks or streams, which outlive a frame */
    PyTypeObject *plain;        /* the last type of a value that proved to be nothing unusual */
    PyTypeObject *plain_answer; /* the same for the answers of a fallback */
} FastPath;

/* A call that was admitted: what must be given back. One that is freed before it was booked, or
   handed over, leaves that to the policy's outbox. */
typedef struct Pass {
    PyObject_HEAD
    FastPath *path;
    double began, ended;
    double step, spent; /* of a stream: when its last step began; seconds in those before it */
    whole tickets[MOST_GUARDS];
    PyObject *deadline; /* of its own, or NULL */
    PyObject *entries;  /* the queue of the deadline's timer, or NULL */
    void *greenlet; /* that runs it; NULL where there were none. Borrowed: it is compared only,
                       and a reference would keep a dropped greenlet from ending its call */
    unsigned long thread;
    char booked;
    char in_body; /* a sync call: listed, since no frame shows it */
    struct Pass *before, *after;
} Pass;

typedef enum { ENTERED, NOT_USUAL, REFUSED, FAULT } Entry;

extern PyTypeObject FastPath_Type, Pass_Type, Late_Type, Forward_Type;

/* What Python gives the module, once. */
typedef struct {
    PyObject *current;   /* the context variable of deadlines */
    PyObject *monotonic; /* time.monotonic, whose reading C takes itself */
    PyObject *give_back;              /* settlement.give_back, for a call that was not booked */
    PyObject *raise_it;               /* what SyncEnds.raised returns to have the body's error raised as it is */
    PyObject *running_loop, *task_in; /* of asyncio; NULL until it is in use */
    PyObject *getcurrent;             /* of greenlet; NULL until that is imported */
    double shortest;                  /* the upper edge of the first bucket of durations */
    double quiet;                     /* after so many seconds a refusal is news */
    int refused;                      /* the outcome, a position in `counts` */
    /* Positions in a shared row: engine/counters.py. */
    int row_quick, row_duration_sum, row_in_flight, row_refused, row_degraded;
} Settings;

extern Settings given;

/* Names of methods and attributes of Python's part, interned: see path_type.c. */
typedef struct {
    PyObject *answer, *answer_failed, *cancelling, *degraded, *flush, *is_answer, *is_unusual,
        *getcurrent, *greenlet, *on_end, *raised, *refused_at, *returned, *start, *terms,
        *timers, *twin, *parent;
} Names;

extern Names names;

/* path.c ---------------------------------------------- */

/* Return what time.monotonic returns. */
double monotonic_now(void);
/* Read a policy's clock, in seconds; return -1 with an exception if that raised. */
int time_of(CountersState *core, double *now);
/* Return a new deadline from now on; NULL with an exception. */
PyObject *new_deadline(FastPath *path, double now);
/* Bring what deadlines share up to date; return -1 with an exception if that raised. */
int renew_terms(FastPath *path);
/* Ask all guards, and take all their tickets or none. On REFUSED *place is the guard's. It takes
   over the reference to the deadline, which may be NULL. */
Entry enter(FastPath *path, PyObject *deadline, double now, Pass **made, Py_ssize_t *place);
/* The seconds that a call which ends at pass->ended took, without those of a stream's consumer. */
double duration_of(Pass *pass);
/* Return whether a success at pass->ended can be booked by additions alone. */
int is_usual(Pass *pass);
/* Return whether no deadline is set round the running code: 1, 0, -1. */
int is_free(void);
/* Book a success at pass->ended; return -1 with an exception. */
int leave(Pass *pass);
/* Have the outbox give back what a pass holds, unless that is booked; return -1 on an exception. */
int give_back(Pass *pass);
/* The tickets in the form that Python's sections take; NULL with an exception. */
PyObject *tickets_of(Pass *pass);
/* Close the deadline of a pass, and take it out of the context if it is the current one. */
int close_deadline(Pass *pass, int reset);
/* Have an error be the one that is handled, and return what is to be given to `handled_before`. */
PyObject *handle(PyObject *error);
void handled_before(PyObject *before);
/* Put a sync call in the list of those in flight, or take it out. */
void list_pass(Pass *pass);
void unlist_pass(Pass *pass);
/* Let Python see a pass. */
void show_pass(Pass *pass);
/* Return the function in Python; a borrowed reference, NULL with an exception. */
PyObject *twin_of(FastPath *path);
/* Return the positional arguments as a tuple, the others as a dict; -1 with an exception. */
int arguments(PyObject *const *args, size_t nargsf, PyObject *kwnames, PyObject **tuple,
              PyObject **dict);

/* path_type.c ---------------------------------------------- */

PyObject *quicken(PyObject *module, PyObject *fn);
/* Return the running greenlet, borrowed; NULL without an exception where there are none. */
void *greenlet_here(void);
PyObject *passes_here(PyObject *module, PyObject *unused);
PyObject *forget_others(PyObject *module, PyObject *unused);
int add_path_types(PyObject *module);

/* rows.c: what a scrape does with rows. */
PyObject *exact_row(PyObject *module, PyObject *args);
PyObject *sum_rows(PyObject *module, PyObject *args);
PyObject *lines(PyObject *module, PyObject *args);
PyObject *spread(PyObject *module, PyObject *args);

/* late.c: have the outbox give back what a pass holds; return -1 with an exception. */
int leave_to_outbox(Pass *pass);

/* stream.c: methods of a pass, round each step of a stream. */
PyObject *pass_begin_step(PyObject *pass, PyObject *unused);
PyObject *pass_end_step(PyObject *pass, PyObject *gave);

/* signal.c: wake one thread and wait for another, in one step. */
extern PyTypeObject Signal_Type;
PyObject *exchange(PyObject *module, PyObject *const *args, Py_ssize_t number);

/* sync_call.c: call the function, or enter for a block. */
PyObject *path_enter_here(PyObject *path, PyObject *unused);
PyObject *call_sync(PyObject *path, PyObject *const *args, size_t nargsf, PyObject *kwnames);

/* async_call.c: what a coroutine function does before and after its body. */
PyObject *path_enter(PyObject *path, PyObject *unused);
PyObject *path_enter_task(PyObject *path, PyObject *task);
PyObject *path_leave(PyObject *path, PyObject *const *args, Py_ssize_t number);
/* Close the deadline of a pass, and take it out of the queue of its timer. */
int lift_limit(Pass *pass);

/* refusal.c: count a refusal by the guard at a place, and answer it by the fallback. NULL without
   an exception where that is not usual, and nothing was counted. */
PyObject *answer_refusal(FastPath *path, Py_ssize_t place, double now, PyObject *const *args,
                         size_t nargsf, PyObject *kwnames);

#endif
