/* The member room: every shape a presence list comes in, and the list beside a plain model. */
#include "room.h"

#include <time.h>

struct world {
    struct psh_env env;
    fake_heap heap;
    struct psh_members list;
};

static void open_world(struct world *w, uint64_t seed, uint32_t max)
{
    memset(w, 0, sizeof *w);
    use_heap(&w->env, &w->heap);
    uint64_t key[2];
    key[0] = fake_next_random(&seed);
    key[1] = fake_next_random(&seed);
    memset(&w->list, 0xA5, sizeof w->list);
    psh_member_init(&w->list, &w->env, key, max);
}

/* What must hold between any two calls. */
static void whole(const struct psh_members *list)
{
    uint32_t size = list->buckets ? list->mask + 1 : 0, filled = 0;
    assert_int_equal(size & (size - 1), 0);
    assert_true(list->count <= list->cap && list->cap <= size / 4 * 3 && list->count <= list->max);
    for (uint32_t i = 0; i < size; i++) filled += list->buckets[i] != 0;
    assert_int_equal(filled, list->count);
    for (uint32_t i = 0; i < list->count; i++) {
        struct psh_member *member = list->items[i];
        const char *id = psh_member_id(member), *info = psh_member_info(member);
        assert_int_equal(psh_member_find(list, id, member->id_len), i);
        assert_true(id[member->id_len] == '\0' && info[member->info_len] == '\0');
    }
}

static void close_world(struct world *w)
{
    whole(&w->list);
    psh_member_free(&w->list);
    assert_int_equal(psh_member_find(&w->list, "a", 1), PSH_NONE);
    psh_member_free(&w->list);
    assert_null(w->heap.violation);
    assert_int_equal(w->heap.live_blocks, 0);
}

static enum psh_member_result put(struct world *w, const char *id, const char *info)
{
    return psh_member_put(&w->list, id, strlen(id), info, info ? strlen(info) : 0);
}

static const char *info_of(struct world *w, const char *id)
{
    uint32_t index = psh_member_find(&w->list, id, strlen(id));
    return index == PSH_NONE ? NULL : psh_member_info(w->list.items[index]);
}

static void take(struct world *w, const char *id)
{
    uint32_t index = psh_member_find(&w->list, id, strlen(id));
    assert_int_not_equal(index, PSH_NONE);
    struct psh_member *member = psh_member_take(&w->list, index);
    assert_string_equal(psh_member_id(member), id);
    psh_env_free(&w->env, member);
    assert_int_equal(psh_member_find(&w->list, id, strlen(id)), PSH_NONE);
}

/* ---- the list -------------------------------------------------------------------------------- */

static void put_find_take(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 100);
    assert_int_equal(psh_member_find(&w.list, "a", 1), PSH_NONE);
    assert_int_equal(psh_member_find(&w.list, NULL, 0), PSH_NONE);
    assert_int_equal(put(&w, "a", "{\"n\":1}"), PSH_MEMBER_ADDED);
    assert_int_equal(put(&w, "b", NULL), PSH_MEMBER_ADDED);
    assert_int_equal(put(&w, "", "null"), PSH_MEMBER_ADDED);
    assert_string_equal(info_of(&w, "a"), "{\"n\":1}");
    assert_string_equal(info_of(&w, "b"), "");
    assert_string_equal(info_of(&w, ""), "null");
    whole(&w.list);
    uint64_t calls = w.heap.calls;
    assert_int_equal(put(&w, "a", "{\"n\":1}"), PSH_MEMBER_SAME);
    assert_int_equal(put(&w, "a", NULL), PSH_MEMBER_SAME);
    assert_int_equal(w.heap.calls, calls);
    assert_int_equal(put(&w, "a", "{\"n\":2}"), PSH_MEMBER_CHANGED);
    assert_string_equal(info_of(&w, "a"), "{\"n\":2}");
    assert_int_equal(put(&w, "a", "{\"n\":23}"), PSH_MEMBER_CHANGED);
    assert_int_equal(put(&w, "a", ""), PSH_MEMBER_CHANGED);
    assert_string_equal(info_of(&w, "a"), "");
    assert_int_equal(w.list.count, 3);
    take(&w, "a");
    assert_int_equal(w.list.count, 2);
    assert_string_equal(info_of(&w, "b"), "");
    take(&w, "");
    take(&w, "b");
    assert_int_equal(w.list.count, 0);
    assert_int_equal(put(&w, "c", "1"), PSH_MEMBER_ADDED);
    close_world(&w);
}

