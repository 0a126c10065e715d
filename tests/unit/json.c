/* The json room. What is JSON is decided three times over: by the byte-wise check, by the reader of
   a message's outer object and by a plain recursive reader in this file; all three must agree. */
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

struct bytes {
    const char *at;
    size_t len;
};

#define T(text) {text, sizeof(text) - 1}

/* ---- texts that are no JSON ------------------------------------------------------------------ */

static const struct bytes invalid[] = {
    /* nothing, or no value */
    T(""), T(" "), T("\n"), T("\t\r\n "), T("\0"), T(","), T(":"), T("}"), T("]"), T(")"), T("("),
    T("/"), T("\\"), T("'"), T("`"), T("#"), T("$"), T("&"), T("*"), T("<"), T("="), T("?"), T("@"),
    T("_"), T("|"), T("~"), T("a"), T("undefined"), T("NaN"), T("Infinity"), T("-Infinity"),
    T("-NaN"), T("nan"), T("inf"), T("None"), T("nil"), T("\\u0031"),
    /* literals */
    T("t"), T("tr"), T("tru"), T("truee"), T("true1"), T("True"), T("TRUE"), T("tRue"), T("trve"),
    T("tru e"), T("true true"), T("truefalse"), T("f"), T("fa"), T("fal"), T("fals"), T("falsee"),
    T("False"), T("FALSE"), T("fals\0"), T("n"), T("nu"), T("nul"), T("nulll"), T("Null"),
    T("NULL"), T("null,"), T("null\0"), T("nul\"l\""), T("[tru]"), T("[nul]"), T("[fals]"),
    T("{\"a\":tru}"), T("{\"a\":True}"), T("t rue"), T("-true"), T("+true"), T("!true"),
    /* numbers */
    T("-"), T("+"), T("."), T("--1"), T("+1"), T("-+1"), T("1+"), T("1-"), T("1+1"), T("00"),
    T("01"), T("-00"), T("-01"), T("007"), T("0x0"), T("0x1F"), T("0b1"), T("0o7"), T("1_000"),
    T("1,000"), T("1 000"), T("1 2"), T("0."), T("1."), T("-1."), T(".0"), T(".5"), T("-.5"),
    T("0..1"), T("1.2.3"), T("1.-2"), T("1.+2"), T("0.e1"), T("1.e1"), T("1.E+2"), T("e"), T("E1"),
    T("e1"), T("1e"), T("1E"), T("1e+"), T("1e-"), T("1E+"), T("1e++1"), T("1e+-1"), T("1e--1"),
    T("1e1."), T("1e1.0"), T("1e1e1"), T("1ee1"), T("1eE1"), T("1e 1"), T("1 e1"), T("- 1"),
    T("0e"), T("0E"), T("0e+"), T("-0e"), T("0.1e"), T("0.1e+"), T("1f"), T("1L"), T("1.0f"),
    T("1a"), T("0a"), T("1.0a"), T("1e1a"), T("-a"), T("1\"\""), T("1[]"), T("1{}"), T("1:"),
    T("1\\"), T("1\0"), T("\x2D\xD9\xA1"), T("\xD9\xA1"), T("\xEF\xBC\x91"), T("1\xC2\xA0"),
    T("[-]"), T("[01]"), T("[1.]"), T("[1e]"), T("[.1]"), T("[+1]"), T("{\"a\":-}"),
    T("{\"a\":01}"), T("{\"a\":1.}"), T("{\"a\":1e+}"), T("{\"a\":0x1}"), T("[1 2]"), T("[0 1]"),
    T("[-1 -1]"), T("[1.5.5]"), T("[0-1]"), T("[1-1]"), T("#1"), T("1e\xEF\xBC\x91"),
    /* strings */
    T("\""), T("\"a"), T("\"\"\""), T("\"a\"b"), T("\"a\"\"b\""), T("'a'"), T("\"a'"), T("'a\""),
    T("`a`"), T("\"\\\""), T("\"\\\\\\\""), T("\"\n\""), T("\"\t\""), T("\"\r\""), T("\"\0\""),
    T("\"\x01\""), T("\"\x02\""), T("\"\x03\""), T("\"\x04\""), T("\"\x05\""), T("\"\x06\""),
    T("\"\x07\""), T("\"\x08\""), T("\"\x0B\""), T("\"\x0C\""), T("\"\x0E\""), T("\"\x0F\""),
    T("\"\x10\""), T("\"\x11\""), T("\"\x12\""), T("\"\x13\""), T("\"\x14\""), T("\"\x15\""),
    T("\"\x16\""), T("\"\x17\""), T("\"\x18\""), T("\"\x19\""), T("\"\x1A\""), T("\"\x1B\""),
    T("\"\x1C\""), T("\"\x1D\""), T("\"\x1E\""), T("\"\x1F\""), T("\"a\nb\""), T("\"abcdefgh\n\""),
    T("{\"\t\":1}"), T("{\"a\nb\":1}"), T("[\"\x1F\"]"), T("\"a\" \"b\""), T("[\"a\" \"b\"]"),
    T("[\"a]"), T("[\"a\",\"b]"), T("\"a\","), T("\"a\":1"), T("a\"b\""), T("u\"a\""), T("\"\"a"),
    /* escapes */
    T("\"\\"), T("\"\\a\""), T("\"\\c\""), T("\"\\d\""), T("\"\\e\""), T("\"\\g\""), T("\"\\v\""),
    T("\"\\x41\""), T("\"\\0\""), T("\"\\1\""), T("\"\\101\""), T("\"\\'\""), T("\"\\`\""),
    T("\"\\ \""), T("\"\\\n\""), T("\"\\\0\""), T("\"\\\x1F\""), T("\"\\B\""), T("\"\\F\""),
    T("\"\\N\""), T("\"\\R\""), T("\"\\T\""), T("\"\\U0041\""), T("\"\\z\""), T("\"\\?\""),
    T("\"\\[\""), T("\"\\{\""), T("\"\\\xC3\xA9\""), T("\"\\u\""), T("\"\\u0\""), T("\"\\u00\""),
    T("\"\\u004\""), T("\"\\u 041\""), T("\"\\u004 \""), T("\"\\uG041\""), T("\"\\u0g41\""),
    T("\"\\u00G1\""), T("\"\\u004G\""), T("\"\\u+041\""), T("\"\\u-041\""), T("\"\\u0x41\""),
    T("\"\\u{41}\""), T("\"\\u00\x10\x10\""), T("\"\\u004/\""), T("\"\\u004:\""), T("\"\\u004@\""),
    T("\"\\u004`\""), T("\"\\u\\u0041\""), T("\"\\u004\\n\""), T("\"\\uD83D\\u\""),
    T("\"\\uD83D\\uDE0\""), T("\"\\uD83D\\uDE0G\""), T("\"\\uD83D\\x\""), T("\"\\uD83D\\"),
    T("\"\\uD83D\\u"), T("\"\\u\xEF\xBC\x91\xEF\xBC\x91\""), T("{\"\\x\":1}"), T("{\"\\u00\":1}"),
    T("{\"a\":\"\\q\"}"), T("[\"\\\"]"), T("\\\"a\\\""), T("\\n"), T("[\\n]"),
    /* UTF-8 */
    T("\"\x80\""), T("\"\xBF\""), T("\"\xC0\x80\""), T("\"\xC0\xAF\""), T("\"\xC1\xBF\""),
    T("\"\xC2\""), T("\"\xC2\x22\""), T("\"\xC3\x28\""), T("\"\xE0\x80\xAF\""),
    T("\"\xE0\x9F\xBF\""), T("\"\xE2\x82\""), T("\"\xE2\x28\xA1\""), T("\"\xE2\x82\x28\""),
    T("\"\xED\xA0\x80\""), T("\"\xED\xBF\xBF\""), T("\"\xED\xA0\xBD\xED\xB8\x80\""),
    T("\"\xF0\x80\x80\xAF\""), T("\"\xF0\x8F\xBF\xBF\""), T("\"\xF0\x9F\x98\""),
    T("\"\xF0\x28\x8C\xBC\""), T("\"\xF0\x90\x28\xBC\""), T("\"\xF0\x90\x8C\x28\""),
    T("\"\xF4\x90\x80\x80\""), T("\"\xF5\x80\x80\x80\""), T("\"\xF8\x88\x80\x80\x80\""),
    T("\"\xFC\x84\x80\x80\x80\x80\""), T("\"\xFE\""), T("\"\xFF\""), T("\"\xC3\xA9\xA9\""),
    T("\"\xE2\x82\xAC\x80\""), T("\"abcdefg\xFF\""), T("\"abcdefgh\xFF\""), T("{\"\xFF\":1}"),
    T("[\"\xE9\"]"), T("\xFF"), T("\xC3\xA9"), T("\xE2\x82\xAC"), T("\xF0\x9F\x98\x80"),
    T("\xEF\xBB\xBF"), T("\xEF\xBB\xBF{}"), T("\xEF\xBB\xBF\"a\""), T("\xFE\xFF"),
    T("{}\xEF\xBB\xBF"),
    T("{\0\"\0a\0\"\0:\0" "1\0}"), T("\"\xC2\\n\""), T("\"\xE2\x82\\u0041\""),
    /* arrays */
    T("["), T("[["), T("[[]"), T("[]]"), T("[1"), T("[1,"), T("[1,]"), T("[,]"), T("[,1]"),
    T("[1,,2]"), T("[1,2,,]"), T("[1;2]"), T("[1:2]"), T("[:]"), T("[:1]"), T("[\"a\":1]"),
    T("[}"), T("[1}"), T("[{]"), T("[{]}"), T("[[}]"), T("[1,2"), T("[\"a\""), T("[\"a\","),
    T("[]["), T("[][]"), T("[] []"), T("[],"), T("[],[]"), T("[]1"), T("[]\"\""), T("[true"),
    T("[null,"), T("(1,2)"), T("<1>"), T("[1 , , 2]"), T("[ , ]"), T("[\"\""), T("[a]"),
    T("[1,a]"), T("[...]"), T("[1]]"), T("[[1],"), T("[\0]"), T("[1\0]"), T("[]\0"), T("[*]"),
    /* objects */
    T("{"), T("{{"), T("{}}"), T("{{}"), T("{]"), T("{,}"), T("{:}"), T("{1}"), T("{1:1}"),
    T("{a:1}"), T("{a}"), T("{'a':1}"), T("{\"a\"}"), T("{\"a\":}"), T("{\"a\":1"), T("{\"a\""),
    T("{\"a\":"), T("{\"a"), T("{\""), T("{\"a\":1,"), T("{\"a\":1,}"), T("{,\"a\":1}"),
    T("{\"a\":1,,\"b\":2}"), T("{\"a\":1 \"b\":2}"), T("{\"a\":1\"b\":2}"), T("{\"a\":1;\"b\":2}"),
    T("{\"a\":1,b:2}"), T("{\"a\":1,2}"), T("{\"a\":1,\"b\"}"), T("{\"a\":1,\"b\":}"),
    T("{\"a\"::1}"), T("{\"a\":1:2}"), T("{\"a\":\"b\":\"c\"}"), T("{\"a\" 1}"), T("{\"a\",1}"),
    T("{\"a\",\"b\"}"), T("{\"a\"=1}"), T("{\"a\"=>1}"), T("{\"a\":1]"), T("{\"a\":[}"),
    T("{\"a\":[}]"), T("{\"a\":{]"), T("{\"a\":{}"), T("{null:1}"), T("{true:1}"), T("{[]:1}"),
    T("{{}:1}"), T("{\"a\":1}}"), T("{\"a\":1}{"), T("{}{}"), T("{} {}"), T("{},"), T("{},{}"),
    T("{}a"), T("{}1"), T("{}\"\""), T("{}[]"), T("{}]"), T("{\"a\":1},"), T("{\"a\":a}"),
    T("{\"a\":'b'}"), T("{\"a\":\"b}"), T("{\"a\":undefined}"), T("{\"a\":NaN}"),
    T("{\"a\":Infinity}"), T("{\"\":}"), T("{\"\"1}"), T("{\"a\":1,\"a\"}"), T("{1,\"a\":1}"),
    T("{\"a\":1,{}}"), T("{\"a\":1,[]}"), T("{\"a\":1,null}"), T("\"a\":{}"), T("{\"a\":(1)}"),
    T("{\0}"), T("{}\0"), T("{\"a\":1}\0"), T("\0{}"), T("{\"a\"\0:1}"), T("{\"a\":\0" "1}"),
    /* white space that is none, comments, other languages */
    T("\x0B" "1"), T("\x0C" "1"), T("1\x0B"), T("1\x0C"), T("\xC2\xA0" "1"), T("\xC2\x85" "1"),
    T("\xE2\x80\xA8" "1"), T("\xE2\x80\xA9" "1"), T("\xE3\x80\x80" "1"), T("\xE2\x81\xA0[]"),
    T("[\x0C]"), T("[\x0B]"), T("{\x0C}"), T("{\xC2\xA0}"), T("[\xC2\xA0" "1]"), T("\x1E{}"),
    T("\x08" "1"), T("//\n1"), T("1//"), T("1 // one"), T("/**/1"), T("1/**/"), T("[/**/]"),
    T("{/**/}"), T("[1/*,*/]"), T("{\"a\":/**/1}"), T("#\n1"), T("[1] # one"), T("<!-- -->1"),
    T("a: 1"), T("- 1\n- 2"), T("<a/>"), T("f()"), T("new Date()"), T("/x/"), T("1;"), T("{};"),
    T("\"a\"+\"b\""), T("`${1}`"), T("0x"), T("%7B%7D"), T("&quot;a&quot;"), T("\\x7B\\x7D"),
    T("data: {}"), T("HTTP/1.1 200 OK"), T("42[\"a\"]"), T("{}\n{}"), T("1\n2"), T("[]\n,"),
};

