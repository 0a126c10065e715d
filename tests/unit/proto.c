/* The proto room: Pusher messages and what they mean, in every shape that servers send. */
#define PUSHER_IMPLEMENTATION
#include "pusher.h"

#include "fake.h"

static enum psh_kind kind_of(const char *name, size_t len)
{
    struct psh_value value;
    char *exact = (char *)malloc(len ? len : 1); /* so that reading over the end is seen */
    if (!exact) abort();
    if (len > 0) memcpy(exact, name, len);
    memset(&value, 0, sizeof value);
    value.at = exact;
    value.len = len;
    value.string = true;
    enum psh_kind kind = psh_proto_kind(&value);
    free(exact);
    return kind;
}

static const struct known { const char *name; enum psh_kind kind; } known[] = {
    {"pusher:connection_established", PSH_KIND_ESTABLISHED},
    {"pusher:error", PSH_KIND_ERROR},
    {"pusher:ping", PSH_KIND_PING},
    {"pusher:pong", PSH_KIND_PONG},
    {"pusher:subscription_error", PSH_KIND_REFUSED},
    {"pusher_internal:subscription_succeeded", PSH_KIND_SUBSCRIBED},
    {"pusher_internal:subscription_error", PSH_KIND_REFUSED},
    {"pusher_internal:subscription_count", PSH_KIND_COUNT},
    {"pusher_internal:member_added", PSH_KIND_JOINED},
    {"pusher_internal:member_removed", PSH_KIND_LEFT},
    {"pusher_internal:watchlist_events", PSH_KIND_WATCHLIST},
    {"pusher:cache_miss", PSH_KIND_MISS},
    {"pusher:signin_success", PSH_KIND_SIGNED_IN},
};

/* What a changed name must be: the internal ones stay secret, all others are the application's. */
static enum psh_kind otherwise(const char *name, size_t len)
{
    static const char inner[] = "pusher_internal:";
    bool internal = len >= sizeof inner - 1 && memcmp(name, inner, sizeof inner - 1) == 0;
    return internal ? PSH_KIND_INTERNAL : PSH_KIND_EVENT;
}

static void kinds_by_name(void **state)
{
    (void)state;
    static const struct known others[] = {
        {"", PSH_KIND_EVENT}, {"message", PSH_KIND_EVENT}, {"client-typing", PSH_KIND_EVENT},
        {"App\\Events\\X", PSH_KIND_EVENT}, {"pusher", PSH_KIND_EVENT},
        {"pusher:", PSH_KIND_EVENT}, {"pusher:unknown", PSH_KIND_EVENT},
        {"pusher:subscription_succeeded", PSH_KIND_EVENT},
        {"pusher:subscription_count", PSH_KIND_EVENT},
        {"pusher_internal", PSH_KIND_EVENT}, {"pusher_internal:", PSH_KIND_INTERNAL},
        {"pusher_internal:error", PSH_KIND_INTERNAL},
        {"pusher_internal:ping", PSH_KIND_INTERNAL},
        {"pusher_internal:connection_established", PSH_KIND_INTERNAL},
        {"error", PSH_KIND_EVENT}, {"ping", PSH_KIND_EVENT},
        {"subscription_succeeded", PSH_KIND_EVENT},
        {" pusher:ping", PSH_KIND_EVENT}, {"Pusher:ping", PSH_KIND_EVENT},
        {"pusher:PING", PSH_KIND_EVENT}, {"pusher:ping ", PSH_KIND_EVENT},
        {"pusher::ping", PSH_KIND_EVENT}, {"pusher_internal:pusher:ping", PSH_KIND_INTERNAL},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        assert_int_equal(kind_of(known[i].name, strlen(known[i].name)), known[i].kind);
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (kind_of(others[i].name, strlen(others[i].name)) != others[i].kind)
            fail_msg("%s", others[i].name);
}

static void a_near_miss_is_another_event(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        size_t len = strlen(known[i].name);
        char name[64];
        for (size_t cut = 0; cut < len; cut++) /* every prefix */
            assert_int_equal(kind_of(known[i].name, cut), otherwise(known[i].name, cut));
        for (size_t at = 0; at < len; at++) { /* every byte changed */
            for (int bit = 0; bit < 8; bit++) {
                memcpy(name, known[i].name, len);
                name[at] = (char)(name[at] ^ (1 << bit));
                assert_int_equal(kind_of(name, len), otherwise(name, len));
            }
        }
        memcpy(name, known[i].name, len);
        for (int byte = 0; byte < 256; byte++) { /* one byte more, NUL among them */
            name[len] = (char)byte;
            assert_int_equal(kind_of(name, len + 1), otherwise(name, len + 1));
        }
    }
}

