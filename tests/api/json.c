/* Reading payloads: paths, walks, strings, numbers; and that nothing but JSON is read. */
#include "fake.h"

#include <math.h>

/* A copy of its own size, so that a byte read too far is an error that the sanitizer sees. It
   lives until the next call. */
static char *tight_copy;

static const char *tight(const char *text, size_t len)
{
    free(tight_copy);
    tight_copy = (char *)malloc(len ? len : 1);
    assert_non_null(tight_copy);
    memcpy(tight_copy, text, len);
    return tight_copy;
}

static pusher_json find(const char *text, const char *path)
{
    size_t len = strlen(text);
    return pusher_json_find(tight(text, len), len, path);
}

static int done(void **state)
{
    (void)state;
    free(tight_copy);
    tight_copy = NULL;
    return 0;
}

static void is_raw(pusher_json value, const char *raw)
{
    assert_int_equal(value.raw_len, strlen(raw));
    assert_memory_equal(value.raw, raw, value.raw_len);
}

static void is_nothing(pusher_json value, pusher_json_type type)
{
    assert_int_equal(value.type, type);
    assert_null(value.raw);
    assert_int_equal(value.raw_len, 0);
}

/* ---- paths ----------------------------------------------------------------------------------- */

/* Section 5 of RFC 6901. */
static void the_examples_of_the_standard(void **state)
{
    (void)state;
    static const char text[] =
        "{ \"foo\": [\"bar\", \"baz\"], \"\": 0, \"a/b\": 1, \"c%d\": 2, \"e^f\": 3, \"g|h\": 4, "
        "\"i\\\\j\": 5, \"k\\\"l\": 6, \" \": 7, \"m~n\": 8 }";
    static const char *const paths[] = {"/", "/a~1b", "/c%d", "/e^f", "/g|h", "/i\\j", "/k\"l",
                                        "/ ", "/m~0n"};
    is_raw(find(text, ""), text);
    is_raw(find(text, "/foo"), "[\"bar\", \"baz\"]");
    is_raw(find(text, "/foo/0"), "\"bar\"");
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        int64_t number = -1;
        assert_true(pusher_json_integer(find(text, paths[i]), &number));
        assert_int_equal(number, i);
    }
}

struct path {
    const char *text, *path;
    pusher_json_type type;
    const char *raw; /* NULL: none */
};