static void ids_with_nul_and_long_ids(void **state)
{
    (void)state;
    struct world w;
    char id[PSH_MEMBER_MAX_ID + 1];
    memset(id, 'x', sizeof id);
    open_world(&w, 2, 100);
    assert_int_equal(psh_member_put(&w.list, "a\0b", 3, "1", 1), PSH_MEMBER_ADDED);
    assert_int_equal(psh_member_put(&w.list, "a\0c", 3, "2", 1), PSH_MEMBER_ADDED);
    assert_int_equal(psh_member_put(&w.list, "a", 1, "3", 1), PSH_MEMBER_ADDED);
    assert_int_equal(psh_member_put(&w.list, id, PSH_MEMBER_MAX_ID, "4", 1), PSH_MEMBER_ADDED);
    assert_int_equal(psh_member_find(&w.list, "a\0c", 3), 1);
    assert_int_equal(psh_member_find(&w.list, id, PSH_MEMBER_MAX_ID), 3);
    assert_int_equal(psh_member_find(&w.list, id, PSH_MEMBER_MAX_ID + 1), PSH_NONE);
    assert_int_equal(w.list.count, 4);
    close_world(&w);
}

static void no_more_than_max(void **state)
{
    (void)state;
    for (uint32_t max = 1; max < 40; max++) {
        struct world w;
        char id[8];
        open_world(&w, max, max);
        for (uint32_t i = 0; i < max + 3; i++) {
            snprintf(id, sizeof id, "%u", i);
            assert_int_equal(put(&w, id, "1"), i < max ? PSH_MEMBER_ADDED : PSH_MEMBER_FULL);
        }
        assert_int_equal(w.list.count, max);
        assert_int_equal(put(&w, "0", "2"), PSH_MEMBER_CHANGED);
        assert_int_equal(put(&w, "0", "2"), PSH_MEMBER_SAME);
        take(&w, "0");
        assert_int_equal(put(&w, "x", "1"), PSH_MEMBER_ADDED);
        assert_int_equal(put(&w, "0", "1"), PSH_MEMBER_FULL);
        close_world(&w);
    }
}

struct model {
    bool there;
    char info[16];
};

/* Beside an array that is searched by number; items of both sides in all orders. */
static void random_puts_and_takes(void **state)
{
    (void)state;
    enum { IDS = 60, STEPS = 4000 };
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct world w;
        struct model model[IDS];
        uint64_t random = seed;
        uint32_t count = 0, ids = 5 + (uint32_t)(seed % (IDS - 5));
        memset(model, 0, sizeof model);
        open_world(&w, seed, IDS);
        for (int step = 0; step < STEPS; step++) {
            uint32_t n = (uint32_t)(fake_next_random(&random) % ids);
            struct model *m = &model[n];
            char id[16], info[16];
            snprintf(id, sizeof id, "user-%u", n);
            snprintf(info, sizeof info, "%u", (unsigned)(fake_next_random(&random) % 3));
            if (fake_next_random(&random) % 2) {
                enum psh_member_result result = put(&w, id, info);
                assert_int_equal(result, !m->there ? PSH_MEMBER_ADDED
                                         : strcmp(m->info, info) ? PSH_MEMBER_CHANGED
                                                                 : PSH_MEMBER_SAME);
                count += !m->there;
                m->there = true;
                memcpy(m->info, info, sizeof info);
            } else if (m->there) {
                assert_string_equal(info_of(&w, id), m->info);
                take(&w, id);
                m->there = false;
                count--;
            } else {
                assert_null(info_of(&w, id));
            }
            assert_int_equal(w.list.count, count);
            if (step % 50 == 0) whole(&w.list);
        }
        for (uint32_t n = 0; n < ids; n++) {
            char id[16];
            snprintf(id, sizeof id, "user-%u", n);
            const char *info = info_of(&w, id);
            assert_int_equal(info != NULL, model[n].there);
            if (info) assert_string_equal(info, model[n].info);
        }
        close_world(&w);
    }
}