/* ---- texts that are -------------------------------------------------------------------------- */

static const struct bytes valid[] = {
    /* literals */
    T("true"), T("false"), T("null"), T(" true"), T("false "), T("\tnull\n"), T("[true]"),
    T("[false,null]"), T("{\"a\":true}"), T("[true,false,null]"), T("{\"true\":false}"),
    /* numbers */
    T("0"), T("-0"), T("1"), T("-1"), T("9"), T("10"), T("19"), T("1234567890"), T("-9876543210"),
    T("0.0"), T("-0.0"), T("0.5"), T("1.5"), T("-1.25"), T("10.01"), T("0.000"), T("3.14159265358"),
    T("0e0"), T("0e1"), T("0E0"), T("0e+0"), T("0e-0"), T("-0e0"), T("-0E-0"), T("1e1"), T("1E1"),
    T("1e+1"), T("1e-1"), T("1E+1"), T("1E-1"), T("1e01"), T("1e00"), T("1e-007"), T("1.5e3"),
    T("1.5E+3"), T("-1.5e-3"), T("0.1e1"), T("0.0e0"), T("-0.0E+00"), T("1e999999"),
    T("-1e-999999"),
    T("123456789012345678901234567890"), T("0.123456789012345678901234567890"),
    T("18446744073709551616"), T("-9223372036854775809"), T(" 1"), T("1 "), T("\r\n1\r\n"),
    T("[0]"), T("[-0]"), T("[1,2]"), T("[1.5,-2e3]"), T("{\"a\":0}"), T("{\"a\":-1.5e+3}"),
    T("[0,0,0]"), T("[ 1 , 2 ]"), T("[1e1]"), T("{\"a\":1,\"b\":2}"),
    /* strings */
    T("\"\""), T("\"a\""), T("\" \""), T("\"'\""), T("\"/\""), T("\"//\""), T("\"/* */\""),
    T("\"[]{},:\""), T("\"\x7F\""), T("\"!\""), T("\"#\""), T("\"[\""), T("\"]\""),
    T("\"abcdefg\""), T("\"abcdefgh\""), T("\"abcdefghi\""), T("\"0123456789abcdef\""),
    T("\"true\""), T("\"1\""), T("[\"a\"]"), T("[\"a\",\"b\"]"), T("[\"\",\"\"]"), T(" \"a\" "),
    T("\"the quick brown fox jumps over the lazy dog, again and again and again\""),
    /* escapes */
    T("\"\\\"\""), T("\"\\\\\""), T("\"\\/\""), T("\"\\b\""), T("\"\\f\""), T("\"\\n\""),
    T("\"\\r\""), T("\"\\t\""), T("\"\\u0000\""), T("\"\\u0041\""), T("\"\\u00e9\""),
    T("\"\\u00E9\""), T("\"\\uABCD\""), T("\"\\uabcd\""), T("\"\\uFFFF\""), T("\"\\uFFFE\""),
    T("\"\\u0022\""), T("\"\\u005C\""), T("\"\\u001f\""), T("\"\\u007F\""), T("\"\\uD83D\\uDE00\""),
    T("\"\\ud83d\\ude00\""), T("\"\\uD800\""), T("\"\\uDFFF\""), T("\"\\uDC00\\uD800\""),
    T("\"\\uD800\\uD800\""), T("\"\\uD83Dx\""), T("\"\\uD83D\\n\""), T("\"\\uD83D\\u0041\""),
    T("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), T("\"\\\\\\\\\""), T("\"\\\\\\\"\""), T("\"\\\\u0041\""),
    T("\"\\u00411\""), T("\"a\\nb\""), T("\"abcdefg\\n\""), T("\"abcdefgh\\n\""), T("{\"\\n\":1}"),
    T("{\"\\u0061\":1}"), T("[\"\\\"\"]"), T("\"{\\\"a\\\":\\\"b\\\"}\""), T("\"\\u2028\\u2029\""),
    /* UTF-8 */
    T("\"\xC2\x80\""), T("\"\xC3\xA9\""), T("\"\xDF\xBF\""), T("\"\xE0\xA0\x80\""),
    T("\"\xE2\x82\xAC\""), T("\"\xED\x9F\xBF\""), T("\"\xEE\x80\x80\""), T("\"\xEF\xBF\xBD\""),
    T("\"\xEF\xBF\xBF\""), T("\"\xF0\x90\x80\x80\""), T("\"\xF0\x9F\x98\x80\""),
    T("\"\xF4\x8F\xBF\xBF\""), T("\"\xEF\xBB\xBF\""), T("\"\xE2\x80\xA8\""), T("\"\xC2\xA0\""),
    T("\"abcdefg\xC3\xA9\""), T("\"abcdef\xF0\x9F\x98\x80gh\""),
    T("{\"\xC3\xA9\":\"\xE2\x82\xAC\"}"),
    T("[\"\xD0\xBF\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82\",\"\xE4\xBD\xA0\xE5\xA5\xBD\"]"),
    /* arrays */
    T("[]"), T("[ ]"), T("[\n]"), T("[[]]"), T("[[],[]]"), T("[[[]]]"), T("[[1],[2,[3]]]"),
    T("[{}]"), T("[{},{}]"), T("[{},[],\"\",0,true,null]"), T("[ [ ] , [ ] ]"), T(" [] "),
    T("[1,\"a\",null,{\"b\":[]}]"), T("[1\n,2\t,\r3 ]"), T("[[[[[[[[1]]]]]]]]"),
    /* objects */
    T("{}"), T("{ }"), T("{\t\r\n}"), T("{\"\":\"\"}"), T("{\"\":0}"), T("{\"a\":\"b\"}"),
    T("{\"a\":{}}"), T("{\"a\":[]}"), T("{\"a\":null}"), T("{\"a\":1,\"a\":2}"),
    T("{ \"a\" : 1 , \"b\" : 2 }"), T("{\"a\":{\"b\":{\"c\":{}}}}"), T("{\"a\":[{\"b\":[{}]}]}"),
    T(" {\"a\":1}"), T("{\"a\":1}\n"), T("{\"a\":[1,2,3],\"b\":{\"c\":\"d\"}}"),
    T("{\"{\":\"}\"}"), T("{\"[\":\"]\"}"), T("{\"a\":\"\\\"\"}"), T("{\"a\"\n:\n1\n}"),
    T("{\"a\":1,\"b\":[true,{\"c\":null}],\"d\":\"e\"}"), T("{\"a\":-0}"), T("{\"a\":0 }"),
    T("\t{\r\n\t\"a\"\t:\t[ ]\t}\r\n"), T("{\"__proto__\":{}}"), T("{\"\\u0000\":0}"),
    /* as servers send them */
    T("{\"event\":\"pusher:ping\",\"data\":{}}"),
    T("{\"event\":\"pusher:error\",\"data\":{\"code\":null,\"message\":\"no\"}}"),
    T("{\"event\":\"e\",\"channel\":\"c\",\"data\":\"{\\\"a\\\":1}\"}"),
};

