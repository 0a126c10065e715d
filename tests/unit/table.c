/* The table room: names to items, beside a model that searches a plain array. */
#include "room.h"

struct item {
    struct psh_entry entry;
    uint64_t value; /* the owner's */
};

struct world {
    struct psh_env env;
    fake_heap heap;
    struct psh_table table;
};

static void open_world(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof *w);
    use_heap(&w->env, &w->heap);
    uint64_t key[2];
    key[0] = fake_next_random(&seed);
    key[1] = fake_next_random(&seed);
    memset(&w->table, 0xA5, sizeof w->table);
    psh_table_init(&w->table, &w->env, sizeof(struct item), key);
}

static void close_world(struct world *w)
{
    psh_table_free(&w->table);
    assert_int_equal(w->table.count, 0);
    assert_int_equal(psh_table_find(&w->table, "a", 1), PSH_NONE);
    assert_null(w->heap.violation);
    assert_int_equal(w->heap.live_blocks, 0);
}

/* What must hold between any two calls. */
static void whole(const struct psh_table *table)
{
    uint32_t size = table->buckets ? table->mask + 1 : 0, filled = 0, indexed = 0;
    assert_int_equal(size & (size - 1), 0);
    for (uint32_t i = 0; i < size; i++) {
        if (table->buckets[i].id == 0) continue;
        filled++;
        const struct psh_entry *entry = psh_table_at(table, table->buckets[i].id - 1);
        assert_true(entry->indexed && (entry->slot.generation & 1));
        assert_true(entry->hash == table->buckets[i].hash);
        assert_true(entry->hash == psh_table_hash(table, entry->name, entry->name_len));
        for (uint32_t at = entry->hash & table->mask; at != i; at = (at + 1) & table->mask)
            assert_true(table->buckets[at].id != 0); /* no hole between home and place */
    }
    for (uint32_t i = 0; i < table->pool.used; i++) {
        const struct psh_entry *entry = psh_table_at(table, i);
        if (!(entry->slot.generation & 1)) continue;
        assert_int_equal(entry->name[entry->name_len], '\0');
        if (entry->indexed) indexed++;
        if (entry->indexed)
            assert_int_equal(psh_table_find(table, entry->name, entry->name_len), i);
    }
    assert_int_equal(filled, table->count);
    assert_int_equal(indexed, table->count);
    assert_true(size == 0 || table->count <= size / 4 * 3);
}

static uint32_t add(struct world *w, const char *name)
{
    uint32_t index = PSH_NONE;
    struct psh_entry *entry = psh_table_add(&w->table, name, strlen(name), &index);
    assert_non_null(entry);
    assert_ptr_equal(psh_table_at(&w->table, index), entry);
    return index;
}

static uint32_t find(const struct world *w, const char *name)
{
    return psh_table_find(&w->table, name, strlen(name));
}

/* ---- the plain things ------------------------------------------------------------------------ */

static void an_empty_table_has_nothing(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1);
    assert_int_equal(find(&w, ""), PSH_NONE);
    assert_int_equal(find(&w, "a"), PSH_NONE);
    assert_int_equal(w.heap.calls, 0);
    close_world(&w);
}

static void a_new_entry_is_blank(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 2);
    for (int life = 0; life < 3; life++) {
        uint32_t index = add(&w, "chat");
        struct item *item = (struct item *)psh_table_at(&w.table, index);
        assert_int_equal(index, 0);
        assert_int_equal(item->entry.slot.generation, 2 * life + 1);
        assert_int_equal(item->entry.references, 0);
        assert_int_equal(item->entry.state + item->entry.mark, 0);
        assert_int_equal(item->value, 0);
        assert_true(item->entry.indexed);
        assert_string_equal(item->entry.name, "chat");
        assert_int_equal(item->entry.name_len, 4);
        assert_int_equal(find(&w, "chat"), 0);
        assert_int_equal(find(&w, "cha"), PSH_NONE);
        assert_int_equal(find(&w, "chat1"), PSH_NONE);
        assert_int_equal(find(&w, "chaT"), PSH_NONE);
        item->value = 5;
        item->entry.state = item->entry.mark = 6;
        whole(&w.table);
        psh_table_remove(&w.table, index);
        assert_int_equal(find(&w, "chat"), PSH_NONE);
        whole(&w.table);
    }
    close_world(&w);
}