static int by_hash(const void *a, const void *b)
{
    const uint32_t *x = (const uint32_t *)a, *y = (const uint32_t *)b;
    return x[0] < y[0] ? -1 : x[0] > y[0];
}

/* Ids whose whole 32-bit hashes are equal: there are some among 300 000. */
static void equal_hashes(void **state)
{
    (void)state;
    enum { MANY = 300000 };
    struct world w;
    uint32_t (*hashes)[2] = (uint32_t(*)[2])malloc(MANY * sizeof *hashes);
    assert_non_null(hashes);
    open_world(&w, 3, 1000);
    for (uint32_t i = 0; i < MANY; i++) {
        char id[16];
        hashes[i][0] = psh_member_hash(&w.list, id, (size_t)snprintf(id, sizeof id, "%u", i));
        hashes[i][1] = i;
    }
    qsort(hashes, MANY, sizeof *hashes, by_hash);
    uint32_t pairs = 0;
    for (uint32_t i = 1; i < MANY; i++) {
        if (hashes[i][0] != hashes[i - 1][0]) continue;
        char a[16], b[16];
        snprintf(a, sizeof a, "%u", hashes[i - 1][1]);
        snprintf(b, sizeof b, "%u", hashes[i][1]);
        assert_int_equal(put(&w, a, "\"a\""), PSH_MEMBER_ADDED);
        assert_null(info_of(&w, b));
        assert_int_equal(put(&w, b, "\"b\""), PSH_MEMBER_ADDED);
        assert_string_equal(info_of(&w, a), "\"a\"");
        assert_string_equal(info_of(&w, b), "\"b\"");
        whole(&w.list);
        take(&w, a);
        assert_string_equal(info_of(&w, b), "\"b\"");
        assert_int_equal(put(&w, a, "1"), PSH_MEMBER_ADDED);
        take(&w, b);
        assert_string_equal(info_of(&w, a), "1");
        pairs++;
    }
    assert_true(pairs > 0);
    free(hashes);
    close_world(&w);
}

/* All in one run of buckets: each may be taken, and the others are still found. */
static void crowded_buckets(void **state)
{
    (void)state;
    for (uint32_t gone = 0; gone < 6; gone++) {
        struct world w;
        char ids[6][16];
        uint32_t found = 0;
        open_world(&w, 4, 100);
        for (uint32_t n = 0; found < 6; n++) {
            size_t len = (size_t)snprintf(ids[found], sizeof ids[found], "%u", n);
            if ((psh_member_hash(&w.list, ids[found], len) & 7) == 5 + found % 3) found++;
        }
        for (uint32_t i = 0; i < 6; i++) assert_int_equal(put(&w, ids[i], "1"), PSH_MEMBER_ADDED);
        assert_int_equal(w.list.mask, 7);
        whole(&w.list);
        take(&w, ids[gone]);
        whole(&w.list);
        for (uint32_t i = 0; i < 6; i++) assert_int_equal(info_of(&w, ids[i]) != NULL, i != gone);
        close_world(&w);
    }
}

/* ---- snapshots ------------------------------------------------------------------------------- */

