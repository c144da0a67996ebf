/*
 * number.h: numbers as they are given to a user: no longer than what they say.
 */
#ifndef MOE_NUMBER_H
#define MOE_NUMBER_H

#include "postgres.h"

/* A float as the float8 whose text is the float's own, the shortest that reads back as it: 0.1 and not 0.10000000149.
 */
Datum moe_number_datum(float x);
/* A share or a metric of classes: four decimals. */
double moe_number_share(double x);
/* Anything else: so many significant digits. */
double moe_number_digits(double x, int digits);

#endif
