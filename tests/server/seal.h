/*
 * seal.h - NaCl's secretbox (XSalsa20 and Poly1305), sealing only, for the tests' server. Written
 * apart from the client's own, so that each is a check of the other; speed and timing do not
 * matter here. Do not use it for secrets.
 */
#ifndef TESTS_SEAL_H
#define TESTS_SEAL_H

#include <stddef.h>

enum { SEAL_KEY = 32, SEAL_NONCE = 24, SEAL_TAG = 16 };

/* out: SEAL_TAG + len bytes, the tag in front; it must not overlap text. */
void seal_box(unsigned char *out, const void *text, size_t len,
              const unsigned char nonce[SEAL_NONCE], const unsigned char key[SEAL_KEY]);

#endif
