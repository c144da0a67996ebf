/*
 * text_hash.c: a string as a bag of hashed words and character trigrams.
 *
 * The hashing trick (Weinberger et al. 2009) over the units of fastText
 * (Bojanowski et al. 2017): words, and trigrams of "<word>", so that
 * misspellings and inflections share most of their units. Words come first
 * and leave a quarter of the room to trigrams: a short name is described by
 * its spelling, a long text by its words.
 *
 * ASCII letters are folded to lower case; every byte from 0x80 on belongs to a
 * word, so that UTF-8 needs no tables and no locale changes a result.
 */
#include "embed/text_hash.h"
#include "kernels/random.h"

#include <stdbool.h>

#define WORD_MAX 64 /* bytes of a word that count */

static bool
is_word_byte(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80;
}

/*
 * Copy the next word from *position on as "<word>", folded and cut to WORD_MAX
 * bytes; returns its length with the brackets, 0 at the end of the text.
 */
static int
next_word(const unsigned char *text, int64_t length, int64_t *position, unsigned char *word)
{
    int n = 0;

    while (*position < length && !is_word_byte(text[*position]))
        (*position)++;
    if (*position >= length)
        return 0;
    word[n++] = '<';
    for (; *position < length && is_word_byte(text[*position]); (*position)++)
    {
        unsigned char c = text[*position];

        if (n <= WORD_MAX)
            word[n++] = c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
    }
    word[n++] = '>';
    return n;
}

int
moe_text_hash(const char *text, int64_t length, uint64_t key, uint64_t *hash, int max)
{
    const unsigned char *bytes = (const unsigned char *) text;
    unsigned char word[WORD_MAX + 2];
    int64_t position = 0;
    int n = 0;
    int size;

    while (n < max - max / 4 && (size = next_word(bytes, length, &position, word)) > 0)
        hash[n++] = moe_hash_bytes(word, size, key);
    position = 0;
    while (n < max && (size = next_word(bytes, length, &position, word)) > 0)
        for (int i = 0; i + 3 <= size && n < max; i++)
            hash[n++] = moe_hash_bytes(word + i, 3, key + 1);
    return n;
}
