/* The same tests on the branch for compilers and machines that cannot count zeros from below. */
#define UNIT_PORTABLE
#include "walk.c"