static const struct path paths[] = {
    /* the whole, of every type, without the space around it */
    {" null ", "", PUSHER_JSON_NULL, "null"}, {"\ttrue\r\n", "", PUSHER_JSON_BOOL, "true"},
    {"false", "", PUSHER_JSON_BOOL, "false"}, {" -1.5e3 ", "", PUSHER_JSON_NUMBER, "-1.5e3"},
    {"0", "", PUSHER_JSON_NUMBER, "0"}, {" \" \" ", "", PUSHER_JSON_STRING, "\" \""},
    {" [ ] ", "", PUSHER_JSON_ARRAY, "[ ]"}, {"\n{ }\n", "", PUSHER_JSON_OBJECT, "{ }"},
    /* objects */
    {"{\"a\":1}", "/a", PUSHER_JSON_NUMBER, "1"}, {"{\"a\":1}", "/b", PUSHER_JSON_NONE, NULL},
    {"{\"a\":1}", "/", PUSHER_JSON_NONE, NULL}, {"{\"a\":1}", "/a/", PUSHER_JSON_NONE, NULL},
    {"{\"a\":1}", "/A", PUSHER_JSON_NONE, NULL}, {"{\"a\":1}", "/aa", PUSHER_JSON_NONE, NULL},
    {"{\"ab\":1}", "/a", PUSHER_JSON_NONE, NULL}, {"{\"0\":1}", "/0", PUSHER_JSON_NUMBER, "1"},
    {"{\"a\":{\"b\":{\"c\":[]}}}", "/a/b/c", PUSHER_JSON_ARRAY, "[]"},
    {"{\"a\":{\"b\":1},\"b\":2}", "/b", PUSHER_JSON_NUMBER, "2"},
    {"{ \"a\" : { \"b\" : [ 1 , 2 ] } }", "/a/b/1", PUSHER_JSON_NUMBER, "2"},
    {"{\"a\":\"}\",\"b\":\"x\"}", "/b", PUSHER_JSON_STRING, "\"x\""},
    {"{}", "/a", PUSHER_JSON_NONE, NULL},
    /* of two the last counts */
    {"{\"a\":1,\"a\":2}", "/a", PUSHER_JSON_NUMBER, "2"},
    {"{\"a\":{\"b\":1},\"a\":{}}", "/a/b", PUSHER_JSON_NONE, NULL},
    {"{\"a\":1,\"\\u0061\":null}", "/a", PUSHER_JSON_NULL, "null"},
    /* empty keys */
    {"{\"\":{\"\":{\"\":3}}}", "///", PUSHER_JSON_NUMBER, "3"},
    {"{\"\":{\"\":3}}", "//", PUSHER_JSON_NUMBER, "3"},
    {"{\"\":{\"a\":3}}", "//a", PUSHER_JSON_NUMBER, "3"},
    /* escapes in keys and in paths */
    {"{\"\\u00e9\":1}", "/\xC3\xA9", PUSHER_JSON_NUMBER, "1"},
    {"{\"\xC3\xA9\":1}", "/\xC3\xA9", PUSHER_JSON_NUMBER, "1"},
    {"{\"\\uD83D\\uDE00\":1}", "/\xF0\x9F\x98\x80", PUSHER_JSON_NUMBER, "1"},
    {"{\"\\uD800\":1}", "/\xEF\xBF\xBD", PUSHER_JSON_NUMBER, "1"},
    {"{\"a\\/b\":1}", "/a~1b", PUSHER_JSON_NUMBER, "1"},
    {"{\"a\\nb\":1}", "/a\nb", PUSHER_JSON_NUMBER, "1"},
    {"{\"~1\":1,\"/\":2}", "/~01", PUSHER_JSON_NUMBER, "1"},
    {"{\"~1\":1,\"/\":2}", "/~1", PUSHER_JSON_NUMBER, "2"},
    {"{\"~\":1}", "/~0", PUSHER_JSON_NUMBER, "1"}, {"{\"~~\":1}", "/~0~0", PUSHER_JSON_NUMBER, "1"},
    {"{\"~\":1}", "/~0~0", PUSHER_JSON_NONE, NULL},
    {"{\"\\u007e\":1}", "/~0", PUSHER_JSON_NUMBER, "1"},
    {"{\"a\\u0000\":1}", "/a", PUSHER_JSON_NONE, NULL},
    {"{\"\\u0000\":1}", "/", PUSHER_JSON_NONE, NULL},
    /* arrays */
    {"[1,2,3]", "/0", PUSHER_JSON_NUMBER, "1"}, {"[1,2,3]", "/2", PUSHER_JSON_NUMBER, "3"},
    {"[1,2,3]", "/3", PUSHER_JSON_NONE, NULL}, {"[1,2,3]", "/-", PUSHER_JSON_NONE, NULL},
    {"[1,2,3]", "/00", PUSHER_JSON_NONE, NULL}, {"[1,2,3]", "/01", PUSHER_JSON_NONE, NULL},
    {"[1,2,3]", "/", PUSHER_JSON_NONE, NULL}, {"[1,2,3]", "/+1", PUSHER_JSON_NONE, NULL},
    {"[1,2,3]", "/-1", PUSHER_JSON_NONE, NULL}, {"[1,2,3]", "/1.0", PUSHER_JSON_NONE, NULL},
    {"[1,2,3]", "/1e0", PUSHER_JSON_NONE, NULL}, {"[1,2,3]", "/ 1", PUSHER_JSON_NONE, NULL},
    {"[1,2,3]", "/1 ", PUSHER_JSON_NONE, NULL}, {"[1,2,3]", "/a", PUSHER_JSON_NONE, NULL},
    {"[1,2,3]", "/~01", PUSHER_JSON_NONE, NULL}, {"[1,2,3]", "/1/0", PUSHER_JSON_NONE, NULL},
    {"[1,2,3]", "/4294967296", PUSHER_JSON_NONE, NULL},
    {"[1,2,3]", "/18446744073709551616", PUSHER_JSON_NONE, NULL},
    {"[1,2,3]", "/18446744073709551617", PUSHER_JSON_NONE, NULL},
    {"[1,2,3]", "/99999999999999999999999999", PUSHER_JSON_NONE, NULL},
    {"[0,1,2,3,4,5,6,7,8,9,10,11]", "/10", PUSHER_JSON_NUMBER, "10"},
    {"[]", "/0", PUSHER_JSON_NONE, NULL}, {"[[[7]]]", "/0/0/0", PUSHER_JSON_NUMBER, "7"},
    {"[\"]\",{\"a\":[1,\"x\"]}]", "/1/a/1", PUSHER_JSON_STRING, "\"x\""},
    /* through what is no container */
    {"1", "/0", PUSHER_JSON_NONE, NULL}, {"\"abc\"", "/0", PUSHER_JSON_NONE, NULL},
    {"null", "/a", PUSHER_JSON_NONE, NULL}, {"{\"a\":true}", "/a/b/c", PUSHER_JSON_NONE, NULL},
    {"{\"a\":\"{}\"}", "/a/b", PUSHER_JSON_NONE, NULL},
    /* no paths */
    {"{\"a\":1}", "a", PUSHER_JSON_BAD, NULL}, {"{\"a\":1}", "a/", PUSHER_JSON_BAD, NULL},
    {"{\"a\":1}", " ", PUSHER_JSON_BAD, NULL}, {"{\"a\":1}", "#/a", PUSHER_JSON_BAD, NULL},
    {"{\"a\":1}", "/~", PUSHER_JSON_BAD, NULL}, {"{\"a\":1}", "/~2", PUSHER_JSON_BAD, NULL},
    {"{\"a\":1}", "/a~", PUSHER_JSON_BAD, NULL}, {"{\"a\":1}", "/~/", PUSHER_JSON_BAD, NULL},
    {"{\"a\":1}", "/b/~", PUSHER_JSON_BAD, NULL}, {"{\"a\":1}", "/~~0", PUSHER_JSON_BAD, NULL},
    {"1", "/~x", PUSHER_JSON_BAD, NULL}, {"1", "0", PUSHER_JSON_BAD, NULL},
    /* no JSON, wherever the path leads */
    {"", "", PUSHER_JSON_BAD, NULL}, {" ", "", PUSHER_JSON_BAD, NULL},
    {"hello", "", PUSHER_JSON_BAD, NULL}, {"{\"a\":1}x", "/a", PUSHER_JSON_BAD, NULL},
    {"{\"a\":1,}", "/a", PUSHER_JSON_BAD, NULL}, {"[1,2", "/0", PUSHER_JSON_BAD, NULL},
    {"{\"a\":1,\"b\":01}", "/a", PUSHER_JSON_BAD, NULL},
    {"[\"\xFF\"]", "/1", PUSHER_JSON_BAD, NULL},
    {"'a'", "", PUSHER_JSON_BAD, NULL}, {"\"\t\"", "", PUSHER_JSON_BAD, NULL},
    {"NaN", "", PUSHER_JSON_BAD, NULL}, {"1 2", "", PUSHER_JSON_BAD, NULL},
    {"\"a", "", PUSHER_JSON_BAD, NULL}, {"\"\\x\"", "", PUSHER_JSON_BAD, NULL},
};