/* ---- a second reader, recursive and plain ---------------------------------------------------- */

struct ref_value {
    bool there, string;
    size_t from, to; /* the raw text */
    char text[6000];
    size_t len;
};

struct ref_message {
    struct ref_value event, channel, data, user_id;
};

struct ref {
    const unsigned char *first, *at, *end;
    int depth;
    struct ref_message *message;
};

static bool ref_is(struct ref *r, char byte)
{
    if (r->at == r->end || *r->at != (unsigned char)byte) return false;
    r->at++;
    return true;
}

static void ref_space(struct ref *r)
{
    while (ref_is(r, ' ') || ref_is(r, '\t') || ref_is(r, '\n') || ref_is(r, '\r')) continue;
}

static size_t ref_encode(uint32_t code, char *out)
{
    size_t size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned marks[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = size; i-- > 1; code >>= 6) out[i] = (char)(unsigned char)(0x80 | (code & 0x3F));
    out[0] = (char)(unsigned char)(marks[size] | code);
    return size;
}

/* One character as it stands: decoded, encoded again, and the same or it is not UTF-8. */
static bool ref_char(struct ref *r, char *out, size_t *len)
{
    uint32_t code = *r->at;
    size_t size = code < 0xC0 ? 1 : code < 0xE0 ? 2 : code < 0xF0 ? 3 : 4;
    if ((size_t)(r->end - r->at) < size) return false;
    if (size > 1) code &= 0x7Fu >> size;
    for (size_t i = 1; i < size; i++) code = code << 6 | (r->at[i] & 0x3F);
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000) || code < 0x20) return false;
    if (ref_encode(code, out + *len) != size || memcmp(out + *len, r->at, size) != 0) return false;
    r->at += size;
    *len += size;
    return true;
}

static bool ref_hex(struct ref *r, uint32_t *code)
{
    char digits[5] = {0}, *behind;
    if (r->end - r->at < 4) return false;
    memcpy(digits, r->at, 4);
    if (strspn(digits, "0123456789abcdefABCDEF") != 4) return false;
    *code = (uint32_t)strtoul(digits, &behind, 16);
    r->at += 4;
    return true;
}

static bool ref_escape(struct ref *r, char *out, size_t *len)
{
    static const char names[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
    uint32_t code, low;
    if (ref_is(r, 'u')) {
        if (!ref_hex(r, &code)) return false;
        const unsigned char *behind = r->at;
        bool pair = code >= 0xD800 && code < 0xDC00 && ref_is(r, '\\') && ref_is(r, 'u') &&
                    ref_hex(r, &low) && low >= 0xDC00 && low < 0xE000;
        if (pair) code = (code & 0x3FF) * 0x400 + (low & 0x3FF) + 0x10000;
        else r->at = behind;
        if (code >= 0xD800 && code < 0xE000) code = 0xFFFD;
        *len += ref_encode(code, out + *len);
        return true;
    }
    for (size_t i = 0; i < 8; i++) {
        if (!ref_is(r, names[i])) continue;
        out[(*len)++] = bytes[i];
        return true;
    }
    return false;
}

static bool ref_string(struct ref *r, char *out, size_t *len)
{
    *len = 0;
    if (!ref_is(r, '"')) return false;
    while (!ref_is(r, '"')) {
        if (r->at == r->end) return false;
        if (!(ref_is(r, '\\') ? ref_escape(r, out, len) : ref_char(r, out, len))) return false;
    }
    return true;
}

static bool ref_digits(struct ref *r)
{
    const unsigned char *from = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return r->at > from;
}

static bool ref_number(struct ref *r)
{
    (void)ref_is(r, '-');
    if (!ref_is(r, '0') && !ref_digits(r)) return false;
    if (ref_is(r, '.') && !ref_digits(r)) return false;
    if (!ref_is(r, 'e') && !ref_is(r, 'E')) return true;
    if (!ref_is(r, '+')) (void)ref_is(r, '-');
    return ref_digits(r);
}

static bool ref_word(struct ref *r, const char *word)
{
    for (; *word; word++)
        if (!ref_is(r, *word)) return false;
    return true;
}

static bool ref_value(struct ref *r, struct ref_value *value);

static struct ref_value *ref_member(struct ref *r, const char *key, size_t len)
{
    if (r->depth != 1 || !r->message) return NULL;
    if (len == 5 && memcmp(key, "event", len) == 0) return &r->message->event;
    if (len == 4 && memcmp(key, "data", len) == 0) return &r->message->data;
    if (len == 7 && memcmp(key, "channel", len) == 0) return &r->message->channel;
    return len == 7 && memcmp(key, "user_id", len) == 0 ? &r->message->user_id : NULL;
}

static bool ref_pair(struct ref *r)
{
    static char key[6000];
    size_t len;
    ref_space(r);
    if (!ref_string(r, key, &len)) return false;
    struct ref_value *member = ref_member(r, key, len);
    ref_space(r);
    return ref_is(r, ':') && ref_value(r, member);
}

static bool ref_list(struct ref *r, bool object)
{
    char last = object ? '}' : ']';
    bool good = true;
    if (++r->depth > 128) return false;
    ref_space(r);
    if (!ref_is(r, last)) {
        do good = object ? ref_pair(r) : ref_value(r, NULL);
        while (good && ref_is(r, ','));
        good = good && ref_is(r, last);
    }
    r->depth--;
    return good;
}

/* A value with the white space around it. */
static bool ref_value(struct ref *r, struct ref_value *value)
{
    static char unwanted[6000];
    size_t len = 0;
    ref_space(r);
    const unsigned char *from = r->at;
    if (r->at == r->end) return false;
    char byte = (char)*r->at;
    if (byte == '"' && !ref_string(r, value ? value->text : unwanted, &len)) return false;
    if (byte == '{' || byte == '[') r->at++;
    if ((byte == '{' || byte == '[') && !ref_list(r, byte == '{')) return false;
    if (byte == 't' && !ref_word(r, "true")) return false;
    if (byte == 'f' && !ref_word(r, "false")) return false;
    if (byte == 'n' && !ref_word(r, "null")) return false;
    if (!strchr("\"{[tfn", byte) && !ref_number(r)) return false;
    if (byte == '\0') return false;
    if (value) {
        value->there = true;
        value->string = byte == '"';
        value->from = (size_t)(from - r->first);
        value->to = (size_t)(r->at - r->first);
        value->len = value->string ? len : value->to - value->from;
        if (!value->string) memcpy(value->text, from, value->len);
    }
    ref_space(r);
    return true;
}

static bool ref_reads(const char *text, size_t len, struct ref_message *message)
{
    struct ref r;
    assert_true(len < 6000);
    r.first = r.at = (const unsigned char *)text;
    r.end = r.first + len;
    r.depth = 0;
    r.message = message;
    message->event.there = message->channel.there = false;
    message->data.there = message->user_id.there = false;
    message->event.string = false;
    return ref_value(&r, NULL) && r.at == r.end;
}

static bool ref_is_object(const char *text, size_t len)
{
    size_t i = 0;
    while (i < len && strchr(" \t\r\n", text[i]) && text[i]) i++;
    return i < len && text[i] == '{';
}

/* ---- comparing ------------------------------------------------------------------------------- */

static void show(const char *what, const char *text, size_t len)
{
    print_error("%s: ", what);
    for (size_t i = 0; i < len && i < 400; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte >= 0x20 && byte < 0x7F) print_error("%c", byte);
        else print_error("\\x%02X", byte);
    }
    print_error("\n");
}

/* A block of exactly this size, so that a byte too much is seen. */
static char *exactly(size_t size)
{
    char *block = (char *)malloc(size ? size : 1);
    assert_non_null(block);
    return block;
}

static bool valid_exactly(const char *text, size_t len)
{
    char *copy = exactly(len);
    if (len > 0) memcpy(copy, text, len);
    bool result = psh_json_valid(copy, len);
    free(copy);
    return result;
}

static bool same_value(const struct psh_value *value, const struct ref_value *expected,
                       const char *text)
{
    if (!expected->there) return value->raw_len == 0 && !value->string && value->len == 0;
    return value->string == expected->string && value->raw == text + expected->from &&
           value->raw_len == expected->to - expected->from && value->len == expected->len &&
           memcmp(value->at, expected->text, value->len) == 0 && value->at[value->len] == '\0';
}

static struct {
    size_t texts, accepted, valid_only, broken;
} tally;

