/* For the tests of one room: pusher.h with its implementation, and an environment whose heap is
   watched. */
#ifndef ROOM_H
#define ROOM_H

#define PUSHER_IMPLEMENTATION
#include "pusher.h"

#include "fake.h"

static inline void use_heap(struct psh_env *env, fake_heap *heap)
{
    pusher_options options;
    memset(&options, 0, sizeof options);
    memset(heap, 0, sizeof *heap);
    options.allocator.alloc_fn = fake_heap_alloc;
    options.allocator.free_fn = fake_heap_free;
    options.allocator.user_data = heap;
    psh_env_init(env, &options);
}

static inline void heap_is_empty(const fake_heap *heap)
{
    assert_null(heap->violation);
    assert_int_equal(heap->live_blocks, 0);
    assert_int_equal(heap->live_bytes, 0);
}

#endif