static void paths_lead_where_they_should(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        const struct path *p = &paths[i];
        pusher_json value = find(p->text, p->path), whole;
        if (value.type != p->type) fail_msg("%s at %s: %d", p->text, p->path, (int)value.type);
        if (p->raw) is_raw(value, p->raw);
        else is_nothing(value, p->type);
        whole = find(p->text, "");
        value = pusher_json_get(whole, p->path);
        assert_int_equal(value.type, p->type);
        if (p->raw) is_raw(value, p->raw);
        else is_nothing(value, p->type);
    }
}

static void nothing_and_null(void **state)
{
    (void)state;
    pusher_json none = find("{}", "/a"), bad = find("", "");
    is_nothing(pusher_json_find(NULL, 0, ""), PUSHER_JSON_BAD);
    is_nothing(pusher_json_find(NULL, 5, ""), PUSHER_JSON_BAD);
    is_nothing(pusher_json_find("{}", 0, ""), PUSHER_JSON_BAD);
    is_nothing(pusher_json_find("{}", 2, NULL), PUSHER_JSON_BAD);
    is_nothing(pusher_json_get(find("{}", ""), NULL), PUSHER_JSON_BAD);
    is_nothing(pusher_json_get(none, ""), PUSHER_JSON_NONE);
    is_nothing(pusher_json_get(none, "/a"), PUSHER_JSON_NONE);
    is_nothing(pusher_json_get(none, "a"), PUSHER_JSON_BAD);
    is_nothing(pusher_json_get(bad, ""), PUSHER_JSON_BAD);
    is_nothing(pusher_json_get(bad, "/a/b"), PUSHER_JSON_BAD);
}

