/* control.c - see control.h. */
#include "control.h"

#include <stdlib.h>
#include <string.h>

enum { WORDS = 40, WAIT_MS = 5000 };

typedef struct words {
    char *at[WORDS];
    size_t len[WORDS]; /* a decoded word may hold NUL bytes */
    int count;
} words;

/* Undoes %XX in place. */
static size_t decode(char *word)
{
    size_t to = 0;
    for (const char *p = word; *p; p++) {
        char two[3] = {0}, *end = two;
        if (*p == '%' && p[1] && p[2]) {
            two[0] = p[1];
            two[1] = p[2];
            word[to] = (char)strtoul(two, &end, 16);
        }
        if (end == two + 2) {
            p += 2;
        } else {
            word[to] = *p;
        }
        to++;
    }
    word[to] = '\0';
    return to;
}

/* Up to most words; the last one takes the rest of the line. */
static words split(char *line, int most)
{
    words w = {{0}, {0}, 0};
    while (line && *line && w.count < most) {
        char *space = w.count + 1 < most ? strchr(line, ' ') : NULL;
        if (space) {
            *space++ = '\0';
        }
        w.at[w.count] = line;
        w.len[w.count] = decode(line);
        w.count++;
        line = space;
    }
    return w;
}

static const char *word(const words *w, int i)
{
    return i < w->count ? w->at[i] : "";
}

static long number(const words *w, int i, long otherwise)
{
    return i < w->count ? strtol(w->at[i], NULL, 10) : otherwise;
}

static const char *channel_or_none(const words *w, int i)
{
    return strcmp(word(w, i), "-") == 0 ? NULL : word(w, i);
}

/* ---- faults ---- */

#define FAULT(kind, name) {#name, kind, offsetof(server_faults, name), \
                           sizeof ((server_faults *)NULL)->name}
enum fault_kind { A_BOOL, A_U32, A_SIZE, AN_INT, A_FRAME, A_TEXT };

static const struct fault {
    const char *name;
    enum fault_kind kind;
    size_t at, size;
} all_faults[] = {
    FAULT(AN_INT, http_status), FAULT(A_TEXT, http_reason), FAULT(A_BOOL, wrong_accept),
    FAULT(A_BOOL, no_accept), FAULT(A_BOOL, endless_header), FAULT(A_SIZE, header_bytes),
    FAULT(A_BOOL, lower_case_headers), FAULT(A_U32, answer_delay_ms), FAULT(A_BOOL, never_answer),
    FAULT(A_U32, established_delay_ms), FAULT(A_BOOL, never_establish),
    FAULT(AN_INT, establish_error), FAULT(A_BOOL, error_stays_open),
    FAULT(A_BOOL, no_activity_timeout), FAULT(A_BOOL, zero_activity_timeout),
    FAULT(A_BOOL, established_object), FAULT(A_BOOL, never_acknowledge),
    FAULT(A_BOOL, refuse_subscriptions), FAULT(A_BOOL, never_pong), FAULT(A_BOOL, ignore_close),
    FAULT(AN_INT, auth_status), FAULT(A_TEXT, auth_location), FAULT(A_TEXT, auth_body),
    FAULT(A_SIZE, auth_secret_bytes), FAULT(A_BOOL, auth_no_secret), FAULT(A_BOOL, auth_no_data),
    FAULT(A_U32, auth_delay_ms), FAULT(A_BOOL, never_auth), FAULT(A_BOOL, auth_chunked),
    FAULT(A_BOOL, auth_close), FAULT(A_SIZE, fragment), FAULT(A_BOOL, empty_final),
    FAULT(A_BOOL, ping_between), FAULT(A_SIZE, write_bytes), FAULT(A_U32, write_pause_ms),
    FAULT(A_U32, close_after), FAULT(AN_INT, close_code), FAULT(A_FRAME, bad_frame),
    FAULT(A_U32, flood)};

static bool set_fault(server_faults *f, char *text)
{
    char *value = strchr(text, '=');
    size_t n = value ? (size_t)(value - text) : strlen(text);
    value = value ? value + 1 : text + n;
    for (size_t i = 0; i < sizeof all_faults / sizeof *all_faults; i++) {
        const struct fault *one = &all_faults[i];
        void *at = (char *)f + one->at;
        if (strlen(one->name) != n || strncmp(one->name, text, n) != 0) {
            continue;
        }
        unsigned long v = strtoul(value, NULL, 10);
        switch (one->kind) {
        case A_BOOL: *(bool *)at = v != 0; break;
        case A_U32: *(uint32_t *)at = (uint32_t)v; break;
        case A_SIZE: *(size_t *)at = (size_t)v; break;
        case AN_INT: *(int *)at = (int)strtol(value, NULL, 10); break;
        case A_FRAME: *(server_bad_frame *)at = (server_bad_frame)v; break;
        case A_TEXT:
            if (strlen(value) >= one->size) {
                return false;
            }
            memcpy(at, value, strlen(value) + 1);
            break;
        }
        return true;
    }
    return false;
}

