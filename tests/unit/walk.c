/* The walk over valid JSON, beside jsmn's tokens and the reader that copies strings. */
#if defined(UNIT_PORTABLE) /* tests the branch that is for machines of the other byte order */
#include <stdlib.h>
#include <string.h>

#include <mbedtls/base64.h>
#include <mbedtls/md.h>
#include <wslay/wslay.h>
#undef __BYTE_ORDER__
#define __BYTE_ORDER__ __ORDER_BIG_ENDIAN__
#endif

#define PUSHER_IMPLEMENTATION
#include "pusher.h"

#include "fake.h"

#define ROUNDS 20000

/* ---- random valid texts ---------------------------------------------------------------------- */

struct made {
    fake_bytes text;
    uint64_t seed;
    uint32_t left; /* values still to make */
};

static uint32_t below(struct made *m, uint32_t n)
{
    return (uint32_t)(fake_next_random(&m->seed) % n);
}

static void add(struct made *m, const char *text)
{
    fake_bytes_add(&m->text, text, strlen(text));
}

static void make_space(struct made *m)
{
    static const char *const spaces[] = {" ", "\t", "\r\n", "          ", "\n \n"};
    if (below(m, 4) == 0) add(m, spaces[below(m, ARRAY_LEN(spaces))]);
}

static void make_string(struct made *m)
{
    static const char *const pieces[] = {
        "a", "user_id", "{", "}", "[", "]", ",", ":", "\\\"", "\\\\", "\\/", "\\b", "\\n", "\\t",
        "\\u0000", "\\u0022", "\\u005c", "\\u00e9", "\\u20AC", "\\uD83D\\uDE00", "\\uD83D",
        "\\uDE00", "\\uD83D\\n", "\\uD83D\\u0041", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80",
        "\x7F", "the quick brown fox", "01234567", " ", "true",
    };
    add(m, "\"");
    for (uint32_t n = below(m, 7); n > 0; n--) add(m, pieces[below(m, ARRAY_LEN(pieces))]);
    add(m, "\"");
}

static void make_scalar(struct made *m)
{
    static const char *const scalars[] = {"true", "false", "null", "0", "-0", "1", "-12.5e+3",
                                          "7E2", "1234567890123456789", "0.000001"};
    if (below(m, 2)) make_string(m);
    else add(m, scalars[below(m, ARRAY_LEN(scalars))]);
}

static void make_value(struct made *m, int depth)
{
    uint32_t kind = below(m, 4);
    if (m->left > 0) m->left--;
    if (depth >= PSH_JSON_DEPTH || m->left == 0 || (kind >= 2 && depth > 0)) {
        make_scalar(m);
        return;
    }
    bool object = kind & 1;
    add(m, object ? "{" : "[");
    make_space(m);
    uint32_t count = below(m, 6);
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) add(m, ",");
        make_space(m);
        if (object) make_string(m);
        if (object) make_space(m);
        if (object) add(m, ":");
        make_space(m);
        make_value(m, depth + 1);
        make_space(m);
    }
    add(m, object ? "}" : "]");
}

static const char *make_text(struct made *m, uint64_t seed)
{
    m->seed = seed;
    m->left = 2 + below(m, 60); /* jsmn takes no number that stands alone */
    m->text.len = 0;
    make_space(m);
    make_value(m, 0);
    make_space(m);
    return m->text.at;
}

/* ---- the walk as a list of tokens, as jsmn makes them ---------------------------------------- */

struct token {
    size_t from, to;
    jsmntype_t type;
};

struct tokens {
    const char *text;
    struct token at[4000];
    size_t count;
};

static jsmntype_t type_of(const struct psh_value *value)
{
    if (value->string) return JSMN_STRING;
    return *value->at == '{' ? JSMN_OBJECT : *value->at == '[' ? JSMN_ARRAY : JSMN_PRIMITIVE;
}

static void note(struct tokens *tokens, const struct psh_value *value)
{
    assert_true(tokens->count < ARRAY_LEN(tokens->at));
    struct token *token = &tokens->at[tokens->count++];
    token->from = (size_t)(value->at - tokens->text);
    token->to = token->from + value->len;
    token->type = type_of(value);
    assert_int_equal(value->raw_len, value->len + (value->string ? 2 : 0));
    assert_ptr_equal(value->raw, value->at - (value->string ? 1 : 0));
}

static void walk_all(struct tokens *tokens, const char *text, size_t len)
{
    static const struct psh_value zero = {NULL, NULL, 0, 0, false};
    struct psh_json_walk walk;
    struct psh_value key, value;
    if (!psh_json_enter(&walk, text, len)) return;
    for (;;) {
        memset(&key, 0xA5, sizeof key);
        memset(&value, 0xA5, sizeof value);
        if (!psh_json_next(&walk, &key, &value)) break;
        if (walk.object) note(tokens, &key);
        else assert_true(key.at == zero.at && key.raw == zero.raw && key.len == 0 &&
                         key.raw_len == 0 && !key.string);
        note(tokens, &value);
        walk_all(tokens, value.raw, value.raw_len);
    }
    assert_false(psh_json_next(&walk, &key, &value));
    assert_true(*walk.at == (walk.object ? '}' : ']'));
}

