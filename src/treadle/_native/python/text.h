/* Texts for people: where something stands, and who somebody is. */
#ifndef TREADLE_TEXT_H
#define TREADLE_TEXT_H

#include "python/state.h"

/* "file.py:12" where the innermost Python frame stands, as references that cost no formatting. */
struct place {
    PyObject *code; /* owned; NULL if there was no frame */
    int line;
};
void core_place_here(struct place *place);
void core_place_text(const struct place *place, char *text, size_t size);
/* The same as a text, of the innermost frame that is not treadle's own; where all are, of the innermost. */
void core_users_place(struct core_state *state, char *text, size_t size);
/* That place into shared memory; of a long one the end, which tells more than the beginning. */
void core_store_users_place(struct core_state *state, _Atomic char *to, size_t size);
/* What threading calls the calling thread; "" if it does not know it.  Runs no Python code. */
void core_threading_name(struct core_state *state, char *text, size_t size);
/* The calling thread's Python stack, innermost call last, a line each. */
void core_stack_text(char *text, size_t size);
/* Copy a str as UTF-8. */
void core_copy_str(PyObject *str, char *text, size_t size);
/* The same for any object that is a str; empty for any other. */
void core_text_of(PyObject *op, char *text, size_t size);
/* The name of the thread that owns the token: what the board knows. */
void core_owner_text(tl_token token, char *text, size_t size);

#endif
