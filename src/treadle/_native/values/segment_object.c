/* Segment: shared memory as Python sees it: a buffer that other processes can open, and that ends with its last user. */
#include "python/arguments.h"
#include "values/values.h"
#include "memory/segment.h"

#include <errno.h>

/* A mapping of the data as long as they were when it was made.  Views of a shorter one stay valid when the segment
 * grows, so mappings are kept until the object goes. */
struct mapping {
    struct mapping *older;
    char *memory; /* from the segment's head on */
    uint64_t size; /* of the data */
};

struct segment_object {
    PyObject_HEAD
    PyObject *weak;
    struct tl_segment *segment; /* owned */
    struct mapping *_Atomic mapping; /* the newest; a list that only grows */
};

static PyObject *object_for(PyTypeObject *type, struct tl_segment *segment)
{
    struct segment_object *self = (struct segment_object *)type->tp_alloc(type, 0);
    if (self == NULL)
        tl_segment_drop(segment);
    else
        self->segment = segment;
    return (PyObject *)self;
}

static PyObject *segment_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"size", NULL};
    struct tl_segment *segment;
    long long size;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "L:Segment", names, &size))
        return NULL;
    if (size < 0) {
        PyErr_SetString(PyExc_ValueError, "a segment's size is 0 or more");
        return NULL;
    }
    if (core_self() == NULL) /* the board has to list this process: others look there for it */
        return NULL;
    segment = tl_segment_new((uint64_t)size);
    return segment == NULL ? core_failed(errno) : object_for(type, segment);
}

