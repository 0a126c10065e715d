/* The env room: allocator, logger, randomness, buffers, text that is cut, pools. */
#include "room.h"

/* ---- hooks ----------------------------------------------------------------------------------- */

static void no_allocator_means_malloc(void **state)
{
    (void)state;
    pusher_options options;
    struct psh_env env;
    memset(&options, 0, sizeof options);
    memset(&env, 0xA5, sizeof env);
    psh_env_init(&env, &options);
    unsigned char *memory = (unsigned char *)psh_env_alloc(&env, 100);
    assert_non_null(memory);
    memset(memory, 1, 100);
    free(memory); /* it is malloc's own */
    psh_env_free(&env, malloc(7));
    psh_env_free(&env, NULL);
}

static void the_users_allocator_is_used(void **state)
{
    (void)state;
    struct psh_env env;
    fake_heap heap;
    use_heap(&env, &heap);
    void *memory = psh_env_alloc(&env, 100);
    assert_non_null(memory);
    assert_int_equal(heap.calls, 1);
    assert_int_equal(heap.live_bytes, 100);
    psh_env_free(&env, memory);
    heap_is_empty(&heap);
    heap.fail_at = 2;
    assert_null(psh_env_alloc(&env, 1));
    assert_int_equal(heap.failed, 1);
}

static void count_free(void *memory, void *user_data)
{
    (void)memory;
    ++*(int *)user_data;
}

static void *no_alloc(size_t size, void *user_data)
{
    (void)size;
    (void)user_data;
    return NULL;
}

static void null_is_never_given_to_free(void **state)
{
    (void)state;
    int freed = 0;
    pusher_options options;
    struct psh_env env;
    memset(&options, 0, sizeof options);
    options.allocator.alloc_fn = no_alloc;
    options.allocator.free_fn = count_free;
    options.allocator.user_data = &freed;
    psh_env_init(&env, &options);
    psh_env_free(&env, NULL);
    assert_int_equal(freed, 0);
    psh_env_free(&env, &env);
    assert_int_equal(freed, 1);
}

static char logged[64];

static void keep_log(const char *message, void *user_data)
{
    ++*(int *)user_data;
    snprintf(logged, sizeof logged, "%s", message);
}

/* What is freed must be zeros up to its terminator. */
static void free_wiped(void *memory, void *user_data)
{
    const char *text = (const char *)memory;
    for (size_t i = 0; i < 9; i++) assert_int_equal(text[i], 0);
    ++*(int *)user_data;
    free(memory);
}

static void secrets_are_wiped(void **state)
{
    (void)state;
    pusher_options options;
    struct psh_env env;
    unsigned char bytes[20];
    int freed = 0;
    for (size_t len = 0; len <= 18; len++) {
        memset(bytes, 0xA5, sizeof bytes);
        psh_env_wipe(bytes + 1, len);
        for (size_t i = 0; i < sizeof bytes; i++)
            assert_int_equal(bytes[i], i >= 1 && i <= len ? 0 : 0xA5);
    }
    psh_env_wipe(NULL, 0);
    memset(&options, 0, sizeof options);
    options.allocator.alloc_fn = psh_env_malloc;
    options.allocator.free_fn = free_wiped;
    options.allocator.user_data = &freed;
    psh_env_init(&env, &options);
    char *text = (char *)malloc(9);
    assert_non_null(text);
    memcpy(text, "a secret", 9);
    psh_env_free_secret(&env, text);
    assert_int_equal(freed, 1);
    psh_env_free_secret(&env, NULL);
    assert_int_equal(freed, 1);
}

static void the_logger_is_silent_unless_given(void **state)
{
    (void)state;
    int lines = 0;
    pusher_options options;
    struct psh_env env;
    memset(&options, 0, sizeof options);
    psh_env_init(&env, &options);
    psh_env_log(&env, "nobody hears");
    options.logger.log_fn = keep_log;
    options.logger.user_data = &lines;
    psh_env_init(&env, &options);
    psh_env_log(&env, "one line");
    assert_int_equal(lines, 1);
    assert_string_equal(logged, "one line");
}

