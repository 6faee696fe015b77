/* Items: several values as bytes, one behind the other, each with its length before it. */
#ifndef TREADLE_ITEMS_H
#define TREADLE_ITEMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ITEM_HEAD sizeof(uint16_t) /* bytes before each item */
#define ITEMS_ROOM 16384 /* bytes of them all; one record of a lane */

/* Room for an item of that size: where its bytes go; NULL if there is none. */
char *items_put(char *buffer, size_t *used, size_t size);
/* The next item; false at the end, and where the bytes are no items. */
bool items_next(const char **at, const char *end, const char **item, size_t *length);

#endif