static void handlers_hear_the_names_of_pusher_js(void **state)
{
    (void)state;
    static const char own[] = "own";
    assert_string_equal(psh_proto_public_name(PSH_KIND_SUBSCRIBED, own),
                        "pusher:subscription_succeeded");
    assert_string_equal(psh_proto_public_name(PSH_KIND_REFUSED, own), "pusher:subscription_error");
    assert_string_equal(psh_proto_public_name(PSH_KIND_COUNT, own), "pusher:subscription_count");
    assert_ptr_equal(psh_proto_public_name(PSH_KIND_EVENT, own), own);
    assert_ptr_equal(psh_proto_public_name(PSH_KIND_ERROR, own), own);
}

/* ---- data in every shape -------------------------------------------------------------------- */

/* The data of {"event":"e","data":<data>}, as the envelope reader gives it. */
struct message {
    char text[2048], out[2048 + PSH_JSON_SLACK];
    struct psh_envelope envelope;
};

static const struct psh_value *read_data(struct message *message, const char *data)
{
    struct psh_text text;
    psh_env_text(&text, message->text, sizeof message->text);
    psh_env_add(&text, "{\"event\":\"e\"");
    if (data) psh_env_add(&text, ",\"data\":");
    if (data) psh_env_add(&text, data);
    psh_env_add(&text, "}");
    assert_false(text.cut);
    assert_null(psh_json_envelope(text.at, text.len, message->out, &message->envelope));
    return &message->envelope.data;
}

/* The same JSON inside a JSON string. */
static void quote(const char *json, char *out)
{
    *out++ = '"';
    for (; *json; json++) {
        if (*json == '"' || *json == '\\') *out++ = '\\';
        *out++ = *json;
    }
    *out++ = '"';
    *out = '\0';
}

static void established_in_every_shape(void **state)
{
    (void)state;
    static const struct {
        const char *data, *socket_id; /* NULL: refused */
        uint32_t activity_ms;
    } cases[] = {
        {"{\"socket_id\":\"123.456\",\"activity_timeout\":120}", "123.456", 120000},
        {"{\"activity_timeout\":30,\"socket_id\":\"1.2\"}", "1.2", 30000},
        {" { \"socket_id\" : \"1.2\" , \"activity_timeout\" : 30 } ", "1.2", 30000},
        {"{\"socket_id\":\"1.2\"}", "1.2", 0},
        {"{\"socket_id\":\"1.2\",\"activity_timeout\":null}", "1.2", 0},
        {"{\"socket_id\":\"1.2\",\"activity_timeout\":\"30\"}", "1.2", 30000},
        {"{\"socket_id\":\"1.2\",\"activity_timeout\":0}", "1.2", 0},
        {"{\"socket_id\":\"1.2\",\"activity_timeout\":-5}", "1.2", 0},
        {"{\"socket_id\":\"1.2\",\"activity_timeout\":29.9}", "1.2", 29000},
        {"{\"socket_id\":\"1.2\",\"activity_timeout\":4294967}", "1.2", 4294967000u},
        {"{\"socket_id\":\"1.2\",\"activity_timeout\":4294968}", "1.2", 0},
        {"{\"socket_id\":\"1.2\",\"activity_timeout\":99999999999999999999}", "1.2", 0},
        {"{\"socket_id\":\"1.2\",\"activity_timeout\":[30]}", "1.2", 0},
        {"{\"socket_id\":\"1.2\",\"activity_timeout\":{}}", "1.2", 0},
        {"{\"socket_id\":\"1.2\",\"x\":{\"socket_id\":\"9.9\",\"activity_timeout\":1}}", "1.2", 0},
        {"{\"x\":{\"socket_id\":\"9.9\"},\"socket_id\":\"1.2\"}", "1.2", 0},
        {"{\"x\":[{\"socket_id\":\"9.9\"}],\"socket_id\":\"1.2\"}", "1.2", 0},
        {"{\"socket_id\":\"1.2\",\"x\":[1,2,{\"a\":null}],\"activity_timeout\":7}", "1.2", 7000},
        {"{\"socket_id\":\"\"}", NULL, 0},
        {"{\"socket_id\":123.456}", NULL, 0}, /* 123.4560 would be another id */
        {"{\"socket_id\":null}", NULL, 0},
        {"{\"socket_id\":{\"socket_id\":\"1.2\"}}", NULL, 0},
        {"{\"Socket_id\":\"1.2\"}", NULL, 0},
        {"{\"socket_id2\":\"1.2\"}", NULL, 0},
        {"{\"x\":\"socket_id\",\"y\":\"1.2\"}", NULL, 0},
        {"{}", NULL, 0},
        {"[]", NULL, 0},
        {"[\"socket_id\",\"1.2\"]", NULL, 0},
        {"null", NULL, 0},
        {"true", NULL, 0},
        {"12", NULL, 0},
    };
    static struct message message;
    char quoted[1024];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (int as_string = 0; as_string < 2; as_string++) {
            struct psh_established out;
            memset(&out, 0xA5, sizeof out);
            quote(cases[i].data, quoted);
            const struct psh_value *data =
                read_data(&message, as_string ? quoted : cases[i].data);
            bool good = psh_proto_established(data, &out);
            if (good != (cases[i].socket_id != NULL)) fail_msg("%s", message.text);
            if (!good) continue;
            assert_string_equal(out.socket_id, cases[i].socket_id);
            if (out.activity_timeout_ms != cases[i].activity_ms)
                fail_msg("%s: %u", message.text, out.activity_timeout_ms);
        }
    }
    struct psh_established out;
    assert_false(psh_proto_established(read_data(&message, NULL), &out));
    assert_false(psh_proto_established(read_data(&message, "\"\""), &out));
    assert_false(psh_proto_established(read_data(&message, "\"plain\""), &out));
    assert_false(psh_proto_established(read_data(&message, "\"{\\\"socket_id\\\":\""), &out));
    /* one level of quoting is undone, not two */
    assert_false(psh_proto_established(
        read_data(&message, "\"\\\"{\\\\\\\"socket_id\\\\\\\":\\\\\\\"1.2\\\\\\\"}\\\"\""), &out));
}