/* The list as text: id=info, sorted; ids in what order they come is not promised. */
static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void describe(const struct psh_members *list, char *out, size_t cap)
{
    char *lines[64];
    assert_true(list->count <= ARRAY_LEN(lines));
    for (uint32_t i = 0; i < list->count; i++) {
        size_t size = list->items[i]->id_len + list->items[i]->info_len + 2u;
        lines[i] = (char *)malloc(size);
        assert_non_null(lines[i]);
        snprintf(lines[i], size, "%s=%s", psh_member_id(list->items[i]),
                 psh_member_info(list->items[i]));
    }
    qsort(lines, list->count, sizeof *lines, by_text);
    out[0] = '\0';
    for (uint32_t i = 0; i < list->count; i++) {
        size_t len = strlen(out);
        snprintf(out + len, cap - len, "%s%s", i ? " " : "", lines[i]);
        free(lines[i]);
    }
}

struct shape {
    const char *json, *list; /* list NULL: malformed */
};

static const struct shape shapes[] = {
    /* as pusher.com sends it */
    {"{\"presence\":{\"ids\":[\"1\",\"2\"],\"hash\":{\"1\":{\"n\":\"A\"},\"2\":{\"n\":\"B\"}},"
     "\"count\":2}}", "1={\"n\":\"A\"} 2={\"n\":\"B\"}"},
    {"{\"presence\":{\"count\":0,\"ids\":[],\"hash\":{}}}", ""},
    {" { \"presence\" : { \"hash\" : { \"a\" : 1 } , \"ids\" : [ \"a\" ] } } ", "a=1"},
    /* numbers as ids, stay what they were as text */
    {"{\"presence\":{\"ids\":[10,-5],\"hash\":{\"10\":{\"n\":1},\"-5\":[]}}}",
     "-5=[] 10={\"n\":1}"},
    {"{\"presence\":{\"ids\":[10,\"10\"],\"hash\":{}}}", "10="},
    {"{\"presence\":{\"ids\":[0,1.5],\"hash\":[]}}", "0= 1.5="},
    /* hash as a list */
    {"{\"presence\":{\"ids\":[],\"hash\":[],\"count\":0}}", ""},
    {"{\"presence\":{\"ids\":[\"a\",\"b\"],\"hash\":[],\"count\":2}}", "a= b="},
    {"{\"presence\":{\"ids\":[0,1,2],\"hash\":[{\"n\":\"A\"},null,\"C\"],\"count\":3}}",
     "0={\"n\":\"A\"} 1=null 2=\"C\""},
    {"{\"presence\":{\"ids\":[7,8],\"hash\":[1]}}", "7=1 8="},
    {"{\"presence\":{\"ids\":[7],\"hash\":[1,2,3]}}", "7=1"},
    {"{\"presence\":{\"hash\":[\"A\",\"B\"]}}", "0=\"A\" 1=\"B\""},
    {"{\"presence\":{\"ids\":null,\"hash\":[true]}}", "0=true"},
    /* ids missing */
    {"{\"presence\":{\"hash\":{\"a\":{},\"b\":null},\"count\":7}}", "a={} b=null"},
    {"{\"presence\":{\"hash\":{},\"count\":0}}", ""},
    {"{\"presence\":{\"ids\":false,\"hash\":{\"a\":2}}}", "a=2"},
    /* hash missing, or without some */
    {"{\"presence\":{\"ids\":[\"a\",\"b\"]}}", "a= b="},
    {"{\"presence\":{\"ids\":[\"a\",\"b\"],\"hash\":null}}", "a= b="},
    {"{\"presence\":{\"ids\":[\"a\",\"b\"],\"hash\":{\"b\":{\"x\":[1]}}}}", "a= b={\"x\":[1]}"},
    /* PHP makes an object of a list with gaps */
    {"{\"presence\":{\"ids\":{\"0\":\"a\",\"2\":\"b\"},\"hash\":{\"a\":1}}}", "a=1 b="},
    /* doubles and disagreement */
    {"{\"presence\":{\"ids\":[\"a\",\"a\",\"b\"],\"hash\":{\"a\":1,\"b\":2}}}", "a=1 b=2"},
    {"{\"presence\":{\"ids\":[\"a\"],\"hash\":{\"a\":1,\"a\":2}}}", "a=2"},
    {"{\"presence\":{\"ids\":[\"a\",\"c\"],\"hash\":{\"a\":1,\"b\":2}}}", "a=1 b=2 c="},
    {"{\"presence\":{\"ids\":[\"a\"],\"ids\":[\"b\"],\"hash\":{}}}", "b="},
    {"{\"presence\":{\"ids\":[\"a\"]},\"presence\":{\"ids\":[\"b\"]}}", "b="},
    /* what is no id is left out */
    {"{\"presence\":{\"ids\":[null,true,{},[],\"a\",[\"b\"]],\"hash\":{}}}", "a="},
    {"{\"presence\":{\"ids\":[null,\"a\"],\"hash\":[1,2]}}", "a=2"},
    /* info of every kind; escapes; the empty id */
    {"{\"presence\":{\"hash\":{\"a\":\"x\\\"y\",\"b\":-1.5e3,\"c\":[1,{\"d\":[]}],\"\":false}}}",
     "=false a=\"x\\\"y\" b=-1.5e3 c=[1,{\"d\":[]}]"},
    {"{\"presence\":{\"ids\":[\"\\u00e9\",\"a\\/b\",\"x\"],\"hash\":{\"\xC3\xA9\":1,\"a/b\":2,"
     "\"\\u0078\":3}}}", "a/b=2 x=3 \xC3\xA9=1"},
    {"{\"\\u0070resence\":{\"id\\u0073\":[\"a\"],\"h\\u0061sh\":{\"a\":5}}}", "a=5"},
    {"{\"presence\":{\"ids\":[\"}\",\"]\"],\"hash\":{\"}\":\"{[\",\"]\":1}}}", "]=1 }=\"{[\""},
    /* malformed */
    {"", NULL}, {" ", NULL}, {"{", NULL}, {"{}", NULL}, {"[]", NULL}, {"null", NULL}, {"1", NULL},
    {"\"presence\"", NULL}, {"[{\"presence\":{\"ids\":[]}}]", NULL},
    {"{\"presence\":null}", NULL}, {"{\"presence\":[]}", NULL}, {"{\"presence\":{}}", NULL},
    {"{\"presence\":1}", NULL}, {"{\"presence\":\"{}\"}", NULL},
    {"{\"Presence\":{\"ids\":[]}}", NULL},
    {"{\"presence\":{\"count\":1}}", NULL}, {"{\"presence\":{\"ids\":1,\"hash\":\"\"}}", NULL},
    {"{\"presence\":{\"ids\":[\"a\"]}", NULL}, {"{\"presence\":{\"ids\":[\"a\",]}}", NULL},
    {"{\"presence\":{\"ids\":[\"a\"]}}}", NULL}, {"{\"presence\":{\"ids\":[\"\xFF\"]}}", NULL},
    {"{\"presence\":{\"ids\":[\"a\"]},\"presence\":0}", NULL},
    {"{\"presence\":[\"ids\",[\"a\"]]}", NULL},
};