/* A copy of its own size, so that a byte read too far is an error that the sanitizer sees. */
static char *tight(const char *text, size_t len)
{
    char *copy = (char *)malloc(len ? len : 1);
    assert_non_null(copy);
    if (len > 0) memcpy(copy, text, len);
    return copy;
}

static void as_jsmn(const char *given, size_t len)
{
    static struct tokens walked;
    static jsmntok_t tokens[4000];
    jsmn_parser parser;
    char *text = tight(given, len);
    assert_true(psh_json_valid(text, len));
    jsmn_init(&parser);
    int count = jsmn_parse(&parser, text, len, tokens, ARRAY_LEN(tokens));
    assert_true(count > 0);
    walked.text = text;
    walked.count = 1; /* the whole, which the walk does not tell */
    walk_all(&walked, text, len);
    if (walked.count != (size_t)count)
        fail_msg("%d and %zu tokens: %.*s", count, walked.count, (int)len, text);
    for (int i = 1; i < count; i++) {
        assert_int_equal(walked.at[i].from, tokens[i].start);
        assert_int_equal(walked.at[i].to, tokens[i].end);
        assert_int_equal(walked.at[i].type, tokens[i].type);
    }
    free(text);
}

static void random_texts_as_jsmn_reads_them(void **state)
{
    (void)state;
    struct made m;
    memset(&m, 0, sizeof m);
    size_t containers = 0;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        const char *text = make_text(&m, i);
        as_jsmn(text, m.text.len);
        if (m.text.len > 20) containers++;
    }
    assert_true(containers > ROUNDS / 4);
    fake_bytes_free(&m.text);
}

static void small_texts(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{}", "[]", "[ ]", "{ }", " [ ] ", "[[]]", "[{}]", "{\"\":{}}", "{\"\":\"\"}", "[\"\"]",
        "[1]", "[1,2]", "[ 1 , 2 ]", "[-1.5e3,null,true]", "[\"]\"]", "[\"}\",\"{\"]",
        "[\"\\\"\"]", "[\"\\\\\"]", "[\"\\\\\",\"\\\"]\"]", "{\"a\":\"\\\\\\\"}\"}",
        "[[\"]\"],\"[\"]", "{\"a\":{\"}\":\"}\"},\"b\":[\"[\"]}", "[\"01234567\"]",
        "[\"0123456\",1]", "[[\"0123456\\\\\"],2]", "[[1,2,3,4,5,6,7,8,9],[[[[[[[[[[]]]]]]]]]]]",
        "[{\"a\":[{\"b\":[{\"c\":[]}]}]}]", "{\"a\":1,\"a\":2}", "[\"\\u0022]\"]",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) as_jsmn(texts[i], strlen(texts[i]));
}

static void scalars_are_not_entered(void **state)
{
    (void)state;
    static const char *const texts[] = {"0", " 1 ", "\"{}\"", " \"[]\"", "true", "null\n", "-1e3"};
    struct psh_json_walk walk;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        assert_false(psh_json_enter(&walk, texts[i], strlen(texts[i])));
}

static void every_length_and_place_of_a_bracket(void **state)
{
    (void)state;
    char text[64];
    for (size_t before = 0; before < 20; before++) {
        for (size_t after = 0; after < 20; after++) {
            size_t len = (size_t)snprintf(text, sizeof text, "[[%*s[%*s]],7]", (int)before, "",
                                          (int)after, "");
            as_jsmn(text, len);
            len = (size_t)snprintf(text, sizeof text, "[{%*s\"\"%*s:\"\"},7]", (int)before, "",
                                   (int)after, "");
            as_jsmn(text, len);
        }
    }
}

/* Bytes that differ in one bit from a bracket or a quote are none. */
static void flat8_finds_brackets_and_quotes_only(void **state)
{
    (void)state;
    char text[8];
    for (int byte = 1; byte < 128; byte++) {
        if (byte == 0x02) continue; /* a control character stands nowhere in JSON */
        bool special = strchr("\"{}[]", byte) != NULL;
        for (size_t place = 0; place < 8; place++) {
            memset(text, '0', sizeof text);
            text[place] = (char)byte;
            assert_int_equal(psh_json_flat8(text), special ? place : 8);
            memset(text + place, byte, 8 - place);
            assert_int_equal(psh_json_flat8(text), special ? place : 8);
        }
    }
}

static void nesting_to_the_limit(void **state)
{
    (void)state;
    char text[2 * PSH_JSON_DEPTH + 1];
    for (size_t depth = 1; depth <= PSH_JSON_DEPTH; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        as_jsmn(text, 2 * depth);
    }
}

/* ---- escapes --------------------------------------------------------------------------------- */

