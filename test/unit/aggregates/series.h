/*
 * series.h: what is made of the events of an owner and their values, each a plain sum.
 */
#ifndef MOE_TEST_SERIES_H
#define MOE_TEST_SERIES_H

#include <stdbool.h>
#include <stdint.h>

#include "embed/table.h"

#define DAY 86400e6

typedef struct event
{
    int64_t time;
    int32_t row;
} event;

typedef struct series
{
    int n;
    const event *events;
    const double *x; /* [n] */
    bool owned;      /* there is an owner */
    int64_t horizon, window;
} series;

/* NaN is NULL. windows 0: all. */
double series_exponential(const series *s, double half_life);
double series_mean_or_sum(const series *s, int windows, bool mean);
double series_last(const series *s);
double series_count(const series *s, int windows);
double series_days_since(const series *s, bool last);

#endif