static void every_truncation_is_bad(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"a\":[1,2,{\"b\":\"c\\u00e9\\n\"}],\"d\":null,\"e\":-1.5e+3,\"f\":{},\"g\":[]}",
        "[true,false,null,\"\",[[[]]],{\"\":{\"\":[]}}]", "\"a long text, long enough for eights\"",
        "\"\xE2\x82\xAC \xF0\x9F\x98\x80\"", "true", "null", "{\"event\":\"x\",\"data\":\"{}\"}",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        size_t len = strlen(texts[i]);
        for (size_t cut = 0; cut < len; cut++) {
            is_nothing(pusher_json_find(tight(texts[i], cut), cut, ""), PUSHER_JSON_BAD);
            is_nothing(pusher_json_find(tight(texts[i], cut), cut, "/a"), PUSHER_JSON_BAD);
        }
        assert_true(pusher_json_find(tight(texts[i], len), len, "").type > PUSHER_JSON_BAD);
    }
}

static void nesting_up_to_128(void **state)
{
    (void)state;
    char text[300], path[300];
    for (size_t depth = 1; depth <= 130; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        for (size_t i = 0; i + 1 < depth; i++) memcpy(path + 2 * i, "/0", 2);
        path[2 * depth - 2] = '\0';
        pusher_json value = pusher_json_find(tight(text, 2 * depth), 2 * depth, path);
        if (depth <= 128) is_raw(value, "[]");
        else is_nothing(value, PUSHER_JSON_BAD);
    }
}

/* ---- walks ----------------------------------------------------------------------------------- */

static void walks_over_arrays_and_objects(void **state)
{
    (void)state;
    pusher_json data = find(" { \"a\" : 1 , \"b\\n\":[true,\"x\" , {} ],\"a\":null } ", "");
    pusher_json key, value;
    size_t position = 0;
    char text[8];
    assert_true(pusher_json_each(data, &position, &key, &value));
    is_raw(key, "\"a\"");
    is_raw(value, "1");
    assert_true(pusher_json_each(data, &position, &key, &value));
    assert_true(pusher_json_string(key, text, sizeof text, NULL));
    assert_string_equal(text, "b\n");
    assert_int_equal(value.type, PUSHER_JSON_ARRAY);
    pusher_json list = value;
    assert_true(pusher_json_each(data, &position, NULL, &value));
    assert_int_equal(value.type, PUSHER_JSON_NULL);
    for (int again = 0; again < 3; again++) {
        memset(&key, 0xA5, sizeof key);
        memset(&value, 0xA5, sizeof value);
        assert_false(pusher_json_each(data, &position, &key, &value));
        is_nothing(key, PUSHER_JSON_NONE);
        is_nothing(value, PUSHER_JSON_NONE);
    }
    static const char *const items[] = {"true", "\"x\"", "{}"};
    position = 0;
    for (size_t i = 0; i < 3; i++) {
        assert_true(pusher_json_each(list, &position, &key, &value));
        is_nothing(key, PUSHER_JSON_NONE);
        is_raw(value, items[i]);
    }
    assert_false(pusher_json_each(list, &position, NULL, NULL));
}

static void walks_over_nothing(void **state)
{
    (void)state;
    static const char *const texts[] = {"{}", "[]", " { } ", "[ ]", "1", "\"[1]\"", "null", "",
        "x"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        size_t position = 0;
        pusher_json key, value;
        assert_false(pusher_json_each(find(texts[i], ""), &position, &key, &value));
        is_nothing(key, PUSHER_JSON_NONE);
        is_nothing(value, PUSHER_JSON_NONE);
        assert_false(pusher_json_each(find(texts[i], ""), &position, NULL, NULL));
    }
    size_t far = 1000;
    assert_false(pusher_json_each(find("[1]", ""), NULL, NULL, NULL));
    assert_false(pusher_json_each(find("[1]", ""), &far, NULL, NULL));
}

