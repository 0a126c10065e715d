/* The bind room: who is called, in which order, and what handlers may do to each other. */
#include <assert.h>

/* Each assertion counts as a step: all work in the room goes through functions that have one. */
static unsigned long steps_taken;
#if !defined(PUSHER_ASSERT)
#define PUSHER_ASSERT(x) ((void)steps_taken++, assert(x))
#define STEPS_COUNT 1
#endif

#include "room.h"

struct world {
    struct psh_env env;
    fake_heap heap;
    struct psh_bind bind;
    struct psh_handlers channel, other, everyone;
    bool stop;
    char log[400]; /* the tag of each handler that was called */
};

static struct world w;

static void open_world(void)
{
    memset(&w, 0, sizeof w);
    use_heap(&w.env, &w.heap);
    memset(&w.bind, 0xA5, sizeof w.bind);
    psh_bind_init(&w.bind, &w.env);
}

static void close_world(void)
{
    psh_bind_free(&w.bind);
    assert_null(w.heap.violation);
    assert_int_equal(w.heap.live_blocks, 0);
}

static void list_whole(const struct psh_list *list, bool named)
{
    uint32_t before = 0;
    for (uint32_t id = list->first; id; id = psh_bind_at(&w.bind, id)->next) {
        const struct psh_binding *binding = psh_bind_at(&w.bind, id);
        assert_int_equal(binding->before, before);
        assert_int_equal(binding->slot.generation & 1, 1);
        assert_int_equal(binding->name != NULL, named);
        before = id;
    }
    assert_int_equal(list->last, before);
    assert_int_equal(list->first == 0, list->last == 0);
}

static void lists_whole(void)
{
    const struct psh_handlers *owners[3] = {&w.channel, &w.other, &w.everyone};
    for (size_t i = 0; i < 3; i++) {
        list_whole(&owners[i]->all, false);
        list_whole(&owners[i]->named, true);
    }
}

static pusher_binding handle(uint32_t id)
{
    pusher_binding binding = {0, 0};
    assert_true(id > 0);
    binding.id = id;
    binding.generation = psh_bind_at(&w.bind, id)->slot.generation;
    return binding;
}

static bool live(pusher_binding binding)
{
    uint32_t id = psh_bind_get(&w.bind, binding);
    assert_true(id == 0 || id == binding.id);
    return id != 0;
}

static pusher_client nobody; /* only its address is passed on */

static uint32_t dispatch(struct psh_handlers *channel, const char *name)
{
    pusher_event event;
    memset(&event, 0, sizeof event);
    event.name = name;
    w.bind.busy = true;
    uint32_t fired = psh_bind_dispatch(&w.bind, channel, &w.everyone, strlen(name), &nobody,
                                       &event, &w.stop);
    lists_whole();
    w.bind.busy = false;
    psh_bind_sweep(&w.bind);
    assert_int_equal(w.bind.dead, 0);
    lists_whole();
    return fired;
}

/* The log after one event; the number of calls is its length. */
static void hears(struct psh_handlers *channel, const char *name, const char *expected)
{
    w.log[0] = '\0';
    uint32_t fired = dispatch(channel, name);
    assert_string_equal(w.log, expected);
    assert_int_equal(fired, strlen(expected));
}

static void write_tag(pusher_client *client, const pusher_event *event, void *user_data)
{
    size_t len = strlen(w.log);
    assert_ptr_equal(client, &nobody);
    assert_non_null(event->name);
    assert_true(len + 2 <= sizeof w.log);
    w.log[len] = *(const char *)user_data;
    w.log[len + 1] = '\0';
}

static char tags[] = "abcdefghijklmnopqrstuvwxyz";

/* name NULL: every event. */
static uint32_t add(struct psh_handlers *owner, const char *name, char tag)
{
    uint32_t id = psh_bind_add(&w.bind, owner, name, name ? strlen(name) : 0, write_tag,
                               &tags[tag - 'a']);
    assert_true(id > 0);
    lists_whole();
    return id;
}

/* ---- order and names ------------------------------------------------------------------------- */

static void channel_before_everyone_all_before_named(void **state)
{
    (void)state;
    open_world();
    add(&w.everyone, "e", 'g');
    add(&w.everyone, NULL, 'e');
    add(&w.channel, "e", 'c');
    add(&w.channel, NULL, 'a');
    add(&w.everyone, "e", 'h');
    add(&w.channel, "e", 'd');
    add(&w.channel, NULL, 'b');
    add(&w.everyone, NULL, 'f');
    add(&w.other, NULL, 'x');
    add(&w.other, "e", 'y');
    hears(&w.channel, "e", "abcdefgh");
    hears(&w.channel, "other", "abef");
    hears(NULL, "e", "efgh");
    hears(&w.other, "e", "xyefgh");
    close_world();
}

