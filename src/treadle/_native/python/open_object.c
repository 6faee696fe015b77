/* The common base of the classes that users may extend. */
#include "python/open_object.h"
#include "python/text.h"

#include <stdio.h>

PyObject *open_alloc(PyTypeObject *type)
{
    struct open_object *self = (struct open_object *)type->tp_alloc(type, 0);
    struct place place;
    if (self == NULL)
        return NULL;
    core_place_here(&place);
    self->code = place.code;
    self->line = place.line;
    return (PyObject *)self;
}

int open_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct open_object *self = (struct open_object *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->dict);
    return 0;
}

int open_clear(PyObject *op)
{
    Py_CLEAR(((struct open_object *)op)->dict);
    return 0;
}

void open_dealloc(PyObject *op)
{
    struct open_object *self = (struct open_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (self->weak != NULL)
        PyObject_ClearWeakRefs(op);
    Py_XDECREF(self->dict);
    Py_XDECREF(self->code);
    type->tp_free(op);
    Py_DECREF(type);
}

void open_describe(PyObject *op, const char *kind, char *text, size_t size)
{
    struct open_object *self = (struct open_object *)op;
    struct place place = {self->code, self->line};
    char where[160];
    core_place_text(&place, where, sizeof where);
    snprintf(text, size, "%s (made at %s)", kind, where);
}

PyObject *open_type_name(PyObject *op)
{
    PyObject *name = PyType_GetQualName(Py_TYPE(op)), *module, *text;
    if (name == NULL)
        return NULL;
    if (Py_TYPE(op)->tp_flags & Py_TPFLAGS_IMMUTABLETYPE) {
        text = PyUnicode_FromFormat("treadle.%U", name);
    } else {
        module = PyObject_GetAttrString((PyObject *)Py_TYPE(op), "__module__");
        text = module == NULL ? NULL : PyUnicode_FromFormat("%S.%U", module, name);
        Py_XDECREF(module);
    }
    Py_DECREF(name);
    return text;
}

PyMemberDef open_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(struct open_object, weak), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(struct open_object, dict), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
