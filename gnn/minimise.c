/*
 * minimise.c: L-BFGS (Nocedal 1980) with backtracking.
 *
 * The direction is the two-loop recursion over the last PAIRS steps, about the
 * caller's preconditioner where there is one: where that is the exact inverse
 * of a quadratic's second derivatives, the first step is the last. A step is
 * shortened until it gains its share of what the slope promises (Armijo).
 */
#include "gnn/minimise.h"

#include <math.h>
#include <string.h>

#define PAIRS     10
#define SHORTENED 40    /* times at most */
#define SHARE     1e-4  /* of the promised gain */
#define NO_GAIN   1e-14 /* relative to the value */
#define FLAT      1e-12 /* cosine of step and change */

typedef struct search
{
    const moe_smooth *function;
    double *step[PAIRS];   /* ring: at[k+1] - at[k] */
    double *change[PAIRS]; /* of the gradient */
    double product[PAIRS]; /* step . change */
    int64_t taken;         /* pairs ever put */
    double *gradient;
    double *direction;
    double *next;
    double *next_gradient;
} search;

static double
dot(int64_t n, const double *a, const double *b)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static void
add_scaled(int64_t n, double factor, const double *x, double *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += factor * x[i];
}

static double
largest(int64_t n, const double *x)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fabs(x[i]) > most ? fabs(x[i]) : most;
    return most;
}

/* About the inverse second derivatives times v, before the pairs have their say. */
static void
start_direction(const search *s, double *v)
{
    int64_t n = s->function->n, last = (s->taken + PAIRS - 1) % PAIRS;
    double scale;
    if (s->function->precondition != NULL)
    {
        s->function->precondition(s->function->arg, v);
        return;
    }
    if (s->taken > 0)
        scale = s->product[last] / dot(n, s->change[last], s->change[last]);
    else
        scale = 1 / fmax(sqrt(dot(n, v, v)), 1e-300);
    for (int64_t i = 0; i < n; i++)
        v[i] *= scale;
}

/* direction = -(inverse second derivatives) gradient. */
static void
find_direction(search *s)
{
    int64_t n = s->function->n, held = s->taken < PAIRS ? s->taken : PAIRS;
    double alpha[PAIRS];
    for (int64_t i = 0; i < n; i++)
        s->direction[i] = -s->gradient[i];
    for (int64_t back = 1; back <= held; back++)
    {
        int64_t p = (s->taken - back) % PAIRS;
        alpha[p] = dot(n, s->step[p], s->direction) / s->product[p];
        add_scaled(n, -alpha[p], s->change[p], s->direction);
    }
    start_direction(s, s->direction);
    for (int64_t back = held; back >= 1; back--)
    {
        int64_t p = (s->taken - back) % PAIRS;
        double beta = dot(n, s->change[p], s->direction) / s->product[p];
        add_scaled(n, alpha[p] - beta, s->step[p], s->direction);
    }
}

/* Keep what the step from `at` to `next` told, unless rounding hides the curvature. */
static void
remember(search *s, const double *at)
{
    int64_t n = s->function->n, p = s->taken % PAIRS;
    for (int64_t i = 0; i < n; i++)
    {
        s->step[p][i] = s->next[i] - at[i];
        s->change[p][i] = s->next_gradient[i] - s->gradient[i];
    }
    s->product[p] = dot(n, s->step[p], s->change[p]);
    if (s->product[p] > FLAT * sqrt(dot(n, s->step[p], s->step[p]) * dot(n, s->change[p], s->change[p])))
        s->taken++;
}

/* Go along the direction as far as it pays; false if nowhere. *value becomes that of `next`. */
static bool
go(search *s, const double *at, double *value)
{
    int64_t n = s->function->n;
    double slope = dot(n, s->gradient, s->direction), length = 1;
    if (!(slope < 0))
        return false;
    for (int i = 0; i < SHORTENED; i++)
    {
        for (int64_t k = 0; k < n; k++)
            s->next[k] = at[k] + length * s->direction[k];
        double there = s->function->evaluate(s->function->arg, s->next, s->next_gradient);
        if (there <= *value + SHARE * length * slope)
        {
            *value = there;
            return true;
        }
        /* The minimum of the parabola through both values and the slope, within bounds. */
        double bend = there - *value - length * slope;
        double shorter = bend > 0 ? -slope * length * length / (2 * bend) : length / 2;
        length = fmin(fmax(shorter, length / 10), length / 2);
    }
    return false;
}

static bool
start(moe_job *job, search *s)
{
    int64_t n = s->function->n;
    bool there = true;
    for (int p = 0; p < PAIRS; p++)
    {
        there = (s->step[p] = moe_alloc(job, n, sizeof(double))) != NULL && there;
        there = (s->change[p] = moe_alloc(job, n, sizeof(double))) != NULL && there;
    }
    there = (s->gradient = moe_alloc(job, n, sizeof(double))) != NULL && there;
    there = (s->direction = moe_alloc(job, n, sizeof(double))) != NULL && there;
    there = (s->next = moe_alloc(job, n, sizeof(double))) != NULL && there;
    return (s->next_gradient = moe_alloc(job, n, sizeof(double))) != NULL && there;
}

static void
finish(moe_job *job, search *s)
{
    for (int p = 0; p < PAIRS; p++)
    {
        moe_free(job, s->step[p]);
        moe_free(job, s->change[p]);
    }
    moe_free(job, s->gradient);
    moe_free(job, s->direction);
    moe_free(job, s->next);
    moe_free(job, s->next_gradient);
}

moe_code
moe_minimise(moe_job *job, const moe_smooth *function, double tolerance, int most, double *at)
{
    search s = {.function = function};
    int64_t n = function->n;
    if (start(job, &s))
    {
        double value = function->evaluate(function->arg, at, s.gradient);
        if (!isfinite(value) && moe_job_check(job) == MOE_OK)
            moe_fail(job, MOE_INVALID, "a model cannot be fitted to inputs that are not finite");
        for (int i = 0; i < most && moe_job_check(job) == MOE_OK && largest(n, s.gradient) > tolerance; i++)
        {
            double before = value;
            find_direction(&s);
            if (!go(&s, at, &value))
                break;
            remember(&s, at);
            memcpy(at, s.next, (size_t) n * sizeof *at);
            memcpy(s.gradient, s.next_gradient, (size_t) n * sizeof *at);
            if (before - value <= NO_GAIN * fabs(value))
                break;
        }
    }
    finish(job, &s);
    return moe_job_check(job);
}