static void names_of_every_length(void **state)
{
    (void)state;
    struct world w;
    char text[300];
    memset(text, 'n', sizeof text);
    open_world(&w, 3);
    for (size_t len = 0; len <= 255; len++) {
        uint32_t index = PSH_NONE;
        char *name = (char *)malloc(len ? len : 1); /* not terminated */
        assert_non_null(name);
        memcpy(name, text, len);
        assert_int_equal(psh_table_find(&w.table, name, len), PSH_NONE);
        struct psh_entry *entry = psh_table_add(&w.table, name, len, &index);
        assert_non_null(entry);
        assert_int_equal(entry->name_len, len);
        assert_int_equal(strlen(entry->name), len);
        free(name);
    }
    for (size_t len = 0; len <= 255; len++)
        assert_int_equal(psh_table_find(&w.table, text, len), len);
    assert_int_equal(psh_table_find(&w.table, text, 256), PSH_NONE); /* not that of length 0 */
    assert_int_equal(psh_table_find(&w.table, text, 256 + 7), PSH_NONE);
    whole(&w.table);
    close_world(&w);
}

static void names_may_hold_any_byte(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 4);
    for (unsigned i = 0; i < 256; i++) {
        char name[3] = {'a', (char)(unsigned char)i, 'b'};
        uint32_t index = PSH_NONE;
        assert_non_null(psh_table_add(&w.table, name, 3, &index));
        assert_int_equal(index, i);
    }
    for (unsigned i = 0; i < 256; i++) {
        char name[3] = {'a', (char)(unsigned char)i, 'b'};
        assert_int_equal(psh_table_find(&w.table, name, 3), i);
    }
    close_world(&w);
}

static void an_unindexed_entry_stays_but_is_not_found(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 5);
    uint32_t old = add(&w, "chat");
    psh_table_unindex(&w.table, old);
    psh_table_unindex(&w.table, old); /* again: nothing */
    assert_int_equal(find(&w, "chat"), PSH_NONE);
    assert_int_equal(w.table.count, 0);
    assert_string_equal(psh_table_at(&w.table, old)->name, "chat");
    uint32_t young = add(&w, "chat"); /* its name is free */
    assert_true(young != old);
    assert_int_equal(find(&w, "chat"), young);
    whole(&w.table);
    psh_table_remove(&w.table, old);
    assert_int_equal(find(&w, "chat"), young);
    whole(&w.table);
    assert_int_equal(add(&w, "news"), old);
    close_world(&w);
}

static void generations_make_handles_stale(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 6);
    uint32_t index = add(&w, "chat"), before = psh_table_at(&w.table, index)->slot.generation;
    assert_non_null(psh_env_pool_get(&w.table.pool, index + 1, before));
    psh_table_renew(&w.table, index);
    uint32_t after = psh_table_at(&w.table, index)->slot.generation;
    assert_int_equal(after & 1, 1);
    assert_null(psh_env_pool_get(&w.table.pool, index + 1, before));
    assert_non_null(psh_env_pool_get(&w.table.pool, index + 1, after));
    assert_int_equal(find(&w, "chat"), index); /* the entry itself goes on */
    psh_table_remove(&w.table, index);
    assert_null(psh_env_pool_get(&w.table.pool, index + 1, after));
    assert_int_equal(add(&w, "news"), index);
    assert_null(psh_env_pool_get(&w.table.pool, index + 1, before));
    assert_null(psh_env_pool_get(&w.table.pool, index + 1, after));
    close_world(&w);
}

/* ---- growth and collisions ------------------------------------------------------------------- */