static void a_long_socket_id_is_cut(void **state)
{
    (void)state;
    static struct message message;
    struct psh_established out;
    char data[256] = "{\"socket_id\":\"", *at = data + strlen(data);
    memset(at, '7', 100);
    memcpy(at + 100, "\"}", 3);
    assert_true(psh_proto_established(read_data(&message, data), &out));
    assert_int_equal(strlen(out.socket_id), PSH_SOCKET_ID - 1);
    assert_int_equal(strspn(out.socket_id, "7"), PSH_SOCKET_ID - 1);
}

static void errors_in_every_shape(void **state)
{
    (void)state;
    static const struct {
        const char *data;
        uint32_t code;
        const char *message;
    } cases[] = {
        /* pusher.com, ipe */
        {"{\"message\":\"App key x not in this cluster\",\"code\":4001}", 4001,
         "App key x not in this cluster"},
        {"{\"code\":null,\"message\":\"Invalid signature: ...\"}", 0, "Invalid signature: ..."},
        {"{\"message\":\"no code\"}", 0, "no code"},
        {"{\"code\":4200}", 4200, ""},
        {"{\"message\":\"text\",\"code\":\"4009\"}", 4009, "text"},
        /* soketi */
        {"{\"type\":\"AuthError\",\"error\":\"The connection is unauthorized.\",\"status\":401}",
         401, "The connection is unauthorized."},
        {"{\"code\":4302,\"error\":\"too many\"}", 4302, "too many"},
        {"{\"code\":4301,\"status\":401,\"message\":\"m\",\"error\":\"e\"}", 4301, "m"},
        {"{\"code\":0,\"status\":500,\"message\":\"m\"}", 500, "m"},
        {"{\"code\":\"x\",\"status\":\"402\",\"message\":\"m\"}", 402, "m"},
        {"{\"message\":null,\"error\":\"e\"}", 0, "e"},
        {"{\"message\":{\"message\":\"inner\"},\"error\":\"e\"}", 0, "e"},
        {"{\"message\":\"\",\"error\":\"e\",\"code\":1}", 1, ""},
        {"{\"message\":\"q \\\" \\\\ \\u00e9 \\n\"}", 0, "q \" \\ \xC3\xA9 \n"},
        {"{\"code\":-1,\"message\":\"m\"}", 0, "m"},
        {"{\"code\":4294967296,\"message\":\"m\"}", 0, "m"}, /* over what we count to */
        {"{\"code\":99999999999999,\"message\":\"m\"}", 0, "m"},
        {"{\"code\":4001.9,\"message\":\"m\"}", 4001, "m"},
        {"{}", 0, ""},
        {"{\"data\":{\"code\":4001,\"message\":\"m\"}}", 0, ""},
        {"[4001,\"m\"]", 0, "[4001,\"m\"]"},
        {"4001", 0, "4001"},
        {"null", 0, "null"},
    };
    static struct message message;
    char quoted[1024];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (int as_string = 0; as_string < 2; as_string++) {
            struct psh_server_error out;
            memset(&out, 0xA5, sizeof out);
            quote(cases[i].data, quoted);
            psh_proto_error(read_data(&message, as_string ? quoted : cases[i].data), &out);
            if (out.code != cases[i].code || strcmp(out.message, cases[i].message) != 0)
                fail_msg("%s: %u %s", message.text, out.code, out.message);
        }
    }
}