static enum psh_member_result snapshot(struct world *w, const char *json)
{
    size_t len = strlen(json);
    char *tight = (char *)malloc(len ? len : 1); /* without the NUL, for the sanitizer */
    assert_non_null(tight);
    memcpy(tight, json, len);
    enum psh_member_result result = psh_member_snapshot(&w->list, tight, len);
    free(tight);
    return result;
}

static void every_shape_of_a_snapshot(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        struct world w;
        char text[400];
        open_world(&w, i, 1000);
        enum psh_member_result result = snapshot(&w, shapes[i].json);
        if (result != (shapes[i].list ? PSH_MEMBER_ADDED : PSH_MEMBER_BAD))
            fail_msg("%s: %d", shapes[i].json, (int)result);
        describe(&w.list, text, sizeof text);
        if (strcmp(text, shapes[i].list ? shapes[i].list : "") != 0)
            fail_msg("%s: %s", shapes[i].json, text);
        if (!shapes[i].list) assert_int_equal(w.heap.calls, 0);
        close_world(&w);
    }
}

static void a_snapshot_that_is_cut_is_malformed(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        size_t len = strlen(shapes[i].json);
        if (!shapes[i].list || shapes[i].json[len - 1] != '}') continue;
        for (size_t cut = 0; cut < len; cut++) {
            struct world w;
            char *text = (char *)malloc(cut + 1);
            assert_non_null(text);
            memcpy(text, shapes[i].json, cut);
            text[cut] = '\0';
            open_world(&w, i, 1000);
            assert_int_equal(snapshot(&w, text), PSH_MEMBER_BAD);
            free(text);
            close_world(&w);
        }
    }
}