/* text and out are exact blocks: out holds len + PSH_JSON_SLACK. */
static void compare_in(const char *text, size_t len, char *out)
{
    static struct ref_message expected;
    struct psh_envelope envelope;
    struct psh_codec_utf8_state utf8 = {0, 0, 0};
    bool good = ref_reads(text, len, &expected);
    tally.texts++;
    if (psh_json_valid(text, len) != good) {
        show("the check is wrong", text, len);
        fail();
    }
    const char *wrong = psh_json_envelope(text, len, out, &envelope);
    if (!good && (!psh_codec_utf8(&utf8, text, len) || utf8.need)) return; /* stopped earlier */
    const char *why = NULL;
    if (!good) why = "not JSON";
    else if (!ref_is_object(text, len)) why = "no object";
    else if (!expected.event.string) why = "without an event name";
    if ((why == NULL) != (wrong == NULL) || (why && strcmp(why, wrong) != 0)) {
        show("the envelope reader is wrong", text, len);
        fail_msg("%s instead of %s", wrong ? wrong : "accepted", why ? why : "accepted");
    }
    if (why) {
        if (good) tally.valid_only++;
        else tally.broken++;
        return;
    }
    tally.accepted++;
    if (same_value(&envelope.event, &expected.event, text) &&
        same_value(&envelope.channel, &expected.channel, text) &&
        same_value(&envelope.data, &expected.data, text) &&
        same_value(&envelope.user_id, &expected.user_id, text)) return;
    show("the envelope reader misread", text, len);
    fail();
}

static void compare(const char *text, size_t len)
{
    char *copy = exactly(len), *out = exactly(len + PSH_JSON_SLACK);
    if (len > 0) memcpy(copy, text, len);
    compare_in(copy, len, out);
    free(copy);
    free(out);
}

/* ---- the tables ------------------------------------------------------------------------------ */

static void no_invalid_text_is_accepted(void **state)
{
    (void)state;
    assert_true(ARRAY_LEN(invalid) >= 300);
    for (size_t i = 0; i < ARRAY_LEN(invalid); i++) {
        if (valid_exactly(invalid[i].at, invalid[i].len))
            show("accepted", invalid[i].at, invalid[i].len), fail();
        for (size_t j = 0; j < i; j++) /* each of them is another one */
            assert_false(invalid[i].len == invalid[j].len &&
                         memcmp(invalid[i].at, invalid[j].at, invalid[i].len) == 0);
    }
    assert_false(psh_json_valid(NULL, 0));
}

static void all_valid_texts_are(void **state)
{
    (void)state;
    assert_true(ARRAY_LEN(valid) >= 150);
    for (size_t i = 0; i < ARRAY_LEN(valid); i++) {
        if (!valid_exactly(valid[i].at, valid[i].len))
            show("refused", valid[i].at, valid[i].len), fail();
        for (size_t j = 0; j < i; j++)
            assert_false(valid[i].len == valid[j].len &&
                         memcmp(valid[i].at, valid[j].at, valid[i].len) == 0);
    }
}

/* Every text of the tables where a value may stand, and with something behind it. */
static void texts_inside_others(void **state)
{
    (void)state;
    static const char *const frames[][2] = {
        {"[", "]"}, {"[1,", "]"}, {"[", ",1]"}, {"{\"a\":", "}"}, {"{\"a\":", ",\"b\":1}"},
        {"\n ", "\t\r"}, {"[[{\"a\":[", "]}]]"}, {"{\"event\":", "}"},
        {"{\"event\":\"e\",\"data\":", "}"}, {"{\"data\":", ",\"event\":\"e\"}"},
        {"{\"event\":\"e\",\"other\":", "}"}, {"{\"event\":\"e\" , \"data\" : ", " } "},
        {"{\"event\":\"e\"}", ""}, {"", "{\"event\":\"e\"}"}, {"{\"event\":\"e\"", "}"},
        {"{", ":\"e\",\"event\":\"e\"}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(invalid) + ARRAY_LEN(valid); i++) {
        const struct bytes *piece = i < ARRAY_LEN(invalid) ? invalid + i
                                                           : valid + (i - ARRAY_LEN(invalid));
        compare(piece->at, piece->len);
        for (size_t j = 0; j < ARRAY_LEN(frames); j++) {
            char text[300];
            size_t before = strlen(frames[j][0]), after = strlen(frames[j][1]);
            assert_true(before + piece->len + after <= sizeof text);
            memcpy(text, frames[j][0], before);
            memcpy(text + before, piece->at, piece->len);
            memcpy(text + before + piece->len, frames[j][1], after);
            compare(text, before + piece->len + after);
        }
    }
}

/* No step may say yes to a text that cannot be finished any more, and none may say no too early. */
static void a_valid_text_is_viable_at_every_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(valid); i++) {
        struct psh_json_check check;
        memset(&check, 0, sizeof check);
        for (size_t j = 0; j < valid[i].len; j++)
            assert_true(psh_json_step(&check, (unsigned char)valid[i].at[j]));
        if (valid[i].at[valid[i].len - 1] >= '0' && valid[i].at[valid[i].len - 1] <= '9') continue;
        for (unsigned byte = 0; byte < 256; byte++) { /* behind it: white space, and that is all */
            struct psh_json_check copy = check;
            bool space = byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
            assert_int_equal(psh_json_step(&copy, (unsigned char)byte),
                             space || (check.state != PSH_JSON_AFTER && byte <= '9' &&
                                       byte >= '0'));
        }
    }
}

static size_t nested(char *text, size_t at, size_t depth, const char *open, const char *close)
{
    size_t before = strlen(open), after = strlen(close);
    for (size_t i = 0; i < depth; i++, at += before) memcpy(text + at, open, before);
    for (size_t i = 0; i < depth; i++, at += after) memcpy(text + at, close, after);
    return at;
}

static void nesting_ends_at_128(void **state)
{
    (void)state;
    static const char *const kinds[][3] = {
        {"[", "]"}, {"{\"\":", "}"}, {"[{\"a\":", "}]"}, {"[[],", "]"}, {"[{},", "]"},
    };
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        for (size_t depth = 1; depth <= 300; depth++) {
            char text[3000];
            size_t per = k == 2 ? 2 : 1, len = 0, extra = k >= 3;
            for (size_t i = 0; i < depth; i++)
                memcpy(text + len, kinds[k][0], strlen(kinds[k][0])), len += strlen(kinds[k][0]);
            text[len++] = '1';
            for (size_t i = 0; i < depth; i++)
                memcpy(text + len, kinds[k][1], strlen(kinds[k][1])), len += strlen(kinds[k][1]);
            assert_int_equal(valid_exactly(text, len), depth * per + extra <= 128);
            compare(text, len);
        }
    }
    /* one that was closed leaves room, and its kind is forgotten */
    char text[3000];
    size_t len = 0;
    text[len++] = '[';
    len = nested(text, len, 127, "[", "]");
    text[len++] = ',';
    len = nested(text, len, 126, "{\"\":", "");
    memcpy(text + len, "{}", 2), len += 2;
    len = nested(text, len, 126, "", "}");
    text[len++] = ']';
    assert_true(valid_exactly(text, len));
    for (size_t i = 0; i < len; i++) {
        char kept = text[i], other = kept == ']' ? '}' : kept == '}' ? ']' : kept;
        text[i] = other;
        assert_int_equal(valid_exactly(text, len), kept == other);
        text[i] = kept;
    }
}

/* All texts of up to five characters from those that matter. */
static void all_short_texts(void **state)
{
    (void)state;
    static const char alphabet[] = "{}[],:\"\\ 01-.e";
    static struct ref_message message;
    size_t base = sizeof alphabet - 1, good = 0;
    for (size_t len = 1, count = base; len <= 5; len++, count *= base) {
        for (size_t code = 0; code < count; code++) {
            char text[5];
            size_t rest = code;
            for (size_t i = 0; i < len; i++, rest /= base) text[i] = alphabet[rest % base];
            bool is_valid = psh_json_valid(text, len);
            if (is_valid != ref_reads(text, len, &message)) show("misjudged", text, len), fail();
            good += is_valid;
        }
    }
    assert_true(good > 2500);
}

/* ---- the envelope reader --------------------------------------------------------------------- */