static void an_error_may_be_plain_text_or_nothing(void **state)
{
    (void)state;
    static struct message message;
    struct psh_server_error out;
    memset(&out, 0xA5, sizeof out);
    psh_proto_error(read_data(&message, NULL), &out);
    assert_int_equal(out.code, 0);
    assert_string_equal(out.message, "");
    psh_proto_error(read_data(&message, "\"\""), &out);
    assert_string_equal(out.message, "");
    psh_proto_error(read_data(&message, "\"plain words\""), &out);
    assert_int_equal(out.code, 0);
    assert_string_equal(out.message, "plain words");
    psh_proto_error(read_data(&message, "\"{\\\"code\\\":4001\""), &out); /* cut off */
    assert_int_equal(out.code, 0);
    assert_string_equal(out.message, "{\"code\":4001");
}

/* Cut at 159 bytes, and not within a character. */
static void a_long_error_is_cut(void **state)
{
    (void)state;
    static struct message message;
    for (int as_object = 0; as_object < 2; as_object++) {
        for (size_t shift = 0; shift < 4; shift++) {
            struct psh_server_error out;
            char data[1024];
            struct psh_text text;
            psh_env_text(&text, data, sizeof data);
            psh_env_add(&text, as_object ? "{\"message\":\"" : "\"");
            psh_env_add_bytes(&text, "xxx", shift);
            for (int i = 0; i < 100; i++) psh_env_add(&text, "\xE2\x98\x83");
            psh_env_add(&text, as_object ? "\"}" : "\"");
            psh_proto_error(read_data(&message, data), &out);
            size_t len = strlen(out.message);
            assert_int_equal(len, shift + (PSH_SERVER_TEXT - 1 - shift) / 3 * 3);
            assert_int_equal((unsigned char)out.message[len - 1], 0x83);
        }
    }
}

static void counts_in_every_shape(void **state)
{
    (void)state;
    static const struct {
        const char *data;
        bool good;
        uint32_t count; /* 77 was there before */
    } cases[] = {
        {"{\"subscription_count\":3}", true, 3},
        {"{\"subscription_count\":0}", true, 0},
        {"{\"subscription_count\":\"5\"}", true, 5},
        {"{\"x\":{\"subscription_count\":1},\"subscription_count\":4}", true, 4},
        {"{\"subscription_count\":4294967289}", true, 4294967289u},
        {"{\"subscription_count\":null}", true, 77},
        {"{\"subscription_count\":-1}", true, 77},
        {"{\"subscription_count\":99999999999}", true, 77},
        {"{}", true, 77},
        {"{\"x\":{\"subscription_count\":1}}", true, 77},
        {"[]", false, 77},
        {"3", false, 77},
        {"null", false, 77},
    };
    static struct message message;
    char quoted[1024];
    uint32_t count = 77;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (int as_string = 0; as_string < 2; as_string++) {
            count = 77;
            quote(cases[i].data, quoted);
            const struct psh_value *data =
                read_data(&message, as_string ? quoted : cases[i].data);
            if (psh_proto_count(data, &count) != cases[i].good || count != cases[i].count)
                fail_msg("%s: %u", message.text, count);
        }
    }
    count = 77;
    assert_false(psh_proto_count(read_data(&message, NULL), &count));
    assert_false(psh_proto_count(read_data(&message, "\"three\""), &count));
    assert_int_equal(count, 77);
}