static void long_ids_in_a_snapshot(void **state)
{
    (void)state;
    static const struct { const char *unit; size_t units; bool good; } lengths[] = {
        {"x", 512, true}, {"x", 513, false}, {"\\n", 512, true}, {"\\n", 513, false},
        {"\\u20ac", 170, true}, {"\\u20ac", 171, false}, {"\xC3\xA9", 256, true},
        {"\xC3\xA9", 257, false}, {"1", 512, true}, {"1", 513, false}, {"1", 5000, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        for (int number = 0; number <= (lengths[i].unit[0] == '1'); number++) {
            struct world w;
            fake_bytes json;
            const char *quote = number ? "" : "\"";
            memset(&json, 0, sizeof json);
            open_world(&w, i, 10);
            fake_bytes_add(&json, "{\"presence\":{\"ids\":[", 20);
            fake_bytes_add(&json, quote, strlen(quote));
            for (size_t n = 0; n < lengths[i].units; n++)
                fake_bytes_add(&json, lengths[i].unit, strlen(lengths[i].unit));
            fake_bytes_add(&json, quote, strlen(quote));
            fake_bytes_add(&json, ",\"b\"]}}", 7);
            assert_int_equal(snapshot(&w, json.at), PSH_MEMBER_ADDED);
            assert_int_equal(w.list.count, lengths[i].good ? 2 : 1);
            assert_int_not_equal(psh_member_find(&w.list, "b", 1), PSH_NONE);
            fake_bytes_free(&json);
            close_world(&w);
        }
    }
}

static void a_snapshot_over_max(void **state)
{
    (void)state;
    struct world w;
    char text[200];
    open_world(&w, 5, 2);
    assert_int_equal(snapshot(&w, "{\"presence\":{\"ids\":[\"a\",\"b\",\"c\",\"d\"]}}"),
                     PSH_MEMBER_FULL);
    describe(&w.list, text, sizeof text);
    assert_string_equal(text, "a= b=");
    psh_member_free(&w.list);
    assert_int_equal(snapshot(&w, "{\"presence\":{\"hash\":{\"a\":1,\"b\":2,\"c\":3,\"a\":4}}}"),
                     PSH_MEMBER_FULL);
    describe(&w.list, text, sizeof text);
    assert_string_equal(text, "a=4 b=2");
    psh_member_free(&w.list);
    assert_int_equal(snapshot(&w, "{\"presence\":{\"hash\":[1,2,3]}}"), PSH_MEMBER_FULL);
    psh_member_free(&w.list);
    assert_int_equal(snapshot(&w, "{\"presence\":{\"ids\":[\"a\",\"a\",\"b\",\"b\"],\"hash\":{}}}"),
                     PSH_MEMBER_ADDED);
    close_world(&w);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void each_allocation_fails_in_turn(void **state)
{
    (void)state;
    static const char json[] =
        "{\"presence\":{\"ids\":[1,2,3,4,5,6,7,8,9,10,11,12,13],\"hash\":{\"1\":\"a\",\"2\":{},"
        "\"1\":\"b\",\"3\":null,\"20\":1,\"21\":2,\"22\":3,\"23\":4}}}";
    for (int for_good = 0; for_good < 2; for_good++) {
        bool failed = true;
        for (uint64_t at = 1; failed; at++) {
            struct world w;
            open_world(&w, at, 100);
            w.heap.fail_at = at;
            w.heap.fail_for_good = for_good;
            enum psh_member_result result = snapshot(&w, json);
            failed = w.heap.failed > 0;
            assert_int_equal(result, failed ? PSH_MEMBER_MEMORY : PSH_MEMBER_ADDED);
            assert_int_equal(w.list.count, failed ? 0 : 17);
            if (failed) assert_int_equal(w.heap.live_blocks, 0);
            else assert_true(at > 18);
            w.heap.fail_at = 0;
            w.heap.fail_for_good = false;
            if (failed) assert_int_equal(snapshot(&w, json), PSH_MEMBER_ADDED);
            close_world(&w);
        }
    }
}

static void a_put_that_fails_changes_nothing(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 6, 100);
    for (uint32_t i = 0; i < 60; i++) {
        char id[8], before[8];
        snprintf(id, sizeof id, "%u", i);
        snprintf(before, sizeof before, "%u", i ? i - 1 : 0);
        bool grows = w.list.count == w.list.cap;
        for (uint64_t n = 1; n <= (grows ? 2u : 1u); n++) {
            w.heap.fail_at = w.heap.calls + n;
            assert_int_equal(put(&w, id, "1"), PSH_MEMBER_MEMORY);
            whole(&w.list);
            assert_int_equal(w.list.count, i);
        }
        if (i) {
            w.heap.fail_at = w.heap.calls + 1;
            assert_int_equal(put(&w, before, "22"), PSH_MEMBER_MEMORY);
            assert_string_equal(info_of(&w, before), "1");
        }
        w.heap.fail_at = 0;
        assert_int_equal(put(&w, id, "1"), PSH_MEMBER_ADDED);
    }
    close_world(&w);
}

/* ---- member_added, member_removed ------------------------------------------------------------ */

struct change {
    const char *json, *id, *info; /* id NULL: refused; info NULL: none given */
};

static const struct change changes[] = {
    {"{\"user_id\":\"x\",\"user_info\":{\"n\":1}}", "x", "{\"n\":1}"},
    {"{\"user_info\":[1, 2],\"user_id\":10}", "10", "[1, 2]"},
    {" {\"user_id\":\"x\"} ", "x", NULL},
    {"{\"user_id\":\"x\",\"user_info\":null}", "x", "null"},
    {"{\"user_id\":\"x\",\"user_info\":\"a\\\"b\"}", "x", "\"a\\\"b\""},
    {"{\"user_id\":\"\"}", "", NULL},
    {"{\"user_id\":\"\\u00e9\\\"\"}", "\xC3\xA9\"", NULL},
    {"{\"user_id\":-0.5e2,\"user_info\":true}", "-0.5e2", "true"},
    {"{\"user_id\":\"a\",\"user_id\":\"b\",\"user_info\":1,\"user_info\":2}", "b", "2"},
    {"{\"user\\u005fid\":\"a\",\"\\u0075ser_info\":0}", "a", "0"},
    {"{\"user_id\":null}", NULL, NULL}, {"{\"user_id\":true}", NULL, NULL},
    {"{\"user_id\":{}}", NULL, NULL}, {"{\"user_id\":[\"a\"]}", NULL, NULL},
    {"{\"user_info\":1}", NULL, NULL}, {"{}", NULL, NULL}, {"", NULL, NULL}, {"[]", NULL, NULL},
    {"[\"user_id\",\"x\"]", NULL, NULL}, {"null", NULL, NULL}, {"\"x\"", NULL, NULL},
    {"{\"user_id\":\"x\"", NULL, NULL}, {"{\"user_id\":\"x\"}}", NULL, NULL},
    {"{\"user_id\":\"a\",\"user_id\":null}", NULL, NULL}, {"{\"user_id\":01}", NULL, NULL},
    {"{\"a\":{\"user_id\":\"x\"}}", NULL, NULL},
};

static void a_change_is_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        char id[PSH_MEMBER_MAX_ID + 1];
        size_t len = 99;
        struct psh_value info;
        memset(&info, 0xA5, sizeof info);
        bool good = psh_member_read(changes[i].json, strlen(changes[i].json), id, sizeof id, &len,
                                    &info);
        if (good != (changes[i].id != NULL)) fail_msg("%s", changes[i].json);
        if (!good) continue;
        assert_string_equal(id, changes[i].id);
        assert_int_equal(len, strlen(id));
        assert_int_equal(info.raw_len, changes[i].info ? strlen(changes[i].info) : 0);
        if (changes[i].info) assert_memory_equal(info.raw, changes[i].info, info.raw_len);
        else assert_null(info.raw);
    }
}