static void a_name_is_compared_whole(void **state)
{
    (void)state;
    open_world();
    add(&w.channel, "event", 'a');
    add(&w.channel, "even", 'b');
    add(&w.channel, "events", 'c');
    add(&w.channel, "Event", 'd');
    add(&w.channel, "evenT", 'e');
    add(&w.channel, "", 'f');
    add(&w.channel, "event", 'g'); /* bound twice, called twice */
    add(&w.everyone, "event", 'h');
    hears(&w.channel, "event", "agh");
    hears(&w.channel, "even", "b");
    hears(&w.channel, "events", "c");
    hears(&w.channel, "eventsx", "");
    hears(&w.channel, "", "f");
    hears(&w.channel, "e", "");
    close_world();
}

static void the_name_is_a_copy(void **state)
{
    (void)state;
    open_world();
    char name[] = "event-and-more";
    uint32_t id = psh_bind_add(&w.bind, &w.channel, name, 5, write_tag, tags);
    memset(name, 'x', sizeof name);
    assert_string_equal(psh_bind_at(&w.bind, id)->name, "event");
    hears(&w.channel, "event", "a");
    close_world();
}

/* ---- what handlers may do -------------------------------------------------------------------- */

static struct psh_handlers *add_to;

static void add_another(pusher_client *client, const pusher_event *event, void *user_data)
{
    write_tag(client, event, user_data);
    add(add_to, add_to == &w.other ? NULL : "e", 'n');
}

static void a_new_binding_waits_for_the_next_event(void **state)
{
    (void)state;
    struct psh_handlers *const owners[] = {&w.channel, &w.everyone};
    for (size_t i = 0; i < 2; i++) {
        open_world();
        add_to = owners[i];
        assert_true(psh_bind_add(&w.bind, &w.channel, "e", 1, add_another, tags) > 0);
        hears(&w.channel, "e", "a");
        hears(&w.channel, "e", "an"); /* and again one is added */
        hears(&w.channel, "e", "ann");
        hears(&w.channel, "other", "");
        close_world();
    }
    open_world(); /* bound between two events: heard at once, in the first round too */
    add(&w.channel, NULL, 'a');
    hears(&w.channel, "e", "a");
    add(&w.channel, NULL, 'b');
    hears(&w.channel, "e", "ab");
    close_world();
}

static pusher_binding victims[8];
static size_t victim_count;

static void kill_victims(pusher_client *client, const pusher_event *event, void *user_data)
{
    write_tag(client, event, user_data);
    for (size_t i = 0; i < victim_count; i++) {
        uint32_t id = psh_bind_get(&w.bind, victims[i]);
        if (id) psh_bind_kill(&w.bind, id);
        assert_false(live(victims[i]));
    }
}

/* Five handlers of each list are called, the third of the first list kills some: those that come
   later are not called any more, and all of them are gone afterwards. */
static void killed_ones_are_not_called(void **state)
{
    (void)state;
    for (unsigned mask = 0; mask < 256; mask++) {
        pusher_binding handles[10];
        char expected[12] = "", after[12] = "";
        static const unsigned char which[8] = {0, 1, 2, 3, 4, 5, 7, 9};
        open_world();
        for (size_t i = 0; i < 10; i++) {
            struct psh_handlers *owner = i < 5 ? &w.channel : &w.everyone;
            handles[i] = handle(add(owner, i < 5 ? NULL : "e", (char)('a' + i)));
        }
        psh_bind_at(&w.bind, handles[2].id)->fn = kill_victims;
        victim_count = 0;
        for (size_t i = 0, e = 0, a = 0; i < 10; i++) {
            bool dies = false;
            for (size_t v = 0; v < 8; v++) dies |= which[v] == i && (mask >> v & 1);
            if (dies) victims[victim_count++] = handles[i];
            if (!dies || i <= 2) expected[e++] = (char)('a' + i), expected[e] = '\0';
            if (!dies) after[a++] = (char)('a' + i), after[a] = '\0';
        }
        hears(&w.channel, "e", expected);
        hears(&w.channel, "e", after);
        for (size_t i = 0; i < victim_count; i++) assert_false(live(victims[i]));
        close_world();
    }
}