static const struct bytes envelopes[] = {
    T("{\"event\":\"e\"}"),
    T("{\"event\":\"\"}"),
    T("{\"event\":\"pusher:ping\",\"data\":{}}"),
    T("{\"event\":\"pusher:pong\",\"data\":\"\"}"),
    T("{\"event\":\"my-event\",\"channel\":\"my-channel\",\"data\":\"{\\\"a\\\":1}\"}"),
    T("{\"channel\":\"c\",\"event\":\"e\",\"data\":\"plain\"}"),
    T("{\"data\":\"d\",\"user_id\":\"u\",\"channel\":\"presence-c\",\"event\":\"client-e\"}"),
    T(" {\n\t\"event\" : \"e\" ,\r\n \"data\" : [ 1 , 2 ] \n} \n"),
    T("{\"event\":\"e\",\"data\":null}"),
    T("{\"event\":\"e\",\"data\":true,\"channel\":false}"),
    T("{\"event\":\"e\",\"data\":-12.5e+3}"),
    T("{\"event\":\"e\",\"data\":0}"),
    T("{\"data\":0,\"event\":\"e\"}"),
    T("{\"event\":\"e\",\"data\":[]}"),
    T("{\"event\":\"e\",\"data\":{\"event\":1,\"data\":[{\"channel\":\"x\"}]}}"),
    T("{\"event\":\"e\",\"data\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}"),
    T("{\"event\":\"e\",\"data\":\"\\u0041\\u00e9\\u20AC\\uD83D\\uDE00\"}"),
    T("{\"event\":\"e\",\"data\":\"\\uD83D\\uDE0\\uDE00\\uD83D\"}"),
    T("{\"event\":\"e\",\"data\":\"\\u0000\"}"),
    T("{\"event\":\"\\u0065\",\"data\":\"x\"}"),
    T("{\"\\u0065vent\":\"e\",\"d\\u0061ta\":1}"),
    T("{\"event\":\"a\",\"event\":\"b\"}"),
    T("{\"event\":1,\"event\":\"b\"}"),
    T("{\"event\":\"b\",\"event\":1}"),
    T("{\"data\":\"a\",\"event\":\"e\",\"data\":[2]}"),
    T("{\"data\":[1],\"event\":\"e\",\"data\":\"b\"}"),
    T("{\"event\":null,\"data\":1}"),
    T("{\"Event\":\"e\",\"events\":\"f\",\"even\":\"g\"}"),
    T("{\"\":\"\",\"event\":\"e\",\"\":{}}"),
    T("{\"event\":\"e\",\"x\":{\"y\":[[],{}]},\"z\":\"\\n\",\"data\":1}"),
    T("{\"event\":\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\",\"channel\":\"\xD0\xBF\"}"),
    T("{\"event\":\"12345678\",\"data\":\"1234567\\n12345678\"}"),
    T("{\"event\":\"e\",\"data\":\"0123456789abcdef0123456789abcdef\"}"),
    T("{\"event\":\"pusher_internal:subscription_succeeded\",\"channel\":\"c\",\"data\":\"{}\"}"),
    T("{\"event\":\"pusher:error\",\"data\":{\"code\":4001,\"message\":\"no \\\"app\\\"\"}}"),
    T("{\"event\":\"e\",\"user_id\":12345,\"channel\":[\"c\"],\"data\":{}}"),
    T("{\"event\":\"e\",\"data\":\"tail\"}      "),
    T("{\"event\":\"e\",\"data\":9 ,\"user_id\":8}"),
    T("{\"user_id\":\"1\",\"user_id\":\"2\",\"event\":\"e\"}"),
    T("{}"),
    T("[{\"event\":\"e\"}]"),
    T("\"event\""),
};

static void envelopes_truncated_and_shortened(void **state)
{
    (void)state;
    memset(&tally, 0, sizeof tally);
    for (size_t i = 0; i < ARRAY_LEN(envelopes); i++) {
        const char *text = envelopes[i].at;
        size_t len = envelopes[i].len;
        for (size_t cut = 0; cut <= len; cut++) {
            compare(text, cut);
            compare(text + cut, len - cut);
        }
        for (size_t from = 0; from < len; from++) { /* one to four bytes taken out */
            for (size_t gone = 1; gone <= 4 && from + gone <= len; gone++) {
                char rest[200];
                memcpy(rest, text, from);
                memcpy(rest + from, text + from + gone, len - from - gone);
                compare(rest, len - gone);
            }
        }
    }
    assert_true(tally.accepted > 1000 && tally.valid_only > 500 && tally.broken > 5000);
}

static void envelopes_with_every_byte_changed(void **state)
{
    (void)state;
    memset(&tally, 0, sizeof tally);
    for (size_t i = 0; i < ARRAY_LEN(envelopes); i++) {
        size_t len = envelopes[i].len;
        char *text = exactly(len), *out = exactly(len + PSH_JSON_SLACK);
        memcpy(text, envelopes[i].at, len);
        for (size_t at = 0; at < len; at++) {
            for (unsigned byte = 0; byte < 256; byte++) {
                text[at] = (char)(unsigned char)byte;
                compare_in(text, len, out);
            }
            text[at] = envelopes[i].at[at];
        }
        free(text);
        free(out);
    }
    assert_true(tally.texts > 350000);
    assert_true(tally.accepted > 40000 && tally.valid_only > 10000 && tally.broken > 100000);
}

static void envelopes_with_a_byte_more(void **state)
{
    (void)state;
    static const char more[] = "{}[],:\"\\ 0e-+.tu\n\x01\xC3\xFF";
    memset(&tally, 0, sizeof tally);
    for (size_t i = 0; i < ARRAY_LEN(envelopes); i++) {
        size_t len = envelopes[i].len;
        for (size_t at = 0; at <= len; at++) {
            for (size_t m = 0; m < sizeof more; m++) { /* its NUL too */
                char text[200];
                memcpy(text, envelopes[i].at, at);
                text[at] = more[m];
                memcpy(text + at + 1, envelopes[i].at + at, len - at);
                compare(text, len + 1);
            }
        }
    }
    assert_true(tally.accepted > 5000 && tally.broken > 5000);
}

/* ---- random texts ---------------------------------------------------------------------------- */

struct sentence {
    uint64_t dice;
    size_t len;
    char text[4000];
};

static uint32_t roll(struct sentence *s, uint32_t sides)
{
    return (uint32_t)(fake_next_random(&s->dice) % sides);
}

static void say(struct sentence *s, const char *text)
{
    size_t len = strlen(text);
    assert_true(s->len + len <= sizeof s->text);
    memcpy(s->text + s->len, text, len);
    s->len += len;
}

static void say_one(struct sentence *s, const char *const *list, size_t count)
{
    say(s, list[roll(s, (uint32_t)count)]);
}

static void say_space(struct sentence *s)
{
    static const char *const spaces[] = {"", "", "", "", "", " ", "\n", "\t", "\r\n", "   "};
    say_one(s, spaces, ARRAY_LEN(spaces));
}

static void say_string(struct sentence *s)
{
    static const char *const pieces[] = {
        "a", "bc", "12345678", "seven77", "\\n", "\\\"", "\\\\", "\\/", "\\u0041", "\\u00E9",
        "\\u20ac", "\\uD83D\\uDE00", "\\uD83D", "\\uDE00", "\\u0000", "\xC3\xA9", "\xE2\x82\xAC",
        "\xF0\x9F\x98\x80", "{", "]", ":", ",", " ", "\x7F", "event", "\\t\\r\\b\\f",
    };
    say(s, "\"");
    for (uint32_t i = roll(s, 6); i > 0; i--) say_one(s, pieces, ARRAY_LEN(pieces));
    say(s, "\"");
}

static void say_value(struct sentence *s, uint32_t depth)
{
    static const char *const atoms[] = {
        "0", "-0", "1", "-1", "10", "1.5", "-0.25", "1e5", "2E-3", "0.0e+1", "true", "false",
        "null", "[]", "{}", "\"\"", "123456789012345678901234567890",
    };
    uint32_t kind = roll(s, depth < 4 && s->len < 1500 ? 6 : 3);
    say_space(s);
    if (kind == 0) say_one(s, atoms, ARRAY_LEN(atoms));
    if (kind == 1 || kind == 2) say_string(s);
    if (kind >= 3) {
        uint32_t count = roll(s, 4);
        say(s, kind == 3 ? "[" : "{");
        say_space(s);
        for (uint32_t i = 0; i < count; i++) {
            if (i > 0) say(s, ",");
            say_space(s);
            if (kind > 3) say_string(s), say_space(s), say(s, ":");
            say_value(s, depth + 1);
        }
        say(s, kind == 3 ? "]" : "}");
    }
    say_space(s);
}

static void say_message(struct sentence *s)
{
    static const char *const keys[] = {
        "\"event\"", "\"event\"", "\"event\"", "\"channel\"", "\"data\"", "\"data\"",
        "\"user_id\"", "\"e\\u0076ent\"", "\"\\u0064ata\"", "\"Data\"", "\"\"", "\"socket_id\"",
    };
    uint32_t count = roll(s, 7);
    s->len = 0;
    say_space(s);
    say(s, "{");
    say_space(s);
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) say(s, ",");
        say_space(s);
        bool event = i == 0 && roll(s, 2); /* or too few would have one */
        if (event) say(s, "\"event\"");
        else say_one(s, keys, ARRAY_LEN(keys));
        say_space(s);
        say(s, ":");
        if (event) say_string(s);
        else say_value(s, 1);
    }
    say(s, "}");
    say_space(s);
}

static void spoil(struct sentence *s)
{
    static const char bytes[] = "{}[],:\"\\ 0123-+.eEtfnu\n\x01\x1F\x7F\xC3\xA9\xFF";
    uint32_t at = roll(s, (uint32_t)s->len);
    switch (roll(s, 4)) {
    case 0: s->text[at] = bytes[roll(s, sizeof bytes)]; break;
    case 1: s->len = at; break;
    case 2:
        s->len--;
        memmove(s->text + at, s->text + at + 1, s->len - at);
        break;
    default:
        memmove(s->text + at + 1, s->text + at, s->len - at);
        s->text[at] = bytes[roll(s, sizeof bytes)];
        s->len++;
    }
}

static void random_messages_whole_and_spoilt(void **state)
{
    (void)state;
    static struct sentence s;
    memset(&tally, 0, sizeof tally);
    for (uint64_t seed = 0; seed < 40000; seed++) {
        s.dice = seed;
        say_message(&s);
        compare(s.text, s.len);
        for (uint32_t i = 0; i < 3 && s.len > 1; i++) {
            spoil(&s);
            compare(s.text, s.len);
        }
    }
    assert_true(tally.texts > 150000);
    assert_true(tally.accepted > 20000 && tally.valid_only > 10000 && tally.broken > 50000);
}

