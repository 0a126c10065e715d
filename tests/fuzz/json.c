/* The one-pass reader of a message's outer object and the byte-wise check are two pieces of code
   for one grammar: they must agree on every text, and neither may touch a byte outside of it. */
#define PUSHER_IMPLEMENTATION
#include "pusher.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = (char *)malloc(size ? size : 1), *out = (char *)malloc(size + PSH_JSON_SLACK);
    struct psh_codec_utf8_state utf8 = {0, 0, 0};
    struct psh_envelope envelope;
    struct psh_json_object object;
    char short_text[8];
    if (!text || !out) abort();
    if (size) memcpy(text, data, size);
    if (psh_codec_utf8(&utf8, text, size) && utf8.need == 0) { /* the WebSocket room checks first */
        const char *wrong = psh_json_envelope(text, size, out, &envelope);
        bool valid = psh_json_valid(text, size);
        if (!wrong && !valid) abort();
        if (wrong && strcmp(wrong, "not JSON") == 0 && valid) abort();
        if (!wrong && strlen(envelope.event.at) > envelope.event.len) abort();
    } else if (psh_json_valid(text, size)) {
        abort();
    }
    if (psh_json_parse(&object, text, size)) {
        (void)psh_json_get_text(&object, "message", short_text, sizeof short_text);
        (void)psh_json_get_uint(&object, "code", 0);
    }
    free(text);
    free(out);
    return 0;
}