static bool fill_sevens(void *buf, size_t len, void *user_data)
{
    memset(buf, 7, len);
    return *(const bool *)user_data;
}

static void randomness_and_its_failure_pass_through(void **state)
{
    (void)state;
    bool works = true;
    unsigned char bytes[5] = {0, 0, 0, 0, 9};
    pusher_options options;
    struct psh_env env;
    memset(&options, 0, sizeof options);
    options.random.fill_fn = fill_sevens;
    options.random.user_data = &works;
    psh_env_init(&env, &options);
    assert_true(psh_env_random(&env, bytes, 4));
    assert_memory_equal(bytes, "\7\7\7\7\11", 5);
    works = false;
    assert_false(psh_env_random(&env, bytes, 4));
}

static void a_copy_is_terminated_and_may_hold_anything(void **state)
{
    (void)state;
    struct psh_env env;
    fake_heap heap;
    use_heap(&env, &heap);
    char *copy = psh_env_copy(&env, "a\0b-and-more", 3);
    assert_memory_equal(copy, "a\0b", 4);
    assert_int_equal(heap.live_bytes, 4);
    psh_env_free(&env, copy);
    copy = psh_env_copy(&env, "not read", 0);
    assert_string_equal(copy, "");
    psh_env_free(&env, copy);
    heap.fail_at = heap.calls + 1;
    assert_null(psh_env_copy(&env, "text", 4));
    heap_is_empty(&heap);
}

/* ---- buffers --------------------------------------------------------------------------------- */

static void a_buffer_doubles_up_to_its_max(void **state)
{
    (void)state;
    struct psh_env env;
    fake_heap heap;
    struct psh_buf buf = {NULL, 0, 0, 1000, false};
    use_heap(&env, &heap);
    assert_true(psh_env_reserve(&env, &buf, 0)); /* nothing asked for, nothing taken */
    assert_int_equal(heap.calls, 0);
    assert_true(psh_env_reserve(&env, &buf, 10));
    assert_int_equal(buf.cap, 10); /* exactly, where doubling would give less */
    buf.len = 10;
    assert_true(psh_env_reserve(&env, &buf, 1));
    assert_int_equal(buf.cap, 20);
    assert_true(psh_env_reserve(&env, &buf, 10)); /* fits: not moved */
    assert_int_equal(heap.calls, 2);
    assert_true(psh_env_reserve(&env, &buf, 31));
    assert_int_equal(buf.cap, 41);
    assert_true(psh_env_reserve(&env, &buf, 490));
    assert_int_equal(buf.cap, 500);
    buf.len = 500;
    assert_true(psh_env_reserve(&env, &buf, 1));
    assert_int_equal(buf.cap, 1000); /* half of max still doubles */
    assert_int_equal(heap.live_blocks, 1);
    assert_int_equal(heap.live_bytes, 1000);
    assert_true(psh_env_reserve(&env, &buf, 500));
    assert_false(psh_env_reserve(&env, &buf, 501));
    assert_false(psh_env_reserve(&env, &buf, SIZE_MAX));
    buf.len = 1000;
    assert_true(psh_env_reserve(&env, &buf, 0));
    assert_false(psh_env_reserve(&env, &buf, 1));
    assert_int_equal(heap.calls, 5);
    psh_env_release(&env, &buf);
    assert_null(buf.data);
    assert_int_equal(buf.len + buf.cap, 0);
    assert_int_equal(buf.max, 1000);
    psh_env_release(&env, &buf);
    heap_is_empty(&heap);
}

static void over_half_of_max_comes_max(void **state)
{
    (void)state;
    struct psh_env env;
    fake_heap heap;
    use_heap(&env, &heap);
    struct psh_buf buf = {NULL, 0, 0, 99, false};
    assert_true(psh_env_reserve(&env, &buf, 50));
    buf.len = 50;
    assert_true(psh_env_reserve(&env, &buf, 1));
    assert_int_equal(buf.cap, 99);
    psh_env_release(&env, &buf);
    struct psh_buf huge = {NULL, 0, 0, SIZE_MAX, false}; /* no sum may overflow */
    assert_true(psh_env_reserve(&env, &huge, 4));
    huge.len = 4;
    heap.fail_at = heap.calls + 1; /* the size is asked for, not wrapped to a small one */
    assert_false(psh_env_reserve(&env, &huge, SIZE_MAX - 4));
    assert_int_equal(heap.failed, 1);
    assert_false(psh_env_reserve(&env, &huge, SIZE_MAX - 3));
    assert_int_equal(heap.failed, 1);
    psh_env_release(&env, &huge);
    heap_is_empty(&heap);
}