static void random_soup(void **state)
{
    (void)state;
    static const char *const pieces[] = {
        "{", "}", "[", "]", ",", ":", "\"", "\\", " ", "\n", "0", "1", "-", ".", "e", "true",
        "null", "\"a\"", "\"event\"", "\"event\":\"e\"", "\"data\":", "\"b\":1", "\\u", "D83D",
        "\xC3\xA9", "\x01", "12345678", "{\"event\":\"e\"", "{}", "[]", ",", "}", "\"data\":0",
    };
    static struct sentence s;
    memset(&tally, 0, sizeof tally);
    for (uint64_t seed = 0; seed < 100000; seed++) {
        s.dice = seed;
        s.len = 0;
        if (roll(&s, 2)) say(&s, "{\"event\":\"e\",");
        for (uint32_t i = roll(&s, 9); i > 0; i--) say_one(&s, pieces, ARRAY_LEN(pieces));
        if (roll(&s, 2)) say(&s, "}");
        compare(s.text, s.len);
    }
    assert_true(tally.accepted > 100 && tally.valid_only > 100 && tally.broken > 50000);
}

/* ---- meaning --------------------------------------------------------------------------------- */

static char meant[400];
static struct psh_envelope got;

static void read_as(const char *text, const char *problem)
{
    const char *wrong = psh_json_envelope(text, strlen(text), meant, &got);
    if (problem) assert_string_equal(wrong, problem);
    else assert_null(wrong);
}

static void is(const struct psh_value *value, const char *text, const char *raw)
{
    assert_string_equal(value->at, text);
    assert_int_equal(value->len, strlen(text));
    assert_int_equal(value->raw_len, strlen(raw));
    assert_memory_equal(value->raw, raw, value->raw_len);
    assert_int_equal(value->string, raw[0] == '"');
}

static void every_member_is_told(void **state)
{
    (void)state;
    read_as(" {\"event\" : \"e\", \"channel\":\"c\" ,\"data\":\"{\\\"a\\\":1}\","
            "\"user_id\":\"u\"} ", NULL);
    is(&got.event, "e", "\"e\"");
    is(&got.channel, "c", "\"c\"");
    is(&got.data, "{\"a\":1}", "\"{\\\"a\\\":1}\"");
    is(&got.user_id, "u", "\"u\"");
    read_as("{\"event\":\"e\"}", NULL);
    assert_int_equal(got.channel.raw_len + got.data.raw_len + got.user_id.raw_len, 0);
    assert_false(got.channel.string || got.data.string || got.user_id.string);
    read_as("{\"event\":\"\"}", NULL);
    is(&got.event, "", "\"\"");
}

/* Only the whole key is it, however it is written. */
static void keys_are_whole(void **state)
{
    (void)state;
    read_as("{\"event\":\"e\",\"data\\\"\":1,\"channel\\u0022s\":\"c\",\"user_id\\\",\":\"u\","
            "\"event\\\"\":\"f\"}", NULL);
    is(&got.event, "e", "\"e\"");
    assert_int_equal(got.channel.raw_len + got.data.raw_len + got.user_id.raw_len, 0);
    read_as("{\"\\u0065vent\":\"e\",\"dat\\u0061\":1}", NULL);
    is(&got.event, "e", "\"e\"");
    is(&got.data, "1", "1");
}

static void data_of_every_type(void **state)
{
    (void)state;
    static const char *const types[] = {
        "0", "-1.5e3", "true", "false", "null", "[]", "{}", "[1, 2,\t[3]]", "{\"a\" : \"\\u0041\"}",
    };
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        char text[100];
        snprintf(text, sizeof text, "{\"data\": %s ,\"event\":\"e\"}", types[i]);
        read_as(text, NULL);
        is(&got.data, types[i], types[i]);
        snprintf(text, sizeof text, "{\"event\":\"e\",\"data\":%s}", types[i]);
        read_as(text, NULL);
        is(&got.data, types[i], types[i]);
    }
}