static void growth_keeps_all(void **state)
{
    (void)state;
    struct world w;
    uint32_t size = 0, growths = 0;
    open_world(&w, 7);
    for (uint32_t i = 0; i < 5000; i++) {
        char name[20];
        snprintf(name, sizeof name, "channel-%u", (unsigned)i);
        assert_int_equal(add(&w, name), i);
        if (w.table.mask + 1 != size) {
            assert_int_equal(w.table.mask + 1, size ? size * 2 : 8);
            assert_int_equal(i, size / 4 * 3); /* not before it is three quarters full */
            size = w.table.mask + 1;
            growths++;
            whole(&w.table);
        }
    }
    assert_int_equal(growths, 11);
    whole(&w.table);
    for (uint32_t i = 0; i < 5000; i += 2) psh_table_remove(&w.table, i);
    whole(&w.table);
    for (uint32_t i = 0; i < 5000; i++) {
        char name[20];
        snprintf(name, sizeof name, "channel-%u", (unsigned)i);
        assert_int_equal(find(&w, name), i % 2 ? i : PSH_NONE);
    }
    close_world(&w);
}

enum { HOMES = 8, EACH = 6 };

/* names[home][...]: names whose home is that of the eight buckets. */
static void choose_names(const struct psh_table *table, char names[HOMES][EACH][12])
{
    size_t have[HOMES] = {0}, full = 0;
    for (unsigned i = 0; full < HOMES; i++) {
        char name[12];
        size_t len = (size_t)snprintf(name, sizeof name, "n%u", i);
        uint32_t home = psh_table_hash(table, name, len) & (HOMES - 1);
        if (have[home] == EACH) continue;
        memcpy(names[home][have[home]++], name, len + 1);
        if (have[home] == EACH) full++;
    }
}

/* Six names in eight buckets, each with a home of its own choice, put in and taken out in every
   order that matters: all homes that three clusters can have, the wrap-around among them. */
static void removal_shifts_back_across_the_end(void **state)
{
    (void)state;
    struct world w;
    char names[HOMES][EACH][12];
    size_t wrapped = 0;
    open_world(&w, 8);
    choose_names(&w.table, names);
    for (uint32_t code = 0; code < HOMES * HOMES * HOMES * HOMES; code++) {
        const char *chosen[EACH];
        uint32_t ids[EACH], used[HOMES] = {0}, rest = code;
        for (size_t i = 0; i < EACH; i++) {
            uint32_t home = i < 4 ? rest % HOMES : (code * 7 + (uint32_t)i * 3) % HOMES;
            rest /= HOMES;
            chosen[i] = names[home][used[home]++];
            ids[i] = add(&w, chosen[i]);
        }
        assert_int_equal(w.table.mask, HOMES - 1);
        for (uint32_t i = 0; i < HOMES; i++) { /* an entry that stands in front of its home */
            const struct psh_bucket *bucket = &w.table.buckets[i];
            wrapped += bucket->id && (bucket->hash & w.table.mask) > i;
        }
        for (size_t gone = 0; gone < EACH; gone++) {
            size_t which = (gone * (code % 2 ? 5 : 1) + code) % EACH;
            if (code % 3) psh_table_unindex(&w.table, ids[which]);
            else psh_table_remove(&w.table, ids[which]);
            ids[which] |= 0x80000000u;
            whole(&w.table);
            for (size_t i = 0; i < EACH; i++)
                assert_int_equal(find(&w, chosen[i]),
                                 ids[i] & 0x80000000u ? PSH_NONE : ids[i]);
        }
        for (size_t i = 0; i < EACH && code % 3; i++)
            psh_table_remove(&w.table, ids[i] & 0x7FFFFFFFu);
        assert_int_equal(w.table.count, 0);
    }
    assert_true(wrapped > 1000);
    close_world(&w);
}

/* Makes the table believe that the entry's name hashed as this other text does. */
static void rehash(struct world *world, uint32_t index, const char *as)
{
    struct psh_entry *entry = psh_table_at(&world->table, index);
    psh_table_unindex(&world->table, index);
    entry->hash = psh_table_hash(&world->table, as, strlen(as));
    entry->indexed = true;
    psh_table_place(&world->table, entry->hash, index + 1);
    world->table.count++;
}

