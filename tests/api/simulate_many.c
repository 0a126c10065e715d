/* The same schedules in greater number, without the sanitizers: see simulate.c. */
#define SEEDS 100000
#include "simulate.c"