/* ---- channel names -------------------------------------------------------------------------- */

static void each_byte_in_a_name(void **state)
{
    (void)state;
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                               "_-=@,.;:#";
    assert_int_equal(sizeof good - 1, 26 + 26 + 10 + 9);
    for (int byte = 0; byte < 256; byte++) {
        bool want = byte != 0 && memchr(good, byte, sizeof good - 1) != NULL;
        assert_int_equal(psh_proto_name_char((char)byte), want);
        if (byte == 0) continue;
        for (int at = 0; at < 3; at++) {
            char name[4] = "aaa";
            name[at] = (char)byte;
            bool allowed = want && !(byte == '#' && at == 0);
            assert_int_equal(psh_proto_bad_channel(name) == NULL, allowed);
        }
    }
}

static void the_length_of_a_name(void **state)
{
    (void)state;
    char name[400];
    for (size_t len = 0; len < 300; len++) {
        memset(name, 'n', len);
        name[len] = '\0';
        const char *bad = psh_proto_bad_channel(name);
        assert_int_equal(bad == NULL, len >= 1 && len <= 200);
        if (len == 0) assert_non_null(strstr(bad, "empty"));
        if (len > 200) assert_non_null(strstr(bad, "200"));
    }
    assert_non_null(strstr(psh_proto_bad_channel("#server-to-user-1"), "#"));
    assert_non_null(psh_proto_bad_channel("with space"));
    assert_non_null(psh_proto_bad_channel("h\xC3\xA9llo"));
    assert_null(psh_proto_bad_channel("a#b"));
}