static void kill_all_of_channel(pusher_client *client, const pusher_event *event, void *user_data)
{
    write_tag(client, event, user_data);
    (void)psh_bind_kill_where(&w.bind, &w.channel, NULL, NULL, NULL);
}

static void a_handler_may_end_all_of_its_channel(void **state)
{
    (void)state;
    open_world();
    add(&w.channel, NULL, 'a');
    assert_true(psh_bind_add(&w.bind, &w.channel, NULL, 0, kill_all_of_channel, tags + 1) > 0);
    add(&w.channel, NULL, 'c');
    add(&w.channel, "e", 'd');
    add(&w.everyone, NULL, 'z');
    hears(&w.channel, "e", "abz");
    assert_int_equal(w.channel.all.first + w.channel.named.first, 0);
    hears(&w.channel, "e", "z");
    close_world();
}

static void nothing_is_unlinked_while_busy(void **state)
{
    (void)state;
    open_world();
    uint32_t first = add(&w.channel, "e", 'a'), second = add(&w.channel, "e", 'b');
    pusher_binding stale = handle(first);
    uint64_t calls = w.heap.calls;
    size_t blocks = w.heap.live_blocks;
    w.bind.busy = true;
    psh_bind_kill(&w.bind, first);
    assert_false(live(stale));
    assert_int_equal(w.channel.named.first, first);
    assert_int_equal(psh_bind_at(&w.bind, first)->next, second);
    assert_int_equal(w.heap.live_blocks, blocks);
    uint32_t third = add(&w.channel, "e", 'c'); /* does not get the dead one's place */
    assert_true(third != first);
    w.bind.busy = false;
    psh_bind_sweep(&w.bind);
    psh_bind_sweep(&w.bind); /* nothing left to do */
    assert_int_equal(w.channel.named.first, second);
    assert_int_equal(w.heap.live_blocks, blocks);
    assert_int_equal(w.heap.calls, calls + 1);
    assert_int_equal(add(&w.channel, "e", 'd'), first); /* now it does */
    assert_false(live(stale));
    hears(&w.channel, "e", "bcd");
    close_world();
}

static void handles_grow_stale(void **state)
{
    (void)state;
    open_world();
    pusher_binding none = {0, 0}, old[20];
    assert_false(live(none));
    for (size_t i = 0; i < ARRAY_LEN(old); i++) {
        uint32_t id = add(&w.channel, i % 2 ? "e" : NULL, 'a');
        assert_int_equal(id, 1); /* the same place again */
        old[i] = handle(id);
        assert_true(live(old[i]));
        for (size_t j = 0; j < i; j++) assert_false(live(old[j]));
        psh_bind_kill(&w.bind, id);
        for (size_t j = 0; j <= i; j++) assert_false(live(old[j]));
    }
    pusher_binding beyond = {2, 1}, even = {1, 2}, far = {UINT32_MAX, 1};
    assert_false(live(beyond));
    assert_false(live(even));
    assert_false(live(far));
    close_world();
}

static void stop_here(pusher_client *client, const pusher_event *event, void *user_data)
{
    write_tag(client, event, user_data);
    w.stop = true;
}

static void stop_ends_it_at_once(void **state)
{
    (void)state;
    for (size_t who = 0; who <= 8; who++) {
        uint32_t ids[8];
        char expected[9] = "abcdefgh";
        open_world();
        for (size_t i = 0; i < 8; i++) /* two in each of the four lists */
            ids[i] = add(i < 4 ? &w.channel : &w.everyone, i / 2 % 2 ? "e" : NULL, (char)('a' + i));
        if (who < 8) psh_bind_at(&w.bind, ids[who])->fn = stop_here;
        if (who < 8) expected[who + 1] = '\0';
        hears(&w.channel, "e", expected);
        if (who < 8) hears(&w.channel, "e", ""); /* still stopped */
        close_world();
    }
}

/* ---- kill_where ------------------------------------------------------------------------------ */

static void other_fn(pusher_client *client, const pusher_event *event, void *user_data)
{
    write_tag(client, event, user_data);
}