/* ---- strings --------------------------------------------------------------------------------- */

struct string {
    const char *text, *out;
    size_t len;
};

static void strings_have_their_escapes_undone(void **state)
{
    (void)state;
    static const struct string strings[] = {
        {"\"\"", "", 0}, {"\"a\"", "a", 1}, {" \" a \" ", " a ", 3},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8},
        {"\"\\u0041\\u00e9\"", "A\xC3\xA9", 3},
        {"\"\\u20AC\\uD83D\\uDE00\"", "\xE2\x82\xAC\xF0\x9F\x98\x80", 7},
        {"\"\\uD83D\"", "\xEF\xBF\xBD", 3}, {"\"\\uDE00x\"", "\xEF\xBF\xBDx", 4},
        {"\"\\uD83D\\n\"", "\xEF\xBF\xBD\n", 4}, {"\"a\\u0000b\"", "a\0b", 3},
        {"\"\\u0000\"", "\0", 1},
        {"\"\xC3\xA9\xF0\x9F\x98\x80\"", "\xC3\xA9\xF0\x9F\x98\x80", 6},
        {"\"the quick brown \\\"fox\\\" jumps over\"", "the quick brown \"fox\" jumps over", 32},
    };
    for (size_t i = 0; i < ARRAY_LEN(strings); i++) {
        char out[64];
        size_t len = 99;
        memset(out, 'z', sizeof out);
        assert_true(pusher_json_string(find(strings[i].text, ""), out, sizeof out, &len));
        assert_int_equal(len, strings[i].len);
        assert_memory_equal(out, strings[i].out, len + 1);
        assert_true(out[len + 1] == 'z');
        assert_true(pusher_json_string(find(strings[i].text, ""), out, len + 1, NULL));
        assert_false(pusher_json_string(find(strings[i].text, ""), out, len, NULL));
    }
}

/* At each size, beside what is right: whole characters, as many as fit. */
static void strings_are_cut_between_characters(void **state)
{
    (void)state;
    static const char text[] = "\"a\\u00e9\xE2\x82\xAC\\uD83D\\uDE00\xF0\x9F\x98\x80z\\n\"";
    static const char whole[] = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xF0\x9F\x98\x80z\n";
    static const size_t ends[] = {0, 1, 3, 6, 10, 14, 15, 16};
    pusher_json value = find(text, "");
    for (size_t cap = 0; cap <= sizeof whole + 2; cap++) {
        char *out = cap ? (char *)malloc(cap) : NULL;
        size_t len = 99, kept = 0;
        assert_int_equal(pusher_json_string(value, out, cap, &len), cap >= sizeof whole);
        assert_int_equal(len, sizeof whole - 1);
        for (size_t i = 0; i < ARRAY_LEN(ends); i++)
            if (cap > ends[i]) kept = ends[i];
        if (out) assert_int_equal(strlen(out), kept);
        if (out) assert_memory_equal(out, whole, kept);
        free(out);
    }
    size_t len = 99;
    assert_false(pusher_json_string(value, NULL, 100, &len));
    assert_int_equal(len, sizeof whole - 1);
    assert_false(pusher_json_string(find("\"\"", ""), NULL, 0, &len));
    assert_int_equal(len, 0);
}

static void what_is_no_string(void **state)
{
    (void)state;
    static const char *const texts[] = {"1", "null", "true", "[\"a\"]", "{\"a\":\"b\"}", "", "x"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        char out[4] = "abc";
        size_t len = 99;
        assert_false(pusher_json_string(find(texts[i], ""), out, sizeof out, &len));
        assert_string_equal(out, "");
        assert_int_equal(len, 0);
        out[0] = 'a';
        assert_false(pusher_json_string(find(texts[i], ""), out, 0, NULL));
        assert_false(pusher_json_string(find(texts[i], ""), NULL, 4, NULL));
        assert_string_equal(out, "abc");
    }
}

/* ---- numbers --------------------------------------------------------------------------------- */

