/* Counts what malloc itself is asked for, by whomever. Include it in one file of a program, call
   mallocs_start() first; where that is false nobody can tell and the counters stay. */
#ifndef MALLOCS_H
#define MALLOCS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* Volatile, for a compiler knows malloc and would take the counters to be as they were. */
static volatile uint64_t mallocs, malloc_bytes; /* calls (calloc and realloc too), bytes asked for */

#if defined(__SANITIZE_ADDRESS__)
#define MALLOCS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MALLOCS_ASAN 1
#endif
#endif

#if defined(MALLOCS_ASAN)
int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *, size_t),
                                              void (*on_free)(const volatile void *));

static void mallocs_on_malloc(const volatile void *memory, size_t size)
{
    (void)memory;
    mallocs++;
    malloc_bytes += size;
}

static void mallocs_on_free(const volatile void *memory)
{
    (void)memory;
}

static bool mallocs_hook(void)
{
    return __sanitizer_install_malloc_and_free_hooks(mallocs_on_malloc, mallocs_on_free) != 0;
}
#elif defined(__GLIBC__)
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);

void *malloc(size_t size)
{
    mallocs++;
    malloc_bytes += size;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    mallocs++;
    malloc_bytes += count * size;
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    mallocs++;
    malloc_bytes += size;
    return __libc_realloc(memory, size);
}

static bool mallocs_hook(void)
{
    return true;
}
#else
static bool mallocs_hook(void)
{
    return false;
}
#endif

static bool mallocs_start(void)
{
    bool hooked = mallocs_hook();
    uint64_t before = mallocs;
    void *volatile probe = malloc(1); /* somebody else may stand in between, valgrind for one */
    free(probe);
    return hooked && mallocs > before;
}

#endif
