/* The implementation alone, as first include: C and C++, every standard, every switch. */
#define PUSHER_IMPLEMENTATION
#include "pusher.h"