static void escapes_are_undone(void **state)
{
    (void)state;
    static const char *const escapes[][2] = {
        {"\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t"},
        {"\\u0041\\u00e9\\u00E9\\u20AC", "A\xC3\xA9\xC3\xA9\xE2\x82\xAC"},
        {"\\u007f\\u0080\\u07FF\\u0800", "\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80"},
        {"\\uD7FF\\uE000\\uFFFF", "\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF"},
        {"\\uD800\\uDC00\\uDBFF\\uDFFF", "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"},
        {"\\ud83d\\ude00", "\xF0\x9F\x98\x80"},
        {"\\\\n\\\\u0041", "\\n\\u0041"},
        /* surrogates without their other half */
        {"\\uD83D", "\xEF\xBF\xBD"},
        {"\\uDE00", "\xEF\xBF\xBD"},
        {"\\uD83Dx", "\xEF\xBF\xBDx"},
        {"\\uD83D\\n", "\xEF\xBF\xBD\n"},
        {"\\uD83D\\u0041", "\xEF\xBF\xBD" "A"},
        {"\\uD83D\\uD83D\\uDE00", "\xEF\xBF\xBD\xF0\x9F\x98\x80"},
        {"\\uDE00\\uD83D", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\\uD83D\\uE000", "\xEF\xBF\xBD\xEE\x80\x80"},
        {"\\uD83D\\uDBFF", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\\uDC00\\uDC00", "\xEF\xBF\xBD\xEF\xBF\xBD"},
    };
    for (size_t i = 0; i < ARRAY_LEN(escapes); i++) {
        char text[300], raw[100];
        snprintf(raw, sizeof raw, "\"%s\"", escapes[i][0]);
        snprintf(text, sizeof text, "{\"event\":%s,\"data\":%s}", raw, raw);
        read_as(text, NULL);
        is(&got.event, escapes[i][1], raw);
        is(&got.data, escapes[i][1], raw);
    }
    read_as("{\"event\":\"e\",\"data\":\"a\\u0000b\"}", NULL);
    assert_int_equal(got.data.len, 3);
    assert_memory_equal(got.data.at, "a\0b", 4);
}

/* Every \uXXXX alone, and every pair at the edges. */
static void every_unicode_escape(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 0x10000; code++) {
        char text[64], expected[4];
        bool lone = code >= 0xD800 && code < 0xE000;
        size_t len = ref_encode(lone ? 0xFFFD : code, expected);
        const char *format = code & 1 ? "{\"event\":\"\\u%04x\"}" : "{\"event\":\"\\u%04X\"}";
        snprintf(text, sizeof text, format, (unsigned)code);
        read_as(text, NULL);
        assert_int_equal(got.event.len, len);
        assert_memory_equal(got.event.at, expected, len);
    }
    for (uint32_t code = 0x10000; code < 0x110000; code += 97) {
        char text[64], expected[5] = {0}, raw[20];
        ref_encode(code, expected);
        snprintf(raw, sizeof raw, "\"\\u%04X\\u%04x\"", (unsigned)(0xD7C0 + (code >> 10)),
                 (unsigned)(0xDC00 + (code & 0x3FF)));
        snprintf(text, sizeof text, "{\"event\":%s}", raw);
        read_as(text, NULL);
        is(&got.event, expected, raw);
    }
}

static void of_two_the_last_counts(void **state)
{
    (void)state;
    read_as("{\"event\":\"a\",\"event\":\"b\",\"data\":1,\"data\":\"two\"}", NULL);
    is(&got.event, "b", "\"b\"");
    is(&got.data, "two", "\"two\"");
    read_as("{\"data\":\"two\",\"event\":\"a\",\"data\":{\"x\":3}}", NULL);
    is(&got.data, "{\"x\":3}", "{\"x\":3}");
    read_as("{\"event\":\"a\",\"event\":null}", "without an event name");
    read_as("{\"event\":null,\"event\":\"a\"}", NULL);
    is(&got.event, "a", "\"a\"");
    read_as("{\"event\":\"a\",\"\\u0065\\u0076\\u0065\\u006e\\u0074\":\"b\"}", NULL);
    is(&got.event, "b", "\"b\"");
}

static void keys_are_compared_whole(void **state)
{
    (void)state;
    read_as("{\"Event\":\"e\"}", "without an event name");
    read_as("{\"event\\u0000\":\"e\"}", "without an event name");
    read_as("{\"even\":\"e\",\"events\":\"e\",\" event\":\"e\"}", "without an event name");
    read_as("{\"x\":{\"event\":\"e\"},\"y\":[\"event\",\"e\"]}", "without an event name");
    read_as("{\"event\":\"e\",\"channels\":\"c\",\"dat\":1,\"userid\":2,\"user_ids\":3}", NULL);
    assert_int_equal(got.channel.raw_len + got.data.raw_len + got.user_id.raw_len, 0);
}

static void what_is_wrong_is_told(void **state)
{
    (void)state;
    read_as("", "not JSON");
    read_as("nonsense", "not JSON");
    read_as("{\"event\":\"e\"", "not JSON");
    read_as("{\"event\":\"e\"}}", "not JSON");
    read_as("[1,2", "not JSON");
    read_as("[{\"event\":\"e\"}]", "no object");
    read_as(" null ", "no object");
    read_as("\"event\"", "no object");
    read_as("{}", "without an event name");
    read_as("{\"event\":{}}", "without an event name");
}

/* ---- strings in steps of eight --------------------------------------------------------------- */

static void plain8_counts_plain_bytes(void **state)
{
    (void)state;
    uint64_t dice = 11;
    for (uint32_t round = 0; round < 8 * 256 * 256 + 500000; round++) {
        unsigned char word[8];
        uint64_t random = fake_next_random(&dice);
        memcpy(word, "abcdefgh", 8);
        if (round < 8 * 256 * 256) { /* any byte at any place, any byte behind it */
            word[round % 8] = (unsigned char)(round / 8);
            if (round % 8 < 7) word[round % 8 + 1] = (unsigned char)(round / 8 / 256);
        } else {
            static const char edges[] = "\x1F\x20\x21\"#[\\]\x7F\x80\xFFz";
            memcpy(word, &random, 8);
            for (size_t i = 0; i < 8; i++)
                if (round & 1) word[i] = (unsigned char)edges[word[i] % 12];
        }
        size_t plain = 0;
        while (plain < 8 && word[plain] != '"' && word[plain] != '\\' && word[plain] >= 0x20)
            plain++;
        if (psh_json_plain8((const char *)word) != plain)
            show("miscounted", (const char *)word, 8), fail();
    }
}

static void special16_marks_special_bytes(void **state)
{
    (void)state;
    static const char edges[] = "\x1F\x20\x21\"#[\\]\x7F\x80\xFFz\0\xA2\xDC\x9F";
    uint64_t dice = 12;
    for (uint32_t round = 0; round < 500000; round++) {
        char block[16];
        uint32_t expected = 0;
        uint64_t random = fake_next_random(&dice), more = fake_next_random(&dice);
        memcpy(block, &random, 8);
        memcpy(block + 8, &more, 8);
        for (size_t i = 0; i < 16; i++) {
            if (round & 1) block[i] = edges[(unsigned char)block[i] % 16];
            if (block[i] == '"' || block[i] == '\\' || (unsigned char)block[i] < 0x20)
                expected |= UINT32_C(1) << i;
        }
        if (psh_json_special16(block) != expected) show("mismarked", block, 16), fail();
        if (expected) assert_true(expected >> psh_json_lowest(expected) & 1);
    }
}

/* Passing over plain text must not pass over anything else: the same verdict as byte by byte. */
static void valid_is_the_check_of_every_byte(void **state)
{
    (void)state;
    for (size_t len = 0; len <= 40; len++) {
        for (size_t place = 0; place < len; place++) {
            for (unsigned byte = 0; byte < 256; byte++) {
                struct psh_json_check check;
                char *text = exactly(len + 2);
                bool good = true;
                memset(text, 'x', len + 2);
                text[0] = text[len + 1] = '"';
                text[1 + place] = (char)byte;
                if (byte == 0xC3 && place + 1 < len) text[2 + place] = '\xA9';
                memset(&check, 0, sizeof check);
                for (size_t i = 0; good && i < len + 2; i++)
                    good = psh_json_step(&check, (unsigned char)text[i]);
                good = good && check.state == PSH_JSON_AFTER;
                if (psh_json_valid(text, len + 2) != good) show("judged", text, len + 2), fail();
                free(text);
            }
        }
    }
}

static void the_channel_is_guessed(void **state)
{
    (void)state;
    static const char *const texts[][2] = {
        {"{\"event\":\"e\",\"channel\":\"room\",\"data\":\"x\"}", "room"},
        {"{\"event\":\"e\",\"channel\":\"\",\"data\":1}", ""},
        {"{\"event\":\"e\",\"data\":\"{}\",\"channel\":\"room\"}", "room"},
        {"{\"event\":\"e\",\"channel\":\"room\"}", "room"},
        {"{\"event\":\"e\",\"channel\":\"room}", NULL}, {"{\"event\":\"e\",\"channel\":\"", NULL},
        {"{\"event\":\"e\",\"data\":\"x\"}", NULL}, {"{\"event\":\"e\"}", NULL},
        {"{\"channel\":\"room\",\"event\":\"e\"}", NULL}, {"{\"event\":\"", NULL}, {"", NULL},
        {"{\"event\":\"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        size_t len = strlen(texts[i][0]), name_len = 0;
        char *text = exactly(len);
        if (len > 0) memcpy(text, texts[i][0], len);
        const char *name = psh_json_guess_channel(text, len, &name_len);
        if (!name != !texts[i][1]) show("guessed at", text, len), fail();
        if (name) {
            assert_int_equal(name_len, strlen(texts[i][1]));
            assert_memory_equal(name, texts[i][1], name_len);
        }
        for (size_t cut = 0; cut < len; cut++) { /* whatever it says, it stays inside */
            char *part = exactly(cut);
            if (cut > 0) memcpy(part, text, cut);
            const char *guess = psh_json_guess_channel(part, cut, &name_len);
            if (guess) assert_true(guess >= part && guess + name_len <= part + cut);
            free(part);
        }
        free(text);
    }
}

/* Escapes side by side, across the edges of blocks, each string in a place of exactly its size. */
static void escapes_in_every_block(void **state)
{
    (void)state;
    static const char *const pieces[][2] = {{"x", "x"}, {"\\\"", "\""}, {"\\\\", "\\"}, {"\\/", "/"},
                                            {"\\n", "\n"}, {"\\u0041", "A"}, {"yz", "yz"}};
    uint64_t dice = 13;
    for (uint32_t round = 0; round < 200000; round++) {
        char text[256] = "", meaning[256] = "";
        size_t parts = fake_next_random(&dice) % 40, out_len = 0;
        for (size_t i = 0; i < parts; i++) {
            size_t piece = fake_next_random(&dice) % ARRAY_LEN(pieces);
            strcat(text, pieces[piece][0]);
            strcat(meaning, pieces[piece][1]);
        }
        strcat(text, "\"");
        size_t len = strlen(text);
        char *at = exactly(len), *out = exactly(len + 1);
        memcpy(at, text, len);
        assert_ptr_equal(psh_json_string(at, at + len, out, &out_len), at + len);
        assert_int_equal(out_len, strlen(meaning));
        assert_string_equal(out, meaning);
        assert_null(psh_json_string(at, at + len - 1, out, &out_len));
        free(at);
        free(out);
    }
}

/* len plain bytes and one special piece among them, at each alignment, ending with the block. */
static void string_at(size_t offset, size_t len, size_t place, const char *piece,
                      const char *meaning)
{
    size_t piece_len = strlen(piece), meaning_len = meaning ? strlen(meaning) : 0;
    size_t size = len + piece_len + 1, out_len = 12345;
    char *block = exactly(offset + size), *out = exactly(size + 8), *at = block + offset;
    char expected[64];
    for (size_t i = 0; i < len; i++) expected[i] = (char)('A' + i % 26);
    memcpy(at, expected, place);
    memcpy(at + place, piece, piece_len);
    memcpy(at + place + piece_len, expected + place, len - place);
    at[size - 1] = '"';
    memmove(expected + place + meaning_len, expected + place, len - place);
    memcpy(expected + place, meaning ? meaning : "", meaning_len);
    const char *behind = psh_json_string(at, at + size, out, &out_len);
    if (!meaning) {
        assert_null(behind);
    } else {
        assert_ptr_equal(behind, at + size);
        assert_int_equal(out_len, len + meaning_len);
        assert_memory_equal(out, expected, out_len);
        assert_int_equal(out[out_len], '\0');
        assert_null(psh_json_string(at, at + size - 1, out, &out_len)); /* without its end */
    }
    free(block);
    free(out);
}

static void strings_of_all_lengths_and_alignments(void **state)
{
    (void)state;
    static const char *const pieces[][2] = {
        {"", ""}, {"x", "x"}, {" ", " "}, {"!", "!"}, {"#", "#"}, {"[", "["}, {"]", "]"},
        {"\x7F", "\x7F"}, {"\xC3\xA9", "\xC3\xA9"}, {"\xF4\x8F\xBF\xBF", "\xF4\x8F\xBF\xBF"},
        {"\\n", "\n"}, {"\\\"", "\""}, {"\\\\", "\\"}, {"\\/", "/"}, {"\\u0041", "A"},
        {"\\u20ac", "\xE2\x82\xAC"}, {"\\uD83D\\uDE00", "\xF0\x9F\x98\x80"},
        {"\\uD83D", "\xEF\xBF\xBD"}, {"\\n\\n", "\n\n"}, {"\\\"\\\\\\/", "\"\\/"},
        {"\x01", NULL}, {"\x1F", NULL}, {"\n", NULL}, {"\\x", NULL}, {"\\u00g0", NULL},
        {"\\u00 ", NULL}, {"\\\x80", NULL}, {"\\uD83D\\u0z", NULL},
    };
    for (size_t offset = 0; offset < 8; offset++)
        for (size_t len = 0; len <= 40; len++)
            for (size_t place = 0; place <= len; place++)
                for (size_t i = 0; i < ARRAY_LEN(pieces); i++)
                    string_at(offset, len, place, pieces[i][0], pieces[i][1]);
}

static void a_string_ends_at_its_quote(void **state)
{
    (void)state;
    for (size_t len = 0; len <= 40; len++) {
        for (size_t behind = 0; behind <= 20; behind++) {
            char *text = exactly(len + 1 + behind), *out = exactly(len + 1 + behind + 8);
            size_t out_len = 0;
            memset(text, 'x', len);
            text[len] = '"';
            memset(text + len + 1, behind % 2 ? '"' : '\n', behind);
            assert_ptr_equal(psh_json_string(text, text + len + 1 + behind, out, &out_len),
                             text + len + 1);
            assert_int_equal(out_len, len);
            assert_int_equal(strlen(out), len);
            text[len / 2] = '\0'; /* a NUL is a control character */
            if (len > 0) assert_null(psh_json_string(text, text + len + 1, out, &out_len));
            free(text);
            free(out);
        }
    }
}

/* ---- small objects --------------------------------------------------------------------------- */

static struct psh_json_object object;

static bool parse(const char *text)
{
    return psh_json_parse(&object, text, strlen(text));
}

static void value_is(const char *key, const char *text, bool string)
{
    struct psh_value value = psh_json_get(&object, key);
    assert_int_equal(value.len, strlen(text));
    if (value.len > 0) assert_memory_equal(value.at, text, value.len);
    assert_int_equal(value.string, string);
}

static void members_are_found(void **state)
{
    (void)state;
    assert_true(parse(" { \"a\" : 1 , \"b\":\"two\",\"c\":[3,[4]],\"d\":{\"a\":5,\"z\":{}},"
                      "\"e\":null,\"f\":true,\"g\":\"\",\"\":\"empty\",\"h\":\"esc\\n\" } "));
    value_is("a", "1", false);
    value_is("b", "two", true);
    value_is("c", "[3,[4]]", false);
    value_is("d", "{\"a\":5,\"z\":{}}", false);
    value_is("e", "null", false);
    value_is("f", "true", false);
    value_is("g", "", true);
    value_is("", "empty", true);
    value_is("h", "esc\\n", true);
    value_is("z", "", false); /* only inside of d */
    value_is("two", "", false);
    value_is("A", "", false);
    value_is("ab", "", false);
    assert_true(parse("{}"));
    value_is("a", "", false);
    assert_true(parse("{\"a\":{\"b\":{\"c\":[{\"x\":1},{\"x\":2}]}},\"x\":3,\"x\":\"4\"}"));
    value_is("x", "4", true); /* the last of two */
    value_is("b", "", false);
    assert_true(parse("{\"x\":[\"y\",\"z\"],\"y\":[],\"q\":[[[[]]]],\"z\":1}"));
    value_is("y", "[]", false);
    value_is("z", "1", false);
}

static void what_is_no_object_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"", " ", "1", "\"a\"", "null", "[]", "[{}]", "{", "{]",
                                        "{\"a\":1,}", "{a:1}", "{\"a\" 1}", "{}{}", "{\"a\":01}"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) assert_false(parse(texts[i]));
    for (size_t i = 0; i < ARRAY_LEN(invalid); i++)
        assert_false(psh_json_parse(&object, invalid[i].at, invalid[i].len));
    for (size_t i = 0; i < ARRAY_LEN(valid); i++) {
        bool is_object = ref_is_object(valid[i].at, valid[i].len);
        assert_int_equal(psh_json_parse(&object, valid[i].at, valid[i].len), is_object);
    }
}

