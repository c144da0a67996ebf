/*
 * text_hash.h: a string as a bag of hashed words and character trigrams.
 */
#ifndef MOE_EMBED_TEXT_HASH_H
#define MOE_EMBED_TEXT_HASH_H

#include <stdint.h>

/* Write at most max hashes (64 bits, keyed); returns their number, 0 for a string without words. */
int moe_text_hash(const char *text, int64_t length, uint64_t key, uint64_t *hash, int max);

#endif