static void kinds_by_the_longest_prefix(void **state)
{
    (void)state;
    static const struct { const char *name; pusher_kind kind; } names[] = {
        {"private-x", PUSHER_KIND_PRIVATE}, {"private-", PUSHER_KIND_PRIVATE},
        {"private-encrypted-x", PUSHER_KIND_ENCRYPTED},
        {"private-cache-x", PUSHER_KIND_PRIVATE_CACHE},
        {"private-encrypted-cache-x", PUSHER_KIND_ENCRYPTED_CACHE},
        {"private-encrypted", PUSHER_KIND_PRIVATE}, {"private-cache", PUSHER_KIND_PRIVATE},
        {"private-encrypted-cache", PUSHER_KIND_ENCRYPTED},
        {"private-cache-encrypted-x", PUSHER_KIND_PRIVATE_CACHE},
        {"presence-x", PUSHER_KIND_PRESENCE}, {"presence-", PUSHER_KIND_PRESENCE},
        {"presence-cache-x", PUSHER_KIND_PRESENCE_CACHE},
        {"presence-encrypted-x", PUSHER_KIND_PRESENCE},
        {"cache-x", PUSHER_KIND_CACHE}, {"cache-private-x", PUSHER_KIND_CACHE},
        {"private", PUSHER_KIND_PUBLIC}, {"presence", PUSHER_KIND_PUBLIC},
        {"privat", PUSHER_KIND_PUBLIC}, {"", PUSHER_KIND_PUBLIC}, {"cache", PUSHER_KIND_PUBLIC},
        {"Private-x", PUSHER_KIND_PUBLIC}, {"xprivate-x", PUSHER_KIND_PUBLIC},
        {"privatex-", PUSHER_KIND_PUBLIC}, {"presence_x", PUSHER_KIND_PUBLIC},
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (psh_proto_channel_kind(names[i].name) != names[i].kind) fail_msg("%s", names[i].name);
    for (int kind = 0; kind <= PUSHER_KIND_ENCRYPTED_CACHE; kind++) {
        assert_int_equal(psh_proto_is_cache((pusher_kind)kind), kind % 2);
        assert_int_equal(psh_proto_is_presence((pusher_kind)kind), kind == 4 || kind == 5);
        assert_int_equal(psh_proto_is_encrypted((pusher_kind)kind), kind >= 6);
    }
}

/* ---- what we say ---------------------------------------------------------------------------- */

static void subscribe_frames_exactly(void **state)
{
    (void)state;
    char at[320], longest[201];
    struct psh_text text;
    psh_env_text(&text, at, sizeof at);
    psh_proto_subscribe(&text, "chat", NULL, NULL);
    assert_string_equal(at, "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"chat\"}}");
    assert_int_equal(text.len, strlen(at));
    psh_env_text(&text, at, sizeof at);
    psh_proto_unsubscribe(&text, "_-=@,.;:#1");
    assert_string_equal(at,
                        "{\"event\":\"pusher:unsubscribe\",\"data\":{\"channel\":\"_-=@,.;:#1\"}}");
    memset(longest, 'x', 200);
    longest[200] = '\0';
    psh_env_text(&text, at, sizeof at);
    psh_proto_unsubscribe(&text, longest);
    assert_false(text.cut);
    assert_true(psh_json_valid(text.at, text.len));
    psh_env_text(&text, at, sizeof at);
    psh_proto_subscribe(&text, "private-a", "\"auth\":\"k:s\"", NULL);
    assert_string_equal(at, "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"private-a\","
                            "\"auth\":\"k:s\"}}");
    psh_env_text(&text, at, sizeof at);
    psh_proto_subscribe(&text, "a", NULL, "\"rewind\":1");
    assert_string_equal(at, "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"a\","
                            "\"rewind\":1}}");
    psh_env_text(&text, at, sizeof at);
    psh_proto_subscribe(&text, "private-a", "\"auth\":\"k:s\"", "\"rewind\":1");
    assert_true(psh_json_valid(text.at, text.len));
    psh_env_text(&text, at, sizeof at);
    psh_proto_signin(&text, "\"auth\":\"k:s\",\"user_data\":\"{}\"");
    assert_string_equal(at, "{\"event\":\"pusher:signin\",\"data\":{\"auth\":\"k:s\","
                            "\"user_data\":\"{}\"}}");
    psh_env_text(&text, at, sizeof at);
    psh_proto_trigger(&text, "private-a", "client-x", "{\"a\":1}", 7);
    assert_string_equal(at, "{\"event\":\"client-x\",\"channel\":\"private-a\",\"data\":{\"a\":1}}");
    assert_string_equal(PSH_PROTO_PING, "{\"event\":\"pusher:ping\",\"data\":{}}");
    assert_string_equal(PSH_PROTO_PONG, "{\"event\":\"pusher:pong\",\"data\":{}}");
}

/* ---- the channel an error is about ---------------------------------------------------------- */

static void the_channel_named_in_an_error(void **state)
{
    (void)state;
    static const struct { const char *message, *channel; } cases[] = {
        {"Expected HMAC SHA256 hex digest of 12.34:private-a:, but got b", "private-a"},
        {"Expected HMAC SHA256 hex digest of 12.34:private-a, but got b", "private-a"},
        {"digest of 12.34:private-a,b, but got c", "private-a,b"},
        {"12.34:x,", "x,"},
        {"12.34:, but", NULL},
        {"digest of 12.34:presence-room:{\"user_id\":1}", "presence-room"},
        {"12.34:x", "x"},
        {"for 12.34, not 12.34:x", "x"},
        {"12.34:x ", "x"},
        {"12.34:x\"", "x"},
        {"12.34:a_-=@,.;#b", "a_-=@,.;#b"},
        {"12.34:\xC3\xA9", NULL},
        {"12.34:", NULL},
        {"12.34::x", NULL},
        {"12.34: x", NULL},
        {"12.34", NULL},
        {"12.345:x", NULL},
        {"12.34;x", NULL},
        {"12.3:x", NULL},
        {"", NULL},
        {"12.3", NULL},
        {"no id: x", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t len = 99;
        const char *found = psh_proto_channel_in(cases[i].message, "12.34", &len);
        if ((found != NULL) != (cases[i].channel != NULL)) fail_msg("%s", cases[i].message);
        if (!found) continue;
        assert_int_equal(len, strlen(cases[i].channel));
        assert_memory_equal(found, cases[i].channel, len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_by_name),
        cmocka_unit_test(a_near_miss_is_another_event),
        cmocka_unit_test(handlers_hear_the_names_of_pusher_js),
        cmocka_unit_test(established_in_every_shape),
        cmocka_unit_test(a_long_socket_id_is_cut),
        cmocka_unit_test(errors_in_every_shape),
        cmocka_unit_test(an_error_may_be_plain_text_or_nothing),
        cmocka_unit_test(a_long_error_is_cut),
        cmocka_unit_test(counts_in_every_shape),
        cmocka_unit_test(each_byte_in_a_name),
        cmocka_unit_test(the_length_of_a_name),
        cmocka_unit_test(kinds_by_the_longest_prefix),
        cmocka_unit_test(subscribe_frames_exactly),
        cmocka_unit_test(the_channel_named_in_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