/* Of two names of one hash only the name tells which is which. */
static void names_of_one_hash(void **state)
{
    (void)state;
    static const char *const others[] = {"other", "firs", "first ", "f", "", "firsT", "First"};
    for (size_t i = 0; i < ARRAY_LEN(others) * 2; i++) {
        const char *other = others[i / 2];
        struct world w;
        open_world(&w, 9 + i);
        uint32_t first = add(&w, "first");
        rehash(&w, first, other);
        assert_int_equal(find(&w, other), PSH_NONE);
        uint32_t second = add(&w, other);
        assert_int_equal(find(&w, other), second);
        psh_table_unindex(&w.table, i % 2 ? second : first); /* takes the right one of the two */
        assert_int_equal(w.table.count, 1);
        assert_int_equal(find(&w, other), i % 2 ? PSH_NONE : second);
        rehash(&w, first, "first");
        assert_int_equal(find(&w, "first"), first);
        whole(&w.table);
        close_world(&w);
    }
}

/* ---- the model ------------------------------------------------------------------------------- */

enum { NAMES = 60 };

struct model {
    uint32_t holder[NAMES];  /* index of the entry that is found by this name, or PSH_NONE */
    uint32_t loose[NAMES];   /* entries no longer indexed */
    uint32_t loose_name[NAMES];
    size_t loose_count;
};

static void name_of(uint32_t number, char *name, size_t cap)
{
    snprintf(name, cap, number % 3 ? "channel-%u" : "c%u", (unsigned)number);
}

static void step(struct world *w, struct model *m, uint64_t *dice, uint32_t names)
{
    uint32_t number = (uint32_t)(fake_next_random(dice) % names), index = PSH_NONE;
    uint32_t what = (uint32_t)(fake_next_random(dice) % 10);
    char name[20];
    name_of(number, name, sizeof name);
    assert_int_equal(find(w, name), m->holder[number]);
    if (what < 5 && m->holder[number] == PSH_NONE) {
        bool fails = what == 0;
        uint64_t failed = w->heap.failed;
        w->heap.fail_at = fails ? w->heap.calls + 1 + fake_next_random(dice) % 3 : 0;
        struct psh_entry *entry = psh_table_add(&w->table, name, strlen(name), &index);
        w->heap.fail_at = 0;
        assert_int_equal(entry == NULL, w->heap.failed > failed);
        if (entry) m->holder[number] = index;
        if (entry) ((struct item *)entry)->value = number;
    } else if (what < 8 && m->holder[number] != PSH_NONE) {
        psh_table_remove(&w->table, m->holder[number]);
        m->holder[number] = PSH_NONE;
    } else if (what == 8 && m->holder[number] != PSH_NONE && m->loose_count < NAMES) {
        psh_table_unindex(&w->table, m->holder[number]);
        m->loose_name[m->loose_count] = number;
        m->loose[m->loose_count++] = m->holder[number];
        m->holder[number] = PSH_NONE;
    } else if (what == 9 && m->loose_count > 0) {
        size_t which = fake_next_random(dice) % m->loose_count;
        psh_table_remove(&w->table, m->loose[which]);
        m->loose[which] = m->loose[--m->loose_count];
        m->loose_name[which] = m->loose_name[m->loose_count];
    }
}

static void same_as_model(const struct world *w, const struct model *m)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < NAMES; i++) {
        char name[20];
        name_of(i, name, sizeof name);
        assert_int_equal(find(w, name), m->holder[i]);
        if (m->holder[i] == PSH_NONE) continue;
        count++;
        assert_int_equal(((struct item *)psh_table_at(&w->table, m->holder[i]))->value, i);
    }
    assert_int_equal(w->table.count, count);
    for (size_t i = 0; i < m->loose_count; i++) {
        const struct item *item = (const struct item *)psh_table_at(&w->table, m->loose[i]);
        assert_true(item->entry.slot.generation & 1);
        assert_int_equal(item->value, m->loose_name[i]);
    }
}

