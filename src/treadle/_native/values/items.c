/* See items.h. */
#include "values/items.h"

#include <string.h>

char *items_put(char *buffer, size_t *used, size_t size)
{
    uint16_t length = (uint16_t)size;
    char *at = buffer + *used;
    if (size > UINT16_MAX || *used + sizeof length + size > ITEMS_ROOM)
        return NULL;
    memcpy(at, &length, sizeof length);
    *used += sizeof length + size;
    return at + sizeof length;
}

bool items_next(const char **at, const char *end, const char **item, size_t *length)
{
    uint16_t size;
    if (end - *at < (ptrdiff_t)sizeof size)
        return false;
    memcpy(&size, *at, sizeof size);
    if ((size_t)(end - *at) - sizeof size < size)
        return false;
    *item = *at + sizeof size;
    *length = size;
    *at = *item + size;
    return true;
}
