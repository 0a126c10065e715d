/* PUSHER_STATIC: private to this file. A program never uses all functions, and gets no warning. */
#define PUSHER_STATIC
#define PUSHER_IMPLEMENTATION
#include "pusher.h"

int main(void)
{
    pusher_error error;
    pusher_client *client = pusher_create(NULL, &error);
    pusher_destroy(client);
    return client == NULL && error.code == PUSHER_ERR_ARGUMENT ? 0 : 1;
}