static void random_life(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 400; seed++) {
        struct world w;
        struct model m;
        uint64_t dice = seed;
        uint32_t names = seed % 2 ? NAMES : 7; /* seven stay in the smallest table */
        open_world(&w, seed);
        m.loose_count = 0;
        for (uint32_t i = 0; i < NAMES; i++) m.holder[i] = PSH_NONE;
        for (int i = 0; i < 600; i++) {
            step(&w, &m, &dice, names);
            if (i % 40 == 0) whole(&w.table);
            if (i % 40 == 0) same_as_model(&w, &m);
        }
        whole(&w.table);
        same_as_model(&w, &m);
        close_world(&w);
    }
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* The n-th allocation fails, once or for good, for every n that filling a table with 60 needs. */
static void each_allocation_fails(void **state)
{
    (void)state;
    uint64_t needed = 0;
    for (uint64_t fail_at = 0; fail_at == 0 || fail_at <= 2 * needed; fail_at++) {
        struct world w;
        uint32_t added = 0;
        open_world(&w, 10);
        w.heap.fail_for_good = fail_at > needed;
        w.heap.fail_at = fail_at > needed ? fail_at - needed : fail_at;
        for (uint32_t i = 0; i < 60; i++) {
            char name[20];
            uint32_t index = PSH_NONE, count = w.table.count, used = w.table.pool.used;
            uint64_t failed = w.heap.failed;
            name_of(i, name, sizeof name);
            struct psh_entry *entry = psh_table_add(&w.table, name, strlen(name), &index);
            assert_int_equal(entry == NULL, w.heap.failed > failed);
            added += entry != NULL;
            if (entry) continue;
            assert_int_equal(w.table.count, count);
            assert_int_equal(w.table.pool.used, used);
            assert_int_equal(find(&w, name), PSH_NONE);
            whole(&w.table);
        }
        for (uint32_t i = 0; i < 60; i++) { /* what failed can be made up for */
            char name[20];
            w.heap.fail_at = 0;
            name_of(i, name, sizeof name);
            if (find(&w, name) == PSH_NONE) (void)add(&w, name);
            assert_true(find(&w, name) != PSH_NONE);
        }
        whole(&w.table);
        if (fail_at == 0) needed = w.heap.calls;
        else assert_true(added < 60);
        close_world(&w);
    }
    assert_int_equal(needed, 60 + 5 + 8 + 2); /* names, buckets 8 to 128, pages, lists of pages */
}

static void what_stays_is_freed_with_the_table(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 12);
    for (uint32_t i = 0; i < 40; i++) {
        char name[20];
        name_of(i, name, sizeof name);
        (void)add(&w, name);
    }
    psh_table_at(&w.table, 3)->references = 2; /* referenced ones too */
    for (uint32_t i = 4; i < 20; i++) psh_table_unindex(&w.table, i);
    for (uint32_t i = 10; i < 30; i++) psh_table_remove(&w.table, i);
    close_world(&w);
}

static void warming_finds_what_find_finds(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 21);
    for (unsigned i = 0; i < 3000; i++) {
        char name[32];
        uint32_t index = PSH_NONE;
        size_t len = (size_t)snprintf(name, sizeof name, "name-%u", i);
        assert_non_null(psh_table_add(&w.table, name, len, &index));
    }
    for (unsigned i = 0; i < 6000; i++) {
        char name[32];
        size_t len = (size_t)snprintf(name, sizeof name, "name-%u", i);
        uint32_t index = psh_table_find(&w.table, name, len);
        const struct psh_entry *entry =
            psh_table_warm_entry(&w.table, psh_table_warm(&w.table, name, len));
        if (index != PSH_NONE) assert_ptr_equal(entry, psh_table_at(&w.table, index));
        else if (entry) assert_true(entry->hash == psh_table_hash(&w.table, name, len));
    }
    whole(&w.table);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_table_has_nothing),
        cmocka_unit_test(a_new_entry_is_blank),
        cmocka_unit_test(names_of_every_length),
        cmocka_unit_test(names_may_hold_any_byte),
        cmocka_unit_test(an_unindexed_entry_stays_but_is_not_found),
        cmocka_unit_test(generations_make_handles_stale),
        cmocka_unit_test(growth_keeps_all),
        cmocka_unit_test(removal_shifts_back_across_the_end),
        cmocka_unit_test(names_of_one_hash),
        cmocka_unit_test(random_life),
        cmocka_unit_test(each_allocation_fails),
        cmocka_unit_test(what_stays_is_freed_with_the_table),
        cmocka_unit_test(warming_finds_what_find_finds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
