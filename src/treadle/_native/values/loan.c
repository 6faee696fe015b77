/* See loan.h. */
#include "values/loan.h"
#include "values/values.h"
#include "system/points.h"
#include "memory/extents.h"

struct loan_object {
    PyObject_HEAD
    PyObject *queue; /* owned: ring lies in it */
    struct ring *ring;
    struct extent *extent; /* a reference */
    size_t size;
    uint32_t cell;
    /* Under the mutex: */
    uint64_t word; /* what the cell's word is while it is lent; 0 when it was given back */
    struct loan_object *next, **link;
};

static struct loan_object *loans; /* this process's; under the extents' mutex */

static void give_back(struct loan_object *loan)
{
    if (loan->word != 0 && (loan->word & TL_OWNER_MASK) == tl_process_token() && atomic_load(&cell_at(loan->ring, loan->cell)->word) == loan->word)
        cell_release(loan->ring, loan->cell);
    loan->word = 0;
    if (loan->link != NULL) {
        *loan->link = loan->next;
        if (loan->next != NULL)
            loan->next->link = loan->link;
    }
    loan->link = NULL;
}

/* Before a fork.  One that can't be made this process's own, for lack of memory, stays lent: the child may then see it
 * change, once the parent is done with it. */
static void make_own(void)
{
    struct loan_object *loan = loans, *next;
    for (; loan != NULL; loan = next) {
        next = loan->next;
        if (os_memory_own(loan->ring->segment->fd, loan->extent->offset, loan->extent->memory, loan->extent->size) == 0) {
            extent_forget(loan->ring, loan->cell, loan->extent);
            give_back(loan);
        }
    }
}

PyObject *loan_new(struct core_state *state, PyObject *queue, struct ring *ring, uint32_t cell, uint64_t taken,
                   size_t size)
{
    struct loan_object *loan = NULL;
    tl_token owner = tl_process_token();
    struct extent *extent;
    if (owner == 0)
        return NULL;
    atomic_store(&extents_before_fork, make_own);
    extent = extent_use(ring, cell, true);
    if (extent != NULL)
        loan = PyObject_New(struct loan_object, state->loan_type);
    if (loan == NULL) {
        if (extent != NULL)
            extent_drop(extent);
        PyErr_Clear();
        return NULL;
    }
    loan->queue = Py_NewRef(queue);
    loan->ring = ring;
    loan->extent = extent;
    loan->size = size;
    loan->cell = cell;
    loan->word = owner | CELL_TAKEN;
    /* From the thread, which may end before, to the process. */
    cell_turn(ring, cell, taken, loan->word);
    TL_POINT("ring.loan.lent");
    extents_enter();
    loan->next = loans;
    loan->link = &loans;
    if (loans != NULL)
        loans->link = &loan->next;
    loans = loan;
    extents_leave();
    return (PyObject *)loan;
}

static void loan_dealloc(PyObject *op)
{
    struct loan_object *self = (struct loan_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    extents_enter();
    give_back(self);
    extents_leave();
    extent_drop(self->extent);
    Py_DECREF(self->queue);
    PyObject_Free(op);
    Py_DECREF(type);
}

static int loan_buffer(PyObject *op, Py_buffer *view, int flags)
{
    struct loan_object *self = (struct loan_object *)op;
    return PyBuffer_FillInfo(view, op, self->extent->memory, (Py_ssize_t)self->size, 0, flags);
}

static PyType_Slot loan_slots[] = {
    {Py_tp_dealloc, loan_dealloc},
    {Py_bf_getbuffer, loan_buffer},
    {0, NULL},
};

static PyType_Spec loan_spec = {
    .name = "treadle._native._core.Loan",
    .basicsize = sizeof(struct loan_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = loan_slots,
};

int core_add_loan(PyObject *module, struct core_state *state)
{
    state->loan_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &loan_spec, NULL);
    return state->loan_type == NULL ? -1 : 0;
}