static double number(const char *text)
{
    double value = 0.0625;
    if (!pusher_json_number(find(text, ""), &value)) fail_msg("%s", text);
    return value;
}

/* How many doubles lie between two of them. */
static uint64_t apart(double a, double b)
{
    uint64_t x, y, sign = UINT64_C(1) << 63;
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    x = x & sign ? sign - (x & ~sign) : sign + x;
    y = y & sign ? sign - (y & ~sign) : sign + y;
    return x < y ? y - x : x - y;
}

static void numbers_that_are_exact(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "0", "1", "-1", "0.1", "0.2", "0.3", "-0.5", "1.5", "3.14159265358979", "100", "1e2",
        "1E+2",
        "1e-2", "12.34e-5", "9007199254740991", "9007199254740992", "9007199254740992.0",
        "9007199254740992000e-3", "-9007199254740991", "123456789012345", "0.000001", "1e22",
        "-1e22", "1e-22", "123456789012345e-22", "1000000000000000000000000", "1e27", "0.0", "0e9",
        "0.00000000000000000000000000000000000000000001e44", "1700000000000.123", "5e-324",
        "2.2250738585072014e-308", "1.7976931348623157e308", "4.35", "0.7", "52.5200066", "13.4050",
        "9007199254740992000000", "0.50000000000000000000000000000000", "1e0000000000000000002",
        "18446744073709551616", "18446744073709551615", "4503599627370496.5",
        "9007199254740993", "9007199254740995", "9007199254740997", "3e23", "6e23", "11e23",
        /* rounded once, not twice */
        "3e-324", "2.4703282292062328e-324", "2.4703282292062327e-324",
        "7.4109846876186978883870e-324", "7.4109846876186984369101e-324",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (number(texts[i]) != strtod(texts[i], NULL))
            fail_msg("%s: %.17g", texts[i], number(texts[i]));
    assert_true(number("-0") == 0 && signbit(number("-0")) && signbit(number("-0.0e5")));
    assert_false(signbit(number("0")));
}

