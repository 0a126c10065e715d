/* The program's own assert, with <assert.h> not needed. */
#ifdef __cplusplus
extern "C"
#endif
void program_assert_failed(const char *text, int line);

#define PUSHER_ASSERT(x) ((x) ? (void)0 : program_assert_failed(#x, __LINE__))
#define PUSHER_IMPLEMENTATION
#include "pusher.h"
