/* Bound methods that cost little, for `with`.
 *
 * Before Python 3.14, a `with` statement makes two bound method objects, tracked by the garbage collector, and throws
 * them away again: that is most of its time.  The descriptors here make smaller objects for __enter__ and __exit__ of
 * our locks, which need no tracking because they refer to a lock of exactly our class only.  Asked on the class, they
 * give the ordinary method.  From 3.14 on the interpreter makes no such objects, and this file does nothing; neither
 * does it on free-threaded builds, where the objects' class would be a point of contention.
 */
#include "python/light.h"

#if PY_VERSION_HEX < 0x030e0000 && !defined(Py_GIL_DISABLED)

struct bound {
    PyObject_HEAD
    vectorcallfunc call;
    PyObject *self;  /* owned: an object of exactly our class */
    PyObject *inner; /* borrowed: the ordinary method descriptor; lives as long as the class, which self keeps alive */
};

struct descriptor {
    PyObject_HEAD
    PyObject *inner; /* the ordinary method descriptor */
    vectorcallfunc call;
    PyTypeObject *owner;      /* borrowed: its dictionary holds this */
    PyTypeObject *bound_type; /* owned */
};

typedef PyObject *(*fast_function)(PyObject *self, PyObject *const *args, Py_ssize_t nargs);

static PyCFunction function_of(const struct bound *bound)
{
    return ((PyMethodDescrObject *)bound->inner)->d_method->ml_meth;
}

static PyObject *call_enter(PyObject *op, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    struct bound *bound = (struct bound *)op;
    (void)args;
    if (PyVectorcall_NARGS(nargsf) != 0 || kwnames != NULL) {
        PyErr_SetString(PyExc_TypeError, "__enter__() takes no arguments");
        return NULL;
    }
    return function_of(bound)(bound->self, NULL);
}

static PyObject *call_exit(PyObject *op, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    struct bound *bound = (struct bound *)op;
    if (kwnames != NULL) {
        PyErr_SetString(PyExc_TypeError, "__exit__() takes no keyword arguments");
        return NULL;
    }
    return ((fast_function)(void (*)(void))function_of(bound))(bound->self, args, PyVectorcall_NARGS(nargsf));
}

static void bound_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    Py_DECREF(((struct bound *)op)->self);
    PyObject_Free(op);
    Py_DECREF(type);
}

static PyObject *bound_getattro(PyObject *op, PyObject *name)
{
    PyObject *value = PyObject_GenericGetAttr(op, name);
    if (value == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        value = PyObject_GetAttr(((struct bound *)op)->inner, name);
    }
    return value;
}

static PyObject *bound_repr(PyObject *op)
{
    struct bound *self = (struct bound *)op;
    return PyUnicode_FromFormat("<bound method %S of %R>", self->inner, self->self);
}

static PyMemberDef bound_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(struct bound, call), READONLY, NULL},
    {"__self__", T_OBJECT_EX, offsetof(struct bound, self), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot bound_slots[] = {
    {Py_tp_dealloc, bound_dealloc}, {Py_tp_call, PyVectorcall_Call}, {Py_tp_getattro, bound_getattro},
    {Py_tp_members, bound_members}, {Py_tp_repr, bound_repr},        {0, NULL},
};

static PyType_Spec bound_spec = {
    .name = "treadle._native._core.bound_method",
    .basicsize = sizeof(struct bound),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = bound_slots,
};

static PyObject *descriptor_get(PyObject *op, PyObject *object, PyObject *type)
{
    struct descriptor *self = (struct descriptor *)op;
    struct bound *bound;
    if (object == NULL || object == Py_None)
        return Py_NewRef(self->inner);
    if (Py_TYPE(object) != self->owner)
        return Py_TYPE(self->inner)->tp_descr_get(self->inner, object, type);
    bound = PyObject_New(struct bound, self->bound_type);
    if (bound == NULL)
        return NULL;
    bound->call = self->call;
    bound->self = Py_NewRef(object);
    bound->inner = self->inner;
    return (PyObject *)bound;
}

static void descriptor_dealloc(PyObject *op)
{
    struct descriptor *self = (struct descriptor *)op;
    PyTypeObject *type = Py_TYPE(op);
    Py_XDECREF(self->inner);
    Py_XDECREF(self->bound_type);
    PyObject_Free(op);
    Py_DECREF(type);
}

static PyType_Slot descriptor_slots[] = {
    {Py_tp_dealloc, descriptor_dealloc},
    {Py_tp_descr_get, descriptor_get},
    {0, NULL},
};

static PyType_Spec descriptor_spec = {
    .name = "treadle._native._core.method",
    .basicsize = sizeof(struct descriptor),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = descriptor_slots,
};

static int replace(PyTypeObject *type, PyTypeObject *descriptor_type, PyTypeObject *bound_type, const char *name,
                   vectorcallfunc call)
{
    PyObject *inner = PyDict_GetItemString(type->tp_dict, name); /* borrowed */
    struct descriptor *descriptor;
    int rc;
    if (inner == NULL)
        return -1;
    descriptor = PyObject_New(struct descriptor, descriptor_type);
    if (descriptor == NULL)
        return -1;
    descriptor->inner = Py_NewRef(inner);
    descriptor->call = call;
    descriptor->owner = type;
    descriptor->bound_type = (PyTypeObject *)Py_NewRef((PyObject *)bound_type);
    rc = PyDict_SetItemString(type->tp_dict, name, (PyObject *)descriptor);
    Py_DECREF(descriptor);
    PyType_Modified(type);
    return rc;
}

int core_light_methods(PyObject *module, PyTypeObject *type)
{
    PyObject *descriptor = PyType_FromModuleAndSpec(module, &descriptor_spec, NULL);
    PyObject *bound = PyType_FromModuleAndSpec(module, &bound_spec, NULL);
    int rc = -1;
    if (descriptor != NULL && bound != NULL &&
        replace(type, (PyTypeObject *)descriptor, (PyTypeObject *)bound, "__enter__", call_enter) == 0 &&
        replace(type, (PyTypeObject *)descriptor, (PyTypeObject *)bound, "__exit__", call_exit) == 0)
        rc = 0;
    Py_XDECREF(descriptor);
    Py_XDECREF(bound);
    return rc;
}

#else

int core_light_methods(PyObject *module, PyTypeObject *type)
{
    (void)module;
    (void)type;
    return 0;
}

#endif