/* Bindings of all names, functions and data, asked for by all of them and by NULL. */
static void kill_where_matches_what_is_given(void **state)
{
    (void)state;
    static const char *const names[] = {NULL, "a", "b", "ab"};
    static const pusher_event_fn fns[] = {NULL, write_tag, other_fn};
    char *const data[] = {NULL, tags, tags + 1, tags + 2};
    for (size_t query = 0; query < 5 * 3 * 4 * 2; query++) {
        const char *name = query % 5 < 4 ? names[query % 5] : "absent";
        pusher_event_fn fn = fns[query / 5 % 3];
        const char *user_data = data[query / 15 % 4];
        pusher_binding handles[4 * 2 * 3], elsewhere;
        bool expected[ARRAY_LEN(handles)];
        uint32_t count = 0, total = 0;
        open_world();
        for (size_t i = 0; i < ARRAY_LEN(handles); i++) {
            const char *own_name = names[i % 4];
            pusher_event_fn own_fn = fns[1 + i / 4 % 2];
            char *own_data = data[i / 8];
            handles[i] = handle(psh_bind_add(&w.bind, &w.channel, own_name,
                                             own_name ? strlen(own_name) : 0, own_fn, own_data));
            expected[i] = (!name || (own_name && strcmp(name, own_name) == 0)) &&
                          (!fn || fn == own_fn) && (!user_data || user_data == own_data);
            count += expected[i];
        }
        elsewhere = handle(add(&w.other, "a", 'a'));
        w.bind.busy = query >= 60;
        total = psh_bind_kill_where(&w.bind, &w.channel, name, fn, user_data);
        assert_int_equal(total, count);
        lists_whole();
        for (size_t i = 0; i < ARRAY_LEN(handles); i++)
            assert_int_equal(live(handles[i]), !expected[i]);
        assert_true(live(elsewhere));
        assert_int_equal(psh_bind_kill_where(&w.bind, &w.channel, name, fn, user_data), 0);
        assert_int_equal(psh_bind_kill_where(&w.bind, &w.channel, NULL, NULL, NULL),
                         ARRAY_LEN(handles) - count);
        w.bind.busy = false;
        psh_bind_sweep(&w.bind);
        assert_int_equal(w.channel.all.first + w.channel.named.first, 0);
        assert_true(live(elsewhere));
        lists_whole();
        close_world();
    }
}

/* ---- the model ------------------------------------------------------------------------------- */

enum { MAX_BOUND = 4000 };

struct bound {
    pusher_binding handle;
    int list;      /* in order of calling: channel's all, named, everyone's all, named */
    int name;
    uint64_t round; /* in which it was made */
    bool dead;
};

static struct {
    struct bound bound[MAX_BOUND];
    size_t count, live;
    uint64_t dice, round;
    int list, name;  /* being called now; the event's name */
    long at;
    size_t calls;
} model;

static const char *const model_names[] = {"x", "y", "xy"};

static void model_call(pusher_client *client, const pusher_event *event, void *user_data);

static uint32_t model_roll(uint32_t sides)
{
    return (uint32_t)(fake_next_random(&model.dice) % sides);
}

static void model_change(void)
{
    struct bound *b;
    if (model.count < MAX_BOUND && model.live < 40 && model_roll(2)) {
        b = &model.bound[model.count];
        b->list = (int)model_roll(4);
        b->name = (int)model_roll(3);
        b->round = model.round;
        b->dead = false;
        const char *name = b->list % 2 ? model_names[b->name] : NULL;
        uint32_t id = psh_bind_add(&w.bind, b->list < 2 ? &w.channel : &w.everyone, name,
                                   name ? strlen(name) : 0, model_call, b);
        b->handle = handle(id);
        model.count++;
        model.live++;
    } else if (model.count > 0) {
        uint32_t young = model.count < 60 ? (uint32_t)model.count : 60;
        b = &model.bound[model.count - 1 - model_roll(young)];
        assert_int_equal(live(b->handle), !b->dead);
        if (b->dead) return;
        psh_bind_kill(&w.bind, b->handle.id);
        b->dead = true;
        model.live--;
    }
}

/* Who has to be called after the one that was called last; NULL: nobody. */
static struct bound *model_next(void)
{
    long from = model.at + 1;
    for (int list = model.list; list < 4; list++, from = 0) {
        for (size_t i = (size_t)from; i < model.count; i++) {
            struct bound *b = &model.bound[i];
            if (b->list != list || b->dead || b->round == model.round) continue;
            if (list % 2 && b->name != model.name) continue;
            return b;
        }
    }
    return NULL;
}

static void model_call(pusher_client *client, const pusher_event *event, void *user_data)
{
    struct bound *b = (struct bound *)user_data;
    assert_ptr_equal(client, &nobody);
    assert_string_equal(event->name, model_names[model.name]);
    assert_ptr_equal(b, model_next());
    model.list = b->list;
    model.at = (long)(b - model.bound);
    model.calls++;
    for (uint32_t i = model_roll(4); i > 0; i--) model_change();
}

