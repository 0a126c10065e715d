/* The header first, among other things, and the implementation at the end of the same file. */
#include "pusher.h"
#include <string.h>

int state_name_is(pusher_state state, const char *name);

int state_name_is(pusher_state state, const char *name)
{
    return strcmp(pusher_state_name(state), name) == 0;
}

#define PUSHER_IMPLEMENTATION
#include "pusher.h"