static void without_memory_the_content_stays(void **state)
{
    (void)state;
    struct psh_env env;
    fake_heap heap;
    struct psh_buf buf = {NULL, 0, 0, 64, false};
    use_heap(&env, &heap);
    heap.fail_at = 1;
    assert_false(psh_env_reserve(&env, &buf, 8));
    assert_null(buf.data);
    assert_int_equal(buf.cap, 0);
    assert_true(psh_env_reserve(&env, &buf, 8));
    memcpy(buf.data, "8 bytes!", 8);
    buf.len = 8;
    const unsigned char *before = buf.data;
    heap.fail_at = 3;
    assert_false(psh_env_reserve(&env, &buf, 1));
    assert_ptr_equal(buf.data, before);
    assert_int_equal(buf.len, 8);
    assert_int_equal(buf.cap, 8);
    assert_memory_equal(buf.data, "8 bytes!", 8);
    assert_true(psh_env_reserve(&env, &buf, 1));
    assert_memory_equal(buf.data, "8 bytes!", 8);
    psh_env_release(&env, &buf);
    heap_is_empty(&heap);
}

/* What is freed must be zeros to its end. */
static void free_zeros(void *memory, void *user_data)
{
    const fake_block *block = (const fake_block *)memory - 1;
    const unsigned char *at = (const unsigned char *)memory;
    for (size_t i = 0; i < block->size; i++) assert_int_equal(at[i], 0);
    fake_heap_free(memory, user_data);
}

static void a_secret_buffer_leaves_nothing(void **state)
{
    (void)state;
    struct psh_env env;
    fake_heap heap;
    struct psh_buf buf = {NULL, 0, 0, 64, true};
    use_heap(&env, &heap);
    env.allocator.free_fn = free_zeros;
    assert_true(psh_env_reserve(&env, &buf, 8));
    memcpy(buf.data, "8 bytes!", 8);
    buf.len = 3; /* what stood behind the end before is secret, too */
    assert_true(psh_env_reserve(&env, &buf, 20));
    assert_memory_equal(buf.data, "8 b", 3);
    memset(buf.data, 's', buf.cap);
    psh_env_release(&env, &buf);
    psh_env_release(&env, &buf);
    heap_is_empty(&heap);
}

/* Random appends and cuts, with memory failing now and then, beside a plain array. */
static void a_buffer_holds_what_was_put_in(void **state)
{
    (void)state;
    uint64_t dice = 42;
    static unsigned char model[4096];
    for (int round = 0; round < 300; round++) {
        struct psh_env env;
        fake_heap heap;
        struct psh_buf buf = {NULL, 0, 0, 1 + fake_next_random(&dice) % sizeof model, false};
        size_t len = 0;
        use_heap(&env, &heap);
        for (int step = 0; step < 60; step++) {
            size_t more = fake_next_random(&dice) % (fake_next_random(&dice) % 2 ? 600 : 16);
            bool fails = fake_next_random(&dice) % 4 == 0;
            size_t cap = buf.cap;
            heap.fail_at = fails ? heap.calls + 1 : 0;
            bool expected = more <= cap - len || (more <= buf.max - len && !fails);
            assert_int_equal(psh_env_reserve(&env, &buf, more), expected);
            assert_true(buf.cap <= buf.max && buf.len == len);
            if (!expected) assert_int_equal(buf.cap, cap);
            else assert_true(buf.cap - buf.len >= more);
            for (size_t i = 0; expected && i < more; i++)
                model[len + i] = buf.data[len + i] = (unsigned char)fake_next_random(&dice);
            if (expected) buf.len = len += more;
            if (len > 0) assert_memory_equal(buf.data, model, len);
            if (len > 0 && step % 7 == 0) buf.len = len /= 2;
            assert_true(heap.live_blocks <= 1);
        }
        psh_env_release(&env, &buf);
        heap_is_empty(&heap);
    }
}