static void random_handlers_of_random_handlers(void **state)
{
    (void)state;
    size_t calls = 0;
    for (uint64_t seed = 0; seed < 60; seed++) {
        memset(&model, 0, sizeof model);
        model.dice = seed;
        open_world();
        for (int event = 0; event < 150; event++) {
            for (uint32_t i = model_roll(5); i > 0; i--) model_change();
            model.round++;
            model.list = 0;
            model.at = -1;
            model.name = (int)model_roll(3);
            model.calls = 0;
            uint32_t fired = dispatch(&w.channel, model_names[model.name]);
            assert_int_equal(fired, model.calls);
            assert_null(model_next());
            calls += model.calls;
        }
        for (size_t i = 0; i < model.count; i++)
            assert_int_equal(live(model.bound[i].handle), !model.bound[i].dead);
        close_world();
    }
    assert_true(calls > 20000);
}

/* ---- memory and effort ----------------------------------------------------------------------- */

static void each_allocation_fails(void **state)
{
    (void)state;
    uint64_t fail_at = 1;
    for (bool failed = true; failed; fail_at++) {
        uint32_t heard = 0;
        open_world();
        w.heap.fail_at = fail_at;
        for (int i = 0; i < 60; i++) {
            uint64_t before = w.heap.failed;
            size_t blocks = w.heap.live_blocks;
            const char *name = i % 3 ? "e" : NULL;
            uint32_t id = psh_bind_add(&w.bind, &w.channel, name, name ? 1 : 0, write_tag, tags);
            assert_int_equal(id == 0, w.heap.failed > before);
            lists_whole();
            if (id) heard++;
            else assert_true(w.heap.live_blocks <= blocks + 1); /* the list of pages */
        }
        failed = w.heap.failed > 0;
        assert_int_equal(heard, failed ? 59 : 60);
        assert_int_equal(dispatch(&w.channel, "e"), heard);
        close_world();
    }
    assert_int_equal(fail_at - 2, 40 + 8 + 2); /* names, pages, lists of pages */
}

enum { MANY = 10000 };

static unsigned long kill_many(uint32_t stride, bool busy, bool by_query)
{
    static uint32_t ids[MANY];
    open_world();
    for (uint32_t i = 0; i < MANY; i++)
        ids[i] = psh_bind_add(&w.bind, &w.channel, i % 2 ? "e" : NULL, i % 2, write_tag, tags);
    steps_taken = 0;
    w.bind.busy = busy;
    if (by_query)
        assert_int_equal(psh_bind_kill_where(&w.bind, &w.channel, NULL, NULL, NULL), MANY);
    for (uint32_t i = 0; i < MANY && !by_query; i++)
        psh_bind_kill(&w.bind, ids[(uint64_t)(i + 1) * stride % MANY]);
    w.bind.busy = false;
    psh_bind_sweep(&w.bind);
    unsigned long taken = steps_taken;
    assert_int_equal(w.channel.all.first + w.channel.named.first, 0);
    assert_int_equal(w.heap.live_blocks, MANY / PSH_PAGE + 1);
    close_world();
    return taken;
}

static void killing_many_is_linear_in_any_order(void **state)
{
    (void)state;
    static const uint32_t strides[] = {1, MANY - 1, 3, 7, 4999, 5001, 6173, 9001}; /* coprime */
    for (size_t i = 0; i < ARRAY_LEN(strides); i++) {
        for (int how = 0; how < 4; how++) {
            unsigned long taken = kill_many(strides[i], how & 1, how & 2);
#if defined(STEPS_COUNT)
            assert_true(taken > MANY && taken < 40ul * MANY);
#else
            (void)taken;
#endif
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(channel_before_everyone_all_before_named),
        cmocka_unit_test(a_name_is_compared_whole),
        cmocka_unit_test(the_name_is_a_copy),
        cmocka_unit_test(a_new_binding_waits_for_the_next_event),
        cmocka_unit_test(killed_ones_are_not_called),
        cmocka_unit_test(a_handler_may_end_all_of_its_channel),
        cmocka_unit_test(nothing_is_unlinked_while_busy),
        cmocka_unit_test(handles_grow_stale),
        cmocka_unit_test(stop_ends_it_at_once),
        cmocka_unit_test(kill_where_matches_what_is_given),
        cmocka_unit_test(random_handlers_of_random_handlers),
        cmocka_unit_test(each_allocation_fails),
        cmocka_unit_test(killing_many_is_linear_in_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