static void too_many_tokens_are_refused(void **state)
{
    (void)state;
    for (unsigned count = 0; count <= 100; count++) { /* an object, "a", an array of count */
        char text[400];
        size_t len = (size_t)snprintf(text, sizeof text, "{\"a\":[");
        for (unsigned i = 0; i < count; i++)
            len += (size_t)snprintf(text + len, sizeof text - len, "%s1", i ? "," : "");
        snprintf(text + len, sizeof text - len, "]}");
        assert_int_equal(parse(text), 3 + count <= PSH_JSON_TOKENS);
        struct psh_value value = psh_json_get(&object, "a"); /* harmless after a failure too */
        assert_int_equal(value.len > 0, 3 + count <= PSH_JSON_TOKENS);
    }
    assert_false(parse("[]"));
}

static void a_members_text_is_copied_and_cut(void **state)
{
    (void)state;
    static const char whole[] = "q\"\\/\b\f\n\r\t A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"
                                "\xEF\xBF\xBD\xE2\x82\xAC.";
    assert_true(parse("{\"a\":\"q\\\"\\\\\\/\\b\\f\\n\\r\\t \\u0041\\u00e9\xE2\x82\xAC"
                      "\\uD83D\\uDE00\\uD83D\\u20AC.\",\"n\":1,\"o\":{},\"s\":\"\"}"));
    for (size_t cap = 1; cap <= sizeof whole + 3; cap++) {
        char *out = exactly(cap);
        size_t kept = sizeof whole - 1 < cap - 1 ? sizeof whole - 1 : cap - 1;
        while (kept < sizeof whole - 1 && ((unsigned char)whole[kept] & 0xC0) == 0x80) kept--;
        memset(out, '#', cap);
        assert_true(psh_json_get_text(&object, "a", out, cap));
        assert_int_equal(strlen(out), kept);
        assert_memory_equal(out, whole, kept);
        free(out);
    }
    char out[4] = "###";
    assert_true(psh_json_get_text(&object, "s", out, sizeof out));
    assert_string_equal(out, "");
    static const char *const none[] = {"n", "o", "missing"};
    for (size_t i = 0; i < ARRAY_LEN(none); i++) {
        memcpy(out, "###", 4);
        assert_false(psh_json_get_text(&object, none[i], out, sizeof out));
        assert_string_equal(out, "");
    }
}

static uint32_t number_of(const char *value)
{
    char text[100];
    snprintf(text, sizeof text, "{\"x\":0,\"n\":%s,\"y\":1}", value);
    assert_true(parse(text));
    return psh_json_get_uint(&object, "n", 77);
}

static void numbers_are_read(void **state)
{
    (void)state;
    static const uint32_t numbers[] = {0, 1, 9, 10, 120, 4001, 65535, 65536, 999999999, 1000000000,
                                       2147483648u, 4294967280u, 4294967289u};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        char text[40];
        snprintf(text, sizeof text, "%lu", (unsigned long)numbers[i]);
        assert_int_equal(number_of(text), numbers[i]);
        snprintf(text, sizeof text, "\"%lu\"", (unsigned long)numbers[i]);
        assert_int_equal(number_of(text), numbers[i]);
    }
    static const char *const none[] = {"null", "true", "[1]", "{\"n\":1}", "-1", "-0", "\"\"",
                                       "\"-1\"", "\"x\"", "\" 1\"", "\"\\u0031\"", "[]", "{}"};
    for (size_t i = 0; i < ARRAY_LEN(none); i++) assert_int_equal(number_of(none[i]), 77);
    static const char *const fractions[] = {"12.0", "12.999", "\"12.5\"", "12.00001"};
    for (size_t i = 0; i < ARRAY_LEN(fractions); i++)
        assert_int_equal(number_of(fractions[i]), 12);
    static const char *const exponents[] = {"1e3", "1E3", "1.5e+3", "12e-1", "\"1e3\"", "\"1E3\"",
                                            "0e0"};
    for (size_t i = 0; i < ARRAY_LEN(exponents); i++)
        assert_int_equal(number_of(exponents[i]), 77);
    assert_true(parse("{\"m\":1}"));
    assert_int_equal(psh_json_get_uint(&object, "n", 77), 77);
}

static void numbers_too_large_are_none(void **state)
{
    (void)state;
    static const char *const large[] = {"4294967296", "4294967297", "4294967300", "9999999999",
                                        "42949672950", "18446744073709551616",
                                        "1000000000000000000000000000000000000000"};
    for (size_t i = 0; i < ARRAY_LEN(large); i++) {
        char text[60];
        snprintf(text, sizeof text, "\"%s\"", large[i]);
        assert_int_equal(number_of(large[i]), 77);
        assert_int_equal(number_of(text), 77);
    }
}

/* Random objects: each member is what the envelope reader and this file's own reader make of it. */
static void random_objects(void **state)
{
    (void)state;
    static struct sentence s;
    static struct ref_message expected;
    size_t parsed = 0, refused = 0;
    for (uint64_t seed = 0; seed < 30000; seed++) {
        s.dice = seed ^ 0x5555;
        say_message(&s);
        if (roll(&s, 4) == 0) spoil(&s);
        char *copy = exactly(s.len);
        memcpy(copy, s.text, s.len);
        bool good = ref_reads(copy, s.len, &expected) && ref_is_object(copy, s.len);
        if (!psh_json_parse(&object, copy, s.len)) {
            if (good) assert_int_equal(object.count, JSMN_ERROR_NOMEM);
            refused++;
        } else {
            assert_true(good);
            bool escaped = false; /* a key in escapes is another one to psh_json_get */
            for (size_t i = 0; i + 4 < s.len; i++)
                if (memcmp(copy + i, "e\\u00", 5) == 0 || memcmp(copy + i, "\"\\u00", 5) == 0)
                    escaped = true;
            struct psh_value value = psh_json_get(&object, "data");
            if (!escaped) {
                size_t quote = expected.data.there && expected.data.string;
                size_t len = expected.data.there
                                 ? expected.data.to - expected.data.from - 2 * quote : 0;
                assert_int_equal(value.string, quote);
                assert_int_equal(value.len, len);
                if (len) assert_ptr_equal(value.at, copy + expected.data.from + quote);
                parsed++;
            }
        }
        free(copy);
    }
    assert_true(parsed > 5000 && refused > 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_invalid_text_is_accepted),
        cmocka_unit_test(all_valid_texts_are),
        cmocka_unit_test(texts_inside_others),
        cmocka_unit_test(a_valid_text_is_viable_at_every_byte),
        cmocka_unit_test(nesting_ends_at_128),
        cmocka_unit_test(all_short_texts),
        cmocka_unit_test(envelopes_truncated_and_shortened),
        cmocka_unit_test(envelopes_with_every_byte_changed),
        cmocka_unit_test(envelopes_with_a_byte_more),
        cmocka_unit_test(random_messages_whole_and_spoilt),
        cmocka_unit_test(random_soup),
        cmocka_unit_test(every_member_is_told),
        cmocka_unit_test(keys_are_whole),
        cmocka_unit_test(data_of_every_type),
        cmocka_unit_test(escapes_are_undone),
        cmocka_unit_test(every_unicode_escape),
        cmocka_unit_test(of_two_the_last_counts),
        cmocka_unit_test(keys_are_compared_whole),
        cmocka_unit_test(what_is_wrong_is_told),
        cmocka_unit_test(plain8_counts_plain_bytes),
        cmocka_unit_test(valid_is_the_check_of_every_byte),
        cmocka_unit_test(the_channel_is_guessed),
        cmocka_unit_test(special16_marks_special_bytes), cmocka_unit_test(escapes_in_every_block),
        cmocka_unit_test(strings_of_all_lengths_and_alignments),
        cmocka_unit_test(a_string_ends_at_its_quote),
        cmocka_unit_test(members_are_found),
        cmocka_unit_test(what_is_no_object_is_refused),
        cmocka_unit_test(too_many_tokens_are_refused),
        cmocka_unit_test(a_members_text_is_copied_and_cut),
        cmocka_unit_test(numbers_are_read),
        cmocka_unit_test(numbers_too_large_are_none),
        cmocka_unit_test(random_objects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
