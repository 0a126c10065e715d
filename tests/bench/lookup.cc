/*
 * lookup.cc - pusher_find_channel() against the tables C and C++ programmers reach for.
 *
 * The same names, asked for in the same random order, with copies of the names so that a comparison
 * has to read the stored one. khash.h comes from Debian's libhts-dev and stb_ds.h from libstb-dev;
 * where a package is not installed, its row says so.
 */
#include "bench.h"

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#if __has_include(<htslib/khash.h>)
#include <htslib/khash.h>
#define HAVE_KHASH 1
#pragma GCC diagnostic push /* khash's macros narrow */
#pragma GCC diagnostic ignored "-Wconversion"
KHASH_MAP_INIT_STR(names, uint32_t)
#pragma GCC diagnostic pop
#else
#define HAVE_KHASH 0
#endif

#if __has_include(<stb/stb_ds.h>)
#define STB_DS_IMPLEMENTATION
#include <stb/stb_ds.h>
#define HAVE_STB_DS 1
#else
#define HAVE_STB_DS 0
#endif

namespace
{

enum { ASKED = 1 << 16 };

struct stb_entry {
    char *key;
    uint32_t value;
};

struct lookup {
    std::vector<std::string> stored; /* the tables' own copies                       */
    std::vector<std::string> asked;  /* ASKED names in random order                  */
    uint64_t expected;               /* what the sum of all answers must be          */
    size_t rounds;                   /* times through asked                          */
    pusher_client *client;
    std::unordered_map<std::string_view, uint32_t> standard;
#if HAVE_KHASH
    khash_t(names) * khash;
#endif
#if HAVE_STB_DS
    stb_entry *stb;
#endif
};

template <typename find_fn> double run(const lookup &l, const char *who, find_fn find)
{
    uint64_t sum = 0, start = bench_ns();
    for (size_t round = 0; round < l.rounds; round++)
        for (const std::string &name : l.asked)
            sum += find(name.c_str());
    double took = static_cast<double>(bench_ns() - start);
    if (sum != l.expected * l.rounds) bench_die("%s finds the wrong things", who);
    return took / static_cast<double>(l.rounds * l.asked.size());
}

double run_pusher(void *context)
{
    const lookup &l = *static_cast<lookup *>(context);
    return run(l, "pusher_find_channel", [&](const char *name) -> uint64_t {
        return pusher_find_channel(l.client, name).id != 0;
    });
}

double run_standard(void *context)
{
    const lookup &l = *static_cast<lookup *>(context);
    return run(l, "std::unordered_map", [&](const char *name) -> uint64_t {
        return l.standard.find(name) != l.standard.end();
    });
}

#if HAVE_KHASH
double run_khash(void *context)
{
    const lookup &l = *static_cast<lookup *>(context);
    return run(l, "khash", [&](const char *name) -> uint64_t {
        return kh_get(names, l.khash, name) != kh_end(l.khash);
    });
}
#endif

#if HAVE_STB_DS
double run_stb_ds(void *context)
{
    lookup &l = *static_cast<lookup *>(context);
    return run(l, "stb_ds", [&](const char *name) -> uint64_t { return shgeti(l.stb, name) >= 0; });
}
#endif

/* Fills all tables. With hits every name asked for is there, else none is. */
void fill(lookup &l, size_t channels, bool hits)
{
    uint64_t random = 7;
    char name[BENCH_NAME];
    for (size_t i = 0; i < channels; i++) {
        bench_channel_name(name, i);
        l.stored.push_back(name);
    }
    for (size_t i = 0; i < ASKED; i++) {
        bench_channel_name(name, bench_random(&random) % channels + (hits ? 0 : 500000));
        l.asked.push_back(name);
    }
    l.expected = hits ? ASKED : 0;
    for (uint32_t i = 0; i < channels; i++) {
        bench_subscribe(l.client, l.stored[i].c_str());
        l.standard[l.stored[i]] = i;
#if HAVE_KHASH
        int state;
        khint_t at = kh_put(names, l.khash, l.stored[i].c_str(), &state);
        kh_value(l.khash, at) = i;
#endif
#if HAVE_STB_DS
        shput(l.stb, const_cast<char *>(l.stored[i].c_str()), i);
#endif
    }
}

void measure(size_t channels, bool hits)
{
    bench_wire wire;
    memset(&wire, 0, sizeof wire);
    pusher_options options = bench_options(&wire);
    lookup l{};
    l.rounds = bench_pick(8, 2);
    l.client = bench_create(&options);
#if HAVE_KHASH
    l.khash = kh_init(names);
#endif
    fill(l, channels, hits);
    const char *rivals[4];
    bench_side sides[4];
    size_t count = 0;
    auto add = [&](const char *who, double (*run_fn)(void *)) {
        rivals[count] = who;
        sides[count].run_fn = run_fn;
        sides[count++].context = &l;
    };
    add("pusher_find_channel", run_pusher);
    add("std::unordered_map", run_standard);
#if HAVE_KHASH
    add("khash", run_khash);
#endif
#if HAVE_STB_DS
    add("stb_ds", run_stb_ds);
#endif
    bench_rounds(sides, count, bench_pick(15, 3));
    for (size_t i = 1; i < count; i++)
        bench_row("lookup", sides[0].median / sides[i].median, BENCH_AT_MOST, 1,
                  "%zu channels, %s: %.1f ns; %s %.1f ns", channels, hits ? "found" : "not found",
                  sides[0].median, rivals[i], sides[i].median);
    pusher_destroy(l.client);
#if HAVE_KHASH
    kh_destroy(names, l.khash);
#endif
#if HAVE_STB_DS
    shfree(l.stb);
#endif
}

} // namespace

int main()
{
    measure(10, true);
    measure(1000, true);
    measure(1000, false);
    measure(100000, true);
    if (!HAVE_KHASH) bench_say("lookup", "khash skipped: no htslib/khash.h (Debian: libhts-dev)");
    if (!HAVE_STB_DS) bench_say("lookup", "stb_ds skipped: no stb/stb_ds.h (Debian: libstb-dev)");
    return 0;
}