/* The newest mapping, which has all of the data; NULL with an exception. */
static struct mapping *newest(struct segment_object *self)
{
    for (;;) {
        struct mapping *now = atomic_load(&self->mapping), *fresh;
        uint64_t size = atomic_load(&self->segment->head->size);
        if (now != NULL && now->size >= size)
            return now;
        fresh = PyMem_Malloc(sizeof *fresh);
        if (fresh == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        fresh->memory = os_memory_map(self->segment->fd, (size_t)(TL_SEGMENT_DATA + size));
        if (fresh->memory == NULL) {
            int error = errno;
            PyMem_Free(fresh);
            core_failed(error);
            return NULL;
        }
        fresh->size = size;
        fresh->older = now;
        if (atomic_compare_exchange_strong(&self->mapping, &now, fresh))
            return fresh;
        os_memory_unmap(fresh->memory, (size_t)(TL_SEGMENT_DATA + size));
        PyMem_Free(fresh);
    }
}

static int segment_buffer(PyObject *op, Py_buffer *view, int flags)
{
    struct mapping *mapping = newest((struct segment_object *)op);
    if (mapping == NULL) {
        view->obj = NULL;
        return -1;
    }
    return PyBuffer_FillInfo(view, op, mapping->memory + TL_SEGMENT_DATA, (Py_ssize_t)mapping->size, 0, flags);
}

static void segment_dealloc(PyObject *op)
{
    struct segment_object *self = (struct segment_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    struct mapping *mapping = atomic_load(&self->mapping), *older;
    if (self->weak != NULL)
        PyObject_ClearWeakRefs(op);
    for (; mapping != NULL; mapping = older) {
        older = mapping->older;
        os_memory_unmap(mapping->memory, (size_t)(TL_SEGMENT_DATA + mapping->size));
        PyMem_Free(mapping);
    }
    if (self->segment != NULL)
        tl_segment_drop(self->segment);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *segment_grow(PyObject *op, PyObject *arg)
{
    long long size = PyLong_AsLongLong(arg);
    int error;
    if (size == -1 && PyErr_Occurred())
        return NULL;
    error = size < 0 ? 0 : tl_segment_grow(((struct segment_object *)op)->segment, (uint64_t)size);
    if (error != 0)
        return core_failed(error);
    Py_RETURN_NONE;
}

static PyObject *segment_reduce(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    PyObject *handles = PyImport_ImportModule("treadle.handles"), *reduced;
    struct tl_handle handle;
    if (handles == NULL)
        return NULL;
    handle = tl_segment_send(((struct segment_object *)op)->segment);
    reduced = PyObject_CallMethod(handles, "reduced", "sIiK", "treadle._native._core:segment_open", handle.pid,
                                  handle.fd, (unsigned long long)handle.id);
    Py_DECREF(handles);
    return reduced;
}

static PyObject *segment_repr(PyObject *op)
{
    struct segment_object *self = (struct segment_object *)op;
    char id[24];
    PyOS_snprintf(id, sizeof id, "%016llx", (unsigned long long)self->segment->id);
    return PyUnicode_FromFormat("<treadle.Segment %s of %llu bytes>", id,
                                (unsigned long long)atomic_load(&self->segment->head->size));
}

static PyObject *get_size(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(atomic_load(&((struct segment_object *)op)->segment->head->size));
}

static PyObject *get_id(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(((struct segment_object *)op)->segment->id);
}

static PyObject *get_descriptor(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(((struct segment_object *)op)->segment->fd);
}

static PyObject *get_transit(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(atomic_load(&((struct segment_object *)op)->segment->head->transit));
}

/* segment_open(pid, fd, id): the segment of that handle, which has arrived here. */
static PyObject *segment_open(PyObject *module, PyObject *args)
{
    struct core_state *state = PyModule_GetState(module);
    struct tl_handle handle;
    struct tl_segment *segment;
    unsigned long long id;
    if (core_self() == NULL || !PyArg_ParseTuple(args, "IiK:segment_open", &handle.pid, &handle.fd, &id))
        return NULL;
    handle.id = id;
    segment = tl_segment_join(&handle);
    if (segment != NULL)
        return object_for(state->segment_type, segment);
    if (errno != ENOENT)
        return core_failed(errno);
    PyErr_SetString(PyExc_FileNotFoundError, "this segment is gone: every process that had it has ended");
    return NULL;
}

PyDoc_STRVAR(segment_doc,
"Segment(size)\n--\n\n"
"Shared memory of `size` bytes, all zero, that any process of this session can open: pickle it to send it there.\n\n"
"Its memory is real from the start (MemoryError or OSError if there is none), and is freed with its last user, however\n"
"that ends.  It supports the buffer protocol: memoryview(segment) is writable.  What is sent is kept open by its sender\n"
"until it arrives, for ten minutes at most.  Safe in threads and processes, as far as what is in it is.");
PyDoc_STRVAR(grow_doc,
"grow($self, size, /)\n--\n\n"
"At least `size` bytes; it never shrinks.  Views that were made before keep their size.\n\n"
"MemoryError or OSError if the memory is not there; then nothing has changed.");

static PyMethodDef segment_methods[] = {
    {"grow", segment_grow, METH_O, grow_doc},
    {"__reduce__", segment_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef segment_getset[] = {
    {"size", get_size, NULL, "How many bytes it has.", NULL},
    {"id", get_id, NULL, "A random number that names it.", NULL},
    {"descriptor", get_descriptor, NULL, "This process's file descriptor of it.", NULL},
    {"transit", get_transit, NULL, "How often it was sent and has not arrived.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef segment_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(struct segment_object, weak), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot segment_slots[] = {
    {Py_tp_doc, (void *)segment_doc},       {Py_tp_new, segment_new},         {Py_tp_dealloc, segment_dealloc},
    {Py_tp_methods, segment_methods},       {Py_tp_getset, segment_getset},   {Py_tp_members, segment_members},
    {Py_tp_repr, segment_repr},             {Py_bf_getbuffer, segment_buffer}, {0, NULL},
};

static PyType_Spec segment_spec = {
    .name = "treadle._native._core.Segment",
    .basicsize = sizeof(struct segment_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = segment_slots,
};

/* segments_tidy(seconds): what was sent that long ago and is used here no more is taken for lost. */
static PyObject *segments_tidy(PyObject *Py_UNUSED(module), PyObject *arg)
{
    int64_t lost;
    if (core_timeout(arg, &lost) < 0)
        return NULL;
    tl_segments_tidy((uint64_t)lost);
    Py_RETURN_NONE;
}

static PyMethodDef segment_functions[] = {
    {"segments_tidy", segments_tidy, METH_O, NULL},
    {"segment_open", segment_open, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

int core_add_segment(PyObject *module, struct core_state *state)
{
    state->segment_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &segment_spec, NULL);
    if (state->segment_type == NULL || PyModule_AddFunctions(module, segment_functions) < 0)
        return -1;
    return PyModule_AddType(module, state->segment_type);
}