static bool read_faults(server_faults *f, const words *w, int from)
{
    memset(f, 0, sizeof *f);
    for (int i = from; i < w->count; i++) {
        if (!set_fault(f, w->at[i])) {
            return false;
        }
    }
    return true;
}

/* ---- the log ---- */

static const char *const kinds[] = {"any", "accept", "request", "http", "text", "binary", "ping",
                                    "pong", "close", "fin", "reset", "violation", "form"};

static int kind_of(const char *name)
{
    for (int i = 0; i < (int)(sizeof kinds / sizeof *kinds); i++) {
        if (strcmp(kinds[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

/* Bytes that are not UTF-8 are passed on: clients should not send any. */
static void print_string(FILE *to, const char *text, size_t len)
{
    fputc('"', to);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == '"' || c == '\\' || c == 0x7F) {
            fprintf(to, "\\u%04x", c);
        } else {
            fputc(c, to);
        }
    }
    fputc('"', to);
}

static void print_log(server *s, size_t from, FILE *to)
{
    server_log *log = server_log_copy(s);
    fputs("ok [", to);
    for (size_t i = from; i < log->count; i++) {
        const server_log_entry *e = &log->entries[i];
        fprintf(to, "%s{\"kind\":\"%s\",\"connection\":%u,\"code\":%d,\"text\":",
                i > from ? "," : "", kinds[e->kind], e->connection, e->code);
        print_string(to, e->text, e->len);
        fputc('}', to);
    }
    fputs("]\n", to);
    server_log_free(log);
}

/* ---- commands ---- */

static const char no_words[] = "too few words";

static const char *do_publish(control *c, const words *w, FILE *to)
{
    (void)to;
    server_publish(c->s, word(w, 0), word(w, 1), word(w, 2));
    return NULL;
}

static const char *do_seal(control *c, const words *w, FILE *to)
{
    (void)to;
    server_publish_sealed(c->s, word(w, 0), word(w, 1), word(w, 2), NULL);
    return NULL;
}

static const char *do_seal_with(control *c, const words *w, FILE *to)
{
    (void)to;
    server_publish_sealed(c->s, word(w, 1), word(w, 2), word(w, 3), word(w, 0));
    return NULL;
}

static const char *do_raw(control *c, const words *w, FILE *to)
{
    (void)to;
    server_publish_raw(c->s, channel_or_none(w, 0), word(w, 1));
    return NULL;
}

static const char *do_bytes(control *c, const words *w, FILE *to)
{
    (void)to;
    server_send_bytes(c->s, w->at[0], w->len[0]);
    return NULL;
}

static const char *do_flood(control *c, const words *w, FILE *to)
{
    (void)to;
    server_flood(c->s, word(w, 0), word(w, 1), NULL, (uint32_t)number(w, 2, 0));
    return NULL;
}

static const char *do_bad_frame(control *c, const words *w, FILE *to)
{
    (void)to;
    server_send_bad_frame(c->s, (server_bad_frame)number(w, 0, 0));
    return NULL;
}

static const char *do_ping(control *c, const words *w, FILE *to)
{
    (void)to;
    server_send_ping(c->s, word(w, 0), w->count ? w->len[0] : 0);
    return NULL;
}

static const char *do_close(control *c, const words *w, FILE *to)
{
    (void)to;
    server_close_all(c->s, (int)number(w, 0, 1000), w->count > 1 ? w->at[1] : NULL);
    return NULL;
}

static const char *do_error(control *c, const words *w, FILE *to)
{
    (void)to;
    server_error_all(c->s, (int)number(w, 0, -1), word(w, 2), channel_or_none(w, 1));
    return NULL;
}

static const char *do_faults(control *c, const words *w, FILE *to)
{
    server_faults f;
    (void)to;
    if (!read_faults(&f, w, 1)) {
        return "no such fault";
    }
    server_set_faults(c->s, &f, (uint32_t)number(w, 0, 0));
    return NULL;
}

static const char *do_faults_now(control *c, const words *w, FILE *to)
{
    server_faults f;
    (void)to;
    if (!read_faults(&f, w, 0)) {
        return "no such fault";
    }
    server_set_faults_now(c->s, &f);
    return NULL;
}

static const char *do_forget(control *c, const words *w, FILE *to)
{
    (void)to;
    server_forget_cache(c->s, word(w, 0));
    return NULL;
}

static const char *do_master_key(control *c, const words *w, FILE *to)
{
    (void)to;
    return server_set_master_key(c->s, word(w, 0)) ? NULL : "not 32 bytes in base64";
}

static const char *do_stall(control *c, const words *w, FILE *to)
{
    (void)to;
    server_stall(c->s, strcmp(word(w, 0), "on") == 0);
    return NULL;
}

static const char *do_stop(control *c, const words *w, FILE *to)
{
    bool reset = strcmp(word(w, 0), "reset") == 0;
    (void)to;
    c->options.port = server_port(c->s);
    server_stop(c->s, reset ? SERVER_STOP_RST : SERVER_STOP_DIALECT);
    c->s = NULL;
    return NULL;
}

static const char *waited(bool good, size_t n, FILE *to)
{
    if (!good) {
        fprintf(to, "no %zu\n", n);
    }
    return good ? NULL : "";
}

static const char *do_subscribers(control *c, const words *w, FILE *to)
{
    uint32_t ms = (uint32_t)number(w, 2, WAIT_MS);
    bool good = server_wait_subscribers(c->s, word(w, 0), (size_t)number(w, 1, 0), ms);
    return waited(good, server_subscribers(c->s, word(w, 0)), to);
}

static const char *do_connections(control *c, const words *w, FILE *to)
{
    uint32_t ms = (uint32_t)number(w, 1, WAIT_MS);
    bool good = server_wait_connections(c->s, (size_t)number(w, 0, 0), ms);
    return waited(good, server_connections(c->s), to);
}

static const char *do_sockets(control *c, const words *w, FILE *to)
{
    bool good = server_wait_sockets(c->s, (size_t)number(w, 0, 0), (uint32_t)number(w, 1, WAIT_MS));
    if (!good) {
        fputs("no\n", to);
    }
    return good ? NULL : "";
}

static const char *do_wait(control *c, const words *w, FILE *to)
{
    int kind = kind_of(word(w, 0));
    const char *part = w->count > 2 ? w->at[2] : NULL;
    if (kind < 0) {
        return "no such kind";
    }
    bool good = server_wait_log(c->s, (server_log_kind)kind, part, (size_t)number(w, 1, 1),
                                WAIT_MS);
    return waited(good, server_log_count(c->s, (server_log_kind)kind, part), to);
}

static const char *do_log(control *c, const words *w, FILE *to)
{
    print_log(c->s, (size_t)number(w, 0, 0), to);
    return "";
}

/* least, most: words after the command's own. The answer: NULL "ok", "" printed already, or what
   is wrong. */
static const struct command {
    const char *name;
    int least, most;
    const char *(*run)(control *c, const words *w, FILE *to);
} commands[] = {
    {"publish", 2, 3, do_publish}, {"seal", 2, 3, do_seal}, {"seal-with", 3, 4, do_seal_with},
    {"raw", 2, 2, do_raw}, {"bytes", 1, 1, do_bytes}, {"flood", 3, 3, do_flood},
    {"bad-frame", 1, 1, do_bad_frame}, {"ping", 0, 1, do_ping}, {"close", 1, 2, do_close},
    {"error", 2, 3, do_error}, {"faults", 1, WORDS, do_faults},
    {"faults-now", 0, WORDS, do_faults_now}, {"forget", 1, 1, do_forget},
    {"master-key", 1, 1, do_master_key}, {"stall", 1, 1, do_stall}, {"stop", 0, 1, do_stop},
    {"subscribers", 2, 3, do_subscribers}, {"connections", 1, 2, do_connections},
    {"sockets", 1, 2, do_sockets},    {"wait", 1, 3, do_wait}, {"log", 0, 1, do_log}};

static const char *start(control *c)
{
    c->s = c->s ? c->s : server_start(&c->options);
    return c->s ? NULL : "the port is taken";
}

static const char *run(control *c, char *line, FILE *to)
{
    char *rest = strchr(line, ' ');
    if (rest) {
        *rest++ = '\0';
    }
    if (strcmp(line, "start") == 0) {
        return start(c);
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        const struct command *one = &commands[i];
        if (strcmp(one->name, line) == 0) {
            words w = split(rest, one->most);
            return !c->s ? "stopped" : w.count < one->least ? no_words : one->run(c, &w, to);
        }
    }
    return "no such command";
}

void control_line(control *c, char *line, FILE *answer)
{
    const char *wrong = run(c, line, answer);
    if (!wrong) {
        fputs("ok\n", answer);
    } else if (*wrong) {
        fprintf(answer, "no %s\n", wrong);
    }
    fflush(answer);
}