/* Beside the reader that copies; the place behind the text must stay as it was. */
static void unescaped(const char *inside, size_t len)
{
    char *quoted = (char *)malloc(len + 2), *copied = (char *)malloc(len + 10);
    char *text = tight(inside, len);
    size_t copied_len = 0;
    assert_true(quoted && copied);
    quoted[0] = '"';
    memcpy(quoted + 1, inside, len);
    quoted[len + 1] = '"';
    assert_true(psh_json_valid(quoted, len + 2));
    assert_ptr_equal(psh_json_string(quoted + 1, quoted + len + 2, copied, &copied_len),
                     quoted + len + 2);
    size_t new_len = psh_json_unescape(text, len);
    assert_int_equal(new_len, copied_len);
    assert_memory_equal(text, copied, new_len);
    free(text);
    free(copied);
    free(quoted);
}

static void escapes_are_undone_in_place(void **state)
{
    (void)state;
    struct made m;
    memset(&m, 0, sizeof m);
    for (uint64_t i = 0; i < ROUNDS; i++) {
        m.seed = i;
        m.text.len = 0;
        make_string(&m);
        unescaped(m.text.at + 1, m.text.len - 2);
    }
    fake_bytes_free(&m.text);
    assert_int_equal(psh_json_unescape(NULL, 0), 0);
    char text[] = "\\u0041\\uD83D\\uDE00\\\"x\\uD800";
    assert_int_equal(psh_json_unescape(text, strlen(text)), 10);
    assert_memory_equal(text, "A\xF0\x9F\x98\x80\"x\xEF\xBF\xBD", 10);
}

static void every_unicode_escape_in_place(void **state)
{
    (void)state;
    char text[40];
    for (unsigned code = 0; code < 0x10000; code++) {
        snprintf(text, sizeof text, "\\u%04x", code);
        unescaped(text, 6);
        snprintf(text, sizeof text, "\\u%04X\\\\", code);
        unescaped(text, 8);
        snprintf(text, sizeof text, "\\uD83D\\u%04x", code);
        unescaped(text, 12);
        snprintf(text, sizeof text, "\\u%04x\\uDE00", code);
        unescaped(text, 12);
    }
}

static bool is(const char *inside, const char *name)
{
    size_t len = strlen(inside);
    char *text = tight(inside, len);
    struct psh_value key;
    memset(&key, 0, sizeof key);
    key.at = text;
    key.len = len;
    key.string = true;
    bool same = psh_json_key_is(&key, name);
    free(text);
    return same;
}

static void keys_are_compared_with_their_escapes_undone(void **state)
{
    (void)state;
    assert_true(is("", "") && is("a", "a") && is("user_id", "user_id"));
    assert_true(is("\\u0061", "a") && is("user\\u005fid", "user_id") && is("\\\"", "\""));
    assert_true(is("a\\/b", "a/b") && is("\\\\u0061", "\\u0061"));
    assert_true(is("\xC3\xA9", "\xC3\xA9") && is("\\u00E9", "\xC3\xA9"));
    assert_true(is("\\uD83D\\uDE00", "\xF0\x9F\x98\x80") && is("\\uD800", "\xEF\xBF\xBD"));
    assert_false(is("", "a") || is("a", "") || is("a", "b") || is("ab", "a") || is("a", "ab"));
    assert_false(is("A", "a") || is("\\u0041", "a") || is("\\u0000", "") || is("a\\u0000", "a"));
    assert_false(is("\\u0061", "\\u0061") || is("\\n", "n"));
    assert_false(is("\\u00e9", "e") || is("\\u00e9", "\xC3"));
}

/* A walk that were quadratic would need minutes for this. */
static void long_texts(void **state)
{
    (void)state;
    fake_bytes text;
    struct psh_json_walk walk;
    struct psh_value key, value;
    memset(&text, 0, sizeof text);
    fake_bytes_add(&text, "[", 1);
    for (int i = 0; i < 200000; i++) fake_bytes_add(&text, "{\"a\":[\"]\"]},", 12);
    fake_bytes_add(&text, "0]", 2);
    assert_true(psh_json_valid(text.at, text.len));
    assert_true(psh_json_enter(&walk, text.at, text.len));
    uint32_t count = 0;
    while (psh_json_next(&walk, &key, &value)) count++;
    assert_int_equal(count, 200001);
    fake_bytes_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_texts_as_jsmn_reads_them),
        cmocka_unit_test(small_texts),
        cmocka_unit_test(scalars_are_not_entered),
        cmocka_unit_test(every_length_and_place_of_a_bracket),
        cmocka_unit_test(flat8_finds_brackets_and_quotes_only),
        cmocka_unit_test(nesting_to_the_limit),
        cmocka_unit_test(escapes_are_undone_in_place),
        cmocka_unit_test(every_unicode_escape_in_place),
        cmocka_unit_test(keys_are_compared_with_their_escapes_undone),
        cmocka_unit_test(long_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