static void numbers_too_large_or_small(void **state)
{
    (void)state;
    static const char *const large[] = {"1e309", "1e999", "1e99999999999999999999999", "2e308",
                                        "1.7976931348623159e308", "17976931348623159e292",
                                        "1e9223372036854775807", "1e18446744073709551617"};
    static const char *const small[] = {"1e-400", "1e-99999999999999999999999", "0e999999999999",
                                        "1e-330", "1e-9223372036854775808", "0.0e-5", "1e-350"};
    for (size_t i = 0; i < ARRAY_LEN(large); i++) {
        char text[64];
        assert_true(isinf(number(large[i])) && number(large[i]) > 0);
        snprintf(text, sizeof text, "-%s", large[i]);
        assert_true(isinf(number(text)) && number(text) < 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(small); i++) assert_true(number(small[i]) == 0);
    /* many digits and an exponent that takes them back */
    fake_bytes text;
    memset(&text, 0, sizeof text);
    fake_bytes_add(&text, "0.", 2);
    for (int i = 0; i < 5000; i++) fake_bytes_add(&text, "0", 1);
    fake_bytes_add(&text, "125e5002", 8);
    assert_true(number(text.at) == 12.5);
    text.len = 0;
    fake_bytes_add(&text, "125", 3);
    for (int i = 0; i < 5000; i++) fake_bytes_add(&text, "0", 1);
    fake_bytes_add(&text, "e-5001", 6);
    assert_true(number(text.at) == 12.5);
    fake_bytes_free(&text);
}

/* One number of up to max digits, times a power of ten between -most and most. */
static void random_decimal(uint64_t *seed, char *text, uint32_t max, int most)
{
    uint32_t digits = 1 + (uint32_t)(fake_next_random(seed) % max), len = 0;
    uint32_t point = (uint32_t)(fake_next_random(seed) % (digits + 1));
    if (fake_next_random(seed) % 2) text[len++] = '-';
    if (point == 0) text[len++] = '0';
    for (uint32_t i = 0; i < digits; i++) {
        if (i == point) text[len++] = '.';
        uint32_t digit = (uint32_t)(fake_next_random(seed) % 10);
        if (i == 0 && point > 1 && digit == 0) digit = 1;
        text[len++] = (char)('0' + digit);
    }
    int exponent = (int)(fake_next_random(seed) % (2u * (unsigned)most + 1)) - most;
    text[len] = '\0';
    if (fake_next_random(seed) % 4) snprintf(text + len, 16, "e%d", exponent);
}

static void random_decimals_beside_strtod(void **state)
{
    (void)state;
    static const struct { uint32_t digits; int exponent; uint64_t most; } kinds[] = {
        {15, 7, 0}, {19, 8, 0}, {17, 300, 1}, {19, 330, 1}, {40, 330, 1}, {3, 340, 1},
    };
    uint64_t seed = 1;
    for (size_t kind = 0; kind < ARRAY_LEN(kinds); kind++) {
        uint32_t off = 0;
        for (uint32_t i = 0; i < 40000; i++) {
            char text[80];
            random_decimal(&seed, text, kinds[kind].digits, kinds[kind].exponent);
            double ours = number(text), theirs = strtod(text, NULL);
            if (apart(ours, theirs) > kinds[kind].most)
                fail_msg("%s: %.17g, not %.17g", text, ours, theirs);
            off += ours != theirs;
        }
        print_message("%u digits, 10^%d: %u of 40000 not the nearest double\n", kinds[kind].digits,
                      kinds[kind].exponent, off);
        assert_true(off < 40000 / 20);
    }
}

/* Every double comes back from 17 digits, or its neighbour does. */
static void random_doubles_come_back(void **state)
{
    (void)state;
    uint64_t seed = 2;
    for (uint32_t i = 0; i < 100000; i++) {
        uint64_t bits = fake_next_random(&seed);
        double value;
        char text[40];
        memcpy(&value, &bits, sizeof value);
        if (isnan(value) || isinf(value)) continue;
        snprintf(text, sizeof text, "%.17g", value);
        if (apart(number(text), value) > 1) fail_msg("%s: %.17g", text, number(text));
    }
}

struct integer {
    const char *text;
    bool good;
    int64_t value;
};

static const struct integer integers[] = {
    {"0", true, 0}, {"-0", true, 0}, {"1", true, 1}, {"-1", true, -1}, {"12.0", true, 12},
    {"1.2e1", true, 12}, {"1200e-2", true, 12}, {"1e18", true, 1000000000000000000},
    {"9223372036854775807", true, INT64_MAX}, {"-9223372036854775808", true, INT64_MIN},
    {"-9223372036854775807", true, -INT64_MAX}, {"9223372036854775807.000", true, INT64_MAX},
    {"9.223372036854775807e18", true, INT64_MAX}, {"92233720368547758070e-1", true, INT64_MAX},
    {"-9223372036854775808.0000000000000000000000", true, INT64_MIN}, {"0e999999", true, 0},
    {"0.000e-5", true, 0}, {"1.00000000000000000000000000000", true, 1},
    {"9e18", true, 9000000000000000000},
    {"9007199254740993", true, 9007199254740993}, {"1000000", true, 1000000},
    {"0.0000000000000000000000000000005e31", true, 5},
    {"9223372036854775808", false, 0}, {"-9223372036854775809", false, 0}, {"1e19", false, 0},
    {"99e18", false, 0}, {"9.3e18", false, 0}, {"-1e19", false, 0},
    {"92233720368547758071", false, 0},
    {"1.5", false, 0}, {"0.1", false, 0}, {"1e-1", false, 0},
    {"12.00000000000000000000000001", false, 0},
    {"1e99999999999999999999", false, 0}, {"1e-99999999999999999999", false, 0},
    {"18446744073709551616", false, 0}, {"18446744073709551617", false, 0},
    {"9223372036854775807.5", false, 0}, {"1e100", false, 0}, {"\"1\"", false, 0},
    {"null", false, 0}, {"true", false, 0}, {"[1]", false, 0}, {"{}", false, 0}, {"", false, 0},
    {"01", false, 0}, {"0x1", false, 0}, {"1 2", false, 0},
};

static void integers_are_exact_or_none(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(integers); i++) {
        int64_t value = 4711;
        if (pusher_json_integer(find(integers[i].text, ""), &value) != integers[i].good)
            fail_msg("%s", integers[i].text);
        assert_true(value == (integers[i].good ? integers[i].value : 4711));
    }
    assert_false(pusher_json_integer(find("1", ""), NULL));
    uint64_t seed = 3;
    for (uint32_t i = 0; i < 50000; i++) {
        uint64_t bits = fake_next_random(&seed) >> (fake_next_random(&seed) % 64);
        int64_t want = (int64_t)(bits >> 1), value = 4711;
        if (bits & 1) want = -want;
        char text[32];
        snprintf(text, sizeof text, "%" PRId64, want);
        assert_true(pusher_json_integer(find(text, ""), &value) && value == want);
        assert_true(apart(number(text), (double)want) == 0 || want > (INT64_C(1) << 53) ||
                    want < -(INT64_C(1) << 53));
    }
}

