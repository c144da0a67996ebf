/*
 * number.c: numbers as they are given to a user.
 */
#include "postgres.h"

#include <math.h>

#include "common/shortest_dec.h"

#include "extension/number.h"

Datum
moe_number_datum(float x)
{
    char text[FLOAT_SHORTEST_DECIMAL_LEN];

    if (!isfinite(x))
        return Float8GetDatum(x);
    float_to_shortest_decimal_buf(x, text);
    return Float8GetDatum(strtod(text, NULL));
}

double
moe_number_share(double x)
{
    return rint(x * 1e4) / 1e4 + 0.0; /* never -0 */
}

double
moe_number_digits(double x, int digits)
{
    char text[64];

    if (!isfinite(x))
        return x;
    snprintf(text, sizeof(text), "%.*e", digits - 1, x);
    return strtod(text, NULL);
}
