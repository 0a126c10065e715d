/* Included again and again, as happens when other headers include it: the implementation stands
   in this file once, though its switch stays defined. */
#include "pusher.h"
#include "pusher.h"
#define PUSHER_IMPLEMENTATION
#include "pusher.h"
#include "pusher.h"

int main(void)
{
    return pusher_state_name(PUSHER_CONNECTED) != NULL ? 0 : 1;
}