static void what_is_no_number_and_no_truth(void **state)
{
    (void)state;
    static const char *const texts[] = {"null", "\"1\"", "\"true\"", "[]", "{}", "", "x", "[1]"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        double value = 0.0625;
        bool truth = true;
        assert_false(pusher_json_number(find(texts[i], ""), &value));
        assert_false(pusher_json_bool(find(texts[i], ""), &truth));
        assert_true(value == 0.0625 && truth);
    }
    bool truth = false;
    double value = 0;
    assert_true(pusher_json_bool(find("true", ""), &truth) && truth);
    assert_true(pusher_json_bool(find("false", ""), &truth) && !truth);
    assert_false(pusher_json_bool(find("1", ""), &truth) || pusher_json_bool(find("0",
    ""), &truth));
    assert_false(pusher_json_number(find("true", ""), &value));
    assert_false(pusher_json_number(find("1", ""), NULL) || pusher_json_bool(find("true",
    ""), NULL));
}

/* ---- as an event brings it ------------------------------------------------------------------- */

static uint32_t scores;

static void on_score(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client;
    (void)user_data;
    pusher_json data = pusher_json_find(event->data, event->data_len, ""), item;
    char name[16];
    int64_t points = 0, sum = 0;
    size_t position = 0;
    assert_true(pusher_json_string(pusher_json_get(data, "/user/name"), name, sizeof name, NULL));
    assert_string_equal(name, "J\xC3\xBCrgen");
    while (pusher_json_each(pusher_json_get(data, "/points"), &position, NULL, &item))
        if (pusher_json_integer(item, &points)) sum += points;
    assert_int_equal(sum, 42);
    scores++;
}

static void the_payload_of_an_event(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    fake_subscribe(&f, "chat");
    pusher_bind(f.client, PUSHER_ALL, "score", on_score, NULL);
    fake_online(&f);
    fake_say(&f, FAKE_SUBSCRIBED("chat"));
    fake_say(&f, "{\"event\":\"score\",\"channel\":\"chat\",\"data\":\"{\\\"user\\\":{\\\"name\\\":"
                 "\\\"J\\\\u00fcrgen\\\"},\\\"points\\\":[40,\\\"x\\\",2]}\"}");
    fake_say(&f, "{\"event\":\"score\",\"channel\":\"chat\",\"data\":{\"points\":[42],\"user\":"
                 "{\"name\":\"J\\u00fcrgen\"}}}");
    fake_run(&f);
    assert_int_equal(scores, 2);
    fake_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_examples_of_the_standard),
        cmocka_unit_test(paths_lead_where_they_should),
        cmocka_unit_test(nothing_and_null),
        cmocka_unit_test(every_truncation_is_bad),
        cmocka_unit_test(nesting_up_to_128),
        cmocka_unit_test(walks_over_arrays_and_objects),
        cmocka_unit_test(walks_over_nothing),
        cmocka_unit_test(strings_have_their_escapes_undone),
        cmocka_unit_test(strings_are_cut_between_characters),
        cmocka_unit_test(what_is_no_string),
        cmocka_unit_test(numbers_that_are_exact),
        cmocka_unit_test(numbers_too_large_or_small),
        cmocka_unit_test(random_decimals_beside_strtod),
        cmocka_unit_test(random_doubles_come_back),
        cmocka_unit_test(integers_are_exact_or_none),
        cmocka_unit_test(what_is_no_number_and_no_truth),
        cmocka_unit_test(the_payload_of_an_event),
    };
    return cmocka_run_group_tests(tests, NULL, done);
}