/* ---- text ------------------------------------------------------------------------------------ */

/* What must be left of the text in cap bytes: whole characters, as many as fit. */
static size_t fits(const char *text, size_t len, size_t cap)
{
    size_t kept = 0, at = 0;
    while (at < len) {
        do at++;
        while (at < len && ((unsigned char)text[at] & 0xC0) == 0x80);
        if (at > cap - 1) break;
        kept = at;
    }
    return kept;
}

struct cell { /* exactly cap bytes, so that one more is seen */
    struct psh_text text;
    char *at;
};

static void cell_open(struct cell *cell, size_t cap)
{
    cell->at = (char *)malloc(cap);
    assert_non_null(cell->at);
    memset(cell->at, '#', cap);
    psh_env_text(&cell->text, cell->at, cap);
    assert_int_equal(cell->at[0], '\0');
    assert_int_equal(cell->text.len, 0);
    assert_false(cell->text.cut);
}

static void cell_holds(struct cell *cell, const char *text, size_t len, size_t cap)
{
    size_t kept = fits(text, len, cap);
    assert_int_equal(cell->text.cut, kept < len);
    assert_int_equal(cell->text.len, kept);
    assert_int_equal(cell->at[kept], '\0');
    assert_memory_equal(cell->at, text, kept);
    free(cell->at);
}

/* All texts of up to five characters of one to four bytes, at every size of the place: added
   whole, in two pieces cut anywhere, and byte by byte. */