static void a_long_id_is_refused(void **state)
{
    (void)state;
    char json[600], id[PSH_MEMBER_MAX_ID + 1];
    size_t len;
    struct psh_value info;
    for (int n = 508; n < 518; n++) {
        snprintf(json, sizeof json, "{\"user_id\":\"%0*d\"}", n, 7);
        assert_int_equal(psh_member_read(json, strlen(json), id, sizeof id, &len, &info), n <= 512);
        if (n <= 512) assert_true(len == (size_t)n && id[n - 1] == '7' && id[n] == '\0');
    }
    assert_false(psh_member_read("{\"user_id\":\"abc\"}", 17, id, 3, &len, &info));
    assert_true(psh_member_read("{\"user_id\":\"abc\"}", 17, id, 4, &len, &info));
    assert_string_equal(id, "abc");
}

/* ---- cost ------------------------------------------------------------------------------------ */

static double seconds(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static double cost_of(uint32_t count)
{
    struct world w;
    fake_bytes json;
    char piece[128];
    memset(&json, 0, sizeof json);
    fake_bytes_add(&json, "{\"presence\":{\"ids\":[", 20);
    for (uint32_t i = 0; i < count; i++) {
        int len = snprintf(piece, sizeof piece, "%s\"%u\"", i ? "," : "", i * 7919);
        fake_bytes_add(&json, piece, (size_t)len);
    }
    fake_bytes_add(&json, "],\"hash\":{", 10);
    for (uint32_t i = 0; i < count; i++) {
        int len = snprintf(piece, sizeof piece,
                           "%s\"%u\":{\"name\":\"Somebody %08u\",\"email\":\"some%05u@a.example\"}",
                           i ? "," : "", i * 7919, i, i);
        fake_bytes_add(&json, piece, (size_t)len);
    }
    fake_bytes_add(&json, "}}}", 3);
    open_world(&w, 7, UINT32_MAX);
    double best = 1e9;
    for (int n = 0; n < 3; n++) {
        double from = seconds();
        assert_int_equal(psh_member_snapshot(&w.list, json.at, json.len), PSH_MEMBER_ADDED);
        double took = seconds() - from;
        if (took < best) best = took;
        assert_int_equal(w.list.count, count);
        psh_member_free(&w.list);
    }
    fake_bytes_free(&json);
    close_world(&w);
    return best;
}

/* Eight times the members may cost at most sixteen times as much; quadratic would be 64 times. */
static void large_snapshots_are_linear(void **state)
{
    (void)state;
    double small = cost_of(5000), large = cost_of(40000);
    print_message("5000 members: %.2f ms, 40000: %.2f ms\n", small * 1e3, large * 1e3);
    assert_true(large < 16 * small + 0.01);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(put_find_take),
        cmocka_unit_test(ids_with_nul_and_long_ids),
        cmocka_unit_test(no_more_than_max),
        cmocka_unit_test(random_puts_and_takes),
        cmocka_unit_test(equal_hashes),
        cmocka_unit_test(crowded_buckets),
        cmocka_unit_test(every_shape_of_a_snapshot),
        cmocka_unit_test(a_snapshot_that_is_cut_is_malformed),
        cmocka_unit_test(long_ids_in_a_snapshot),
        cmocka_unit_test(a_snapshot_over_max),
        cmocka_unit_test(each_allocation_fails_in_turn),
        cmocka_unit_test(a_put_that_fails_changes_nothing),
        cmocka_unit_test(a_change_is_read),
        cmocka_unit_test(a_long_id_is_refused),
        cmocka_unit_test(large_snapshots_are_linear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
