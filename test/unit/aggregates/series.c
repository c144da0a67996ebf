#include "test/unit/aggregates/series.h"

#include <math.h>

/* Within some windows before the horizon; 0: anywhere. */
static bool
is_within(const series *s, int i, int windows)
{
    return windows == 0 || (s->events[i].time != MOE_TIME_ALWAYS &&
                            (__int128) s->events[i].time > (__int128) s->horizon - (__int128) windows * s->window);
}

double
series_exponential(const series *s, double half_life)
{
    double sum = 0, weight = 0, k = 0;

    for (int i = s->n - 1; i >= 0; i--)
        if (!isnan(s->x[i]))
        {
            sum += pow(2, -k / half_life) * s->x[i];
            weight += pow(2, -k / half_life);
            k++;
        }
    return weight > 0 ? sum / weight : NAN;
}

double
series_mean_or_sum(const series *s, int windows, bool mean)
{
    double sum = 0;
    int n = 0;

    for (int i = 0; i < s->n; i++)
        if (!isnan(s->x[i]) && is_within(s, i, windows))
        {
            sum += s->x[i];
            n++;
        }
    if (mean)
        return n > 0 ? sum / n : NAN;
    return s->owned ? sum : NAN;
}

double
series_last(const series *s)
{
    for (int i = s->n - 1; i >= 0; i--)
        if (!isnan(s->x[i]))
            return s->x[i];
    return NAN;
}

double
series_count(const series *s, int windows)
{
    int n = 0;

    for (int i = 0; i < s->n; i++)
        n += is_within(s, i, windows);
    return s->owned ? n : NAN;
}

double
series_days_since(const series *s, bool last)
{
    int i = last ? s->n - 1 : 0;

    while (!last && i < s->n && s->events[i].time == MOE_TIME_ALWAYS)
        i++;
    if (i < 0 || i >= s->n || s->events[i].time == MOE_TIME_ALWAYS)
        return NAN;
    return (double) (s->horizon - s->events[i].time) / DAY;
}