static void text_is_cut_between_characters(void **state)
{
    (void)state;
    static const char *const chars[] = {"a", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    for (unsigned code = 1; code < 4096; code++) { /* base 4 behind a leading 1 */
        char text[32];
        size_t len = 0;
        unsigned digits = code;
        for (; digits >= 4; digits /= 4) {
            size_t more = strlen(chars[digits % 4]);
            memcpy(text + len, chars[digits % 4], more);
            len += more;
        }
        if (digits != 1) continue;
        for (size_t cap = 1; cap <= len + 2; cap++) {
            struct cell cell;
            for (size_t split = 0; split <= len; split++) {
                cell_open(&cell, cap);
                psh_env_add_bytes(&cell.text, text, split);
                if (!cell.text.cut) psh_env_add_bytes(&cell.text, text + split, len - split);
                cell_holds(&cell, text, len, cap);
            }
            cell_open(&cell, cap);
            for (size_t i = 0; i < len && !cell.text.cut; i++)
                psh_env_add_bytes(&cell.text, text + i, 1);
            cell_holds(&cell, text, len, cap);
        }
    }
}

static void cutting_takes_no_more_than_it_must(void **state)
{
    (void)state;
    char place[8];
    struct psh_text text;
    psh_env_text(&text, place, sizeof place);
    psh_env_add(&text, "1234567");
    assert_false(text.cut); /* full is not cut */
    psh_env_add(&text, "");
    assert_false(text.cut);
    psh_env_add(&text, "8");
    assert_true(text.cut);
    assert_string_equal(place, "1234567");
    psh_env_text(&text, place, 1);
    psh_env_add(&text, "x");
    assert_true(text.cut);
    assert_string_equal(place, "");
    /* no UTF-8 at all: nothing is read or taken off in front of the text */
    psh_env_text(&text, place, 3);
    psh_env_add_bytes(&text, "\x80\x80\x80\x80", 4);
    assert_int_equal(text.len, 2);
    psh_env_text(&text, place, 6);
    psh_env_add_bytes(&text, "a\x80\x80\x80\x80\x80\x80", 7);
    assert_int_equal(text.len, 5);
    psh_env_text(&text, place, 2);
    psh_env_add_bytes(&text, "\xFF\xFF", 2);
    assert_int_equal(text.len, 0);
}

static void uints_print_as_in_libc(void **state)
{
    (void)state;
    uint64_t dice = 7, values[500] = {0, 1, 9, 10, UINT32_MAX, UINT64_MAX - 1, UINT64_MAX};
    size_t count = 7;
    for (uint64_t ten = 10; count < 7 + 3 * 19; ten *= 10) {
        values[count++] = ten - 1;
        values[count++] = ten;
        values[count++] = ten + 1;
    }
    for (unsigned bit = 0; bit < 64; bit++) values[count++] = UINT64_C(1) << bit;
    while (count < ARRAY_LEN(values))
        values[count++] = fake_next_random(&dice) >> fake_next_random(&dice) % 64;
    for (size_t i = 0; i < count; i++) {
        char expected[32];
        int len = snprintf(expected, sizeof expected, "%" PRIu64, values[i]);
        for (size_t cap = 1; cap <= 22; cap++) {
            struct cell cell;
            cell_open(&cell, cap);
            psh_env_add_uint(&cell.text, values[i]);
            cell_holds(&cell, expected, (size_t)len, cap);
        }
    }
}

static void foreign_words_hold_no_control_characters(void **state)
{
    (void)state;
    char all[256], place[600];
    struct psh_text text;
    for (size_t i = 0; i < sizeof all; i++) all[i] = (char)(unsigned char)i;
    psh_env_text(&text, place, sizeof place);
    psh_env_add(&text, "own\n"); /* what is ours stays as it is */
    psh_env_add_foreign(&text, all, sizeof all);
    assert_int_equal(text.len, 4 + 256);
    assert_memory_equal(place, "own\n", 4);
    for (size_t i = 0; i < sizeof all; i++) {
        bool control = i < 0x20 || i == 0x7F;
        assert_int_equal((unsigned char)place[4 + i], control ? '?' : i);
    }
    psh_env_add_foreign(&text, NULL, 0);
    assert_int_equal(text.len, 4 + 256);
    /* U+0080 to U+009F are control characters, too: U+009B is what ESC [ is */
    psh_env_text(&text, place, sizeof place);
    psh_env_add_foreign(&text, "\xC2\x9B" "2J \xC2\x80\xC2\x9F\xC2\xA0\xC3\x9B\xE2\x82\x9B", 16);
    assert_string_equal(place, "??2J ????\xC2\xA0\xC3\x9B\xE2\x82\x9B");
}

static void foreign_words_are_cut_like_others(void **state)
{
    (void)state;
    static const char words[] = "a\x1B[2J\xE2\x82\xAC\n";
    static const char clean[] = "a?[2J\xE2\x82\xAC?";
    for (size_t cap = 1; cap <= sizeof words + 1; cap++) {
        struct cell cell;
        cell_open(&cell, cap);
        psh_env_add_foreign(&cell.text, words, sizeof words - 1);
        cell_holds(&cell, clean, sizeof clean - 1, cap);
    }
    char place[4]; /* half a character of ours goes when the cut comes with foreign words */
    struct psh_text text;
    psh_env_text(&text, place, sizeof place);
    psh_env_add_bytes(&text, "\n\xE2\x82", 3);
    psh_env_add_foreign(&text, "\xAC", 1);
    assert_string_equal(place, "\n");
}

/* ---- pools ----------------------------------------------------------------------------------- */

struct item {
    struct psh_slot slot;
    uint64_t value;
    unsigned char more[24];
};

static struct item *take(struct psh_pool *pool, uint32_t *index)
{
    struct item *item = (struct item *)psh_env_pool_take(pool, index);
    assert_non_null(item);
    assert_int_equal(item->slot.generation & 1, 1);
    assert_int_equal(item->value, 0);
    for (size_t i = 0; i < sizeof item->more; i++) assert_int_equal(item->more[i], 0);
    assert_ptr_equal(psh_env_pool_at(pool, *index), item);
    memset(item->more, 0xFF, sizeof item->more);
    return item;
}

static void generations_tell_use_from_rest(void **state)
{
    (void)state;
    struct psh_env env;
    fake_heap heap;
    struct psh_pool pool;
    uint32_t index = 9;
    use_heap(&env, &heap);
    psh_env_pool_init(&pool, &env, sizeof(struct item));
    assert_null(psh_env_pool_get(&pool, 0, 1)); /* of an empty pool */
    assert_null(psh_env_pool_get(&pool, 1, 1));
    for (uint32_t life = 0; life < 50; life++) {
        struct item *item = take(&pool, &index);
        uint32_t generation = item->slot.generation;
        assert_int_equal(index, 0);
        assert_int_equal(generation, 2 * life + 1);
        assert_ptr_equal(psh_env_pool_get(&pool, 1, generation), item);
        assert_null(psh_env_pool_get(&pool, 0, generation));
        assert_null(psh_env_pool_get(&pool, 2, generation));
        assert_null(psh_env_pool_get(&pool, UINT32_MAX, generation));
        assert_null(psh_env_pool_get(&pool, 1, 0));
        assert_null(psh_env_pool_get(&pool, 1, generation - 1));
        assert_null(psh_env_pool_get(&pool, 1, generation + 1));
        assert_null(psh_env_pool_get(&pool, 1, generation - 2));
        psh_env_pool_give(&pool, index);
        assert_null(psh_env_pool_get(&pool, 1, generation));
        assert_null(psh_env_pool_get(&pool, 1, generation + 1)); /* even: of nobody */
    }
    psh_env_pool_free(&pool);
    assert_null(psh_env_pool_get(&pool, 1, 99));
    heap_is_empty(&heap);
}

/* The first handle of an item would else be good again after 2^31 changes of hands. */
static void a_generation_does_not_wrap(void **state)
{
    (void)state;
    struct psh_env env;
    fake_heap heap;
    struct psh_pool pool;
    uint32_t index = 0;
    use_heap(&env, &heap);
    psh_env_pool_init(&pool, &env, sizeof(struct item));
    take(&pool, &index)->slot.generation = UINT32_MAX;
    assert_non_null(psh_env_pool_get(&pool, 1, UINT32_MAX));
    psh_env_pool_give(&pool, index);
    assert_null(psh_env_pool_get(&pool, 1, 0));
    assert_int_equal(take(&pool, &index)->slot.generation, 1);
    assert_int_equal(index, 1);
    assert_null(psh_env_pool_get(&pool, 1, 1));
    psh_env_pool_free(&pool);
    heap_is_empty(&heap);
}

static void the_last_given_is_taken_first(void **state)
{
    (void)state;
    struct psh_env env;
    fake_heap heap;
    struct psh_pool pool;
    uint32_t index = 0;
    use_heap(&env, &heap);
    psh_env_pool_init(&pool, &env, sizeof(struct item));
    for (uint32_t i = 0; i < 20; i++) {
        (void)take(&pool, &index);
        assert_int_equal(index, i);
    }
    static const uint32_t given[] = {3, 0, 19, 8, 7};
    for (size_t i = 0; i < ARRAY_LEN(given); i++) psh_env_pool_give(&pool, given[i]);
    uint64_t calls = heap.calls;
    for (size_t i = ARRAY_LEN(given); i-- > 0;) {
        (void)take(&pool, &index);
        assert_int_equal(index, given[i]);
    }
    assert_int_equal(heap.calls, calls);
    (void)take(&pool, &index);
    assert_int_equal(index, 20);
    psh_env_pool_free(&pool);
    heap_is_empty(&heap);
}

enum { MANY = 20000 };

static void many_items_stay_where_they_are(void **state)
{
    (void)state;
    static struct item *items[MANY];
    static uint32_t generations[MANY];
    struct psh_env env;
    fake_heap heap;
    struct psh_pool pool;
    uint64_t dice = 5;
    uint32_t index = 0, live = 0, used = 0;
    use_heap(&env, &heap);
    psh_env_pool_init(&pool, &env, sizeof(struct item));
    memset(items, 0, sizeof items);
    for (uint32_t i = 0; i < MANY; i++) {
        items[i] = take(&pool, &index);
        assert_int_equal(index, i);
        assert_int_equal(heap.live_blocks, 1 + i / PSH_PAGE + 1);
        items[i]->value = i;
        generations[i] = items[i]->slot.generation;
    }
    used = live = MANY;
    for (int step = 0; step < 100000; step++) {
        uint32_t i = (uint32_t)(fake_next_random(&dice) % MANY);
        if (items[i]) {
            assert_ptr_equal(psh_env_pool_get(&pool, i + 1, generations[i]), items[i]);
            assert_int_equal(items[i]->value, i);
            psh_env_pool_give(&pool, i);
            assert_null(psh_env_pool_get(&pool, i + 1, generations[i]));
            items[i] = NULL;
            live--;
        } else if (live < used) {
            struct item *item = take(&pool, &index);
            assert_true(index < MANY && !items[index]);
            assert_int_equal(item->slot.generation, generations[index] + 2);
            generations[index] = item->slot.generation;
            item->value = index;
            items[index] = item;
            live++;
        }
    }
    assert_int_equal(pool.used, MANY);
    for (uint32_t i = 0; i < MANY; i++)
        assert_ptr_equal(psh_env_pool_get(&pool, i + 1, generations[i]), items[i]);
    psh_env_pool_free(&pool);
    heap_is_empty(&heap);
}

/* Each allocation of a growing pool fails once: nothing is lost, and the next try works. */
static void a_pool_survives_each_failure(void **state)
{
    (void)state;
    uint64_t fail_at = 1;
    for (bool failed = true; failed; fail_at++) {
        struct psh_env env;
        fake_heap heap;
        struct psh_pool pool;
        use_heap(&env, &heap);
        heap.fail_at = fail_at;
        psh_env_pool_init(&pool, &env, sizeof(struct item));
        for (uint32_t i = 0; i < 100; i++) {
            uint32_t index = UINT32_MAX;
            uint64_t before = heap.failed;
            struct item *item = (struct item *)psh_env_pool_take(&pool, &index);
            if (heap.failed > before) {
                assert_null(item);
                assert_int_equal(pool.used, i);
                item = (struct item *)psh_env_pool_take(&pool, &index);
            }
            assert_non_null(item);
            assert_int_equal(index, i);
            item->value = i;
        }
        for (uint32_t i = 0; i < 100; i++) {
            const struct item *item = (const struct item *)psh_env_pool_get(&pool, i + 1, 1);
            assert_non_null(item);
            assert_int_equal(item->value, i);
        }
        failed = heap.failed > 0;
        psh_env_pool_free(&pool);
        heap_is_empty(&heap);
    }
    assert_int_equal(fail_at - 2, 13 + 3); /* 13 pages, three arrays of pages: 4, 8, 16 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_allocator_means_malloc),
        cmocka_unit_test(the_users_allocator_is_used),
        cmocka_unit_test(null_is_never_given_to_free),
        cmocka_unit_test(secrets_are_wiped),
        cmocka_unit_test(the_logger_is_silent_unless_given),
        cmocka_unit_test(randomness_and_its_failure_pass_through),
        cmocka_unit_test(a_copy_is_terminated_and_may_hold_anything),
        cmocka_unit_test(a_buffer_doubles_up_to_its_max),
        cmocka_unit_test(over_half_of_max_comes_max),
        cmocka_unit_test(without_memory_the_content_stays),
        cmocka_unit_test(a_secret_buffer_leaves_nothing),
        cmocka_unit_test(a_buffer_holds_what_was_put_in),
        cmocka_unit_test(text_is_cut_between_characters),
        cmocka_unit_test(cutting_takes_no_more_than_it_must),
        cmocka_unit_test(uints_print_as_in_libc),
        cmocka_unit_test(foreign_words_hold_no_control_characters),
        cmocka_unit_test(foreign_words_are_cut_like_others),
        cmocka_unit_test(generations_tell_use_from_rest),
        cmocka_unit_test(a_generation_does_not_wrap),
        cmocka_unit_test(the_last_given_is_taken_first),
        cmocka_unit_test(many_items_stay_where_they_are),
        cmocka_unit_test(a_pool_survives_each_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
