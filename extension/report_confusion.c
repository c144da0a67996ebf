/*
 * report_confusion.c: which classes are told for which.
 */
#include "postgres.h"

#include "extension/report.h"

#define LARGEST 8 /* classes with a row of their own; the others share one */
#define CELL    36.0
#define LABELS  104.0 /* left of the cells */
#define HEAD    26.0
#define COLUMNS 11 /* of a class's name */

typedef struct class_size
{
    int class;
    int64 rows;
} class_size;

/* Largest first, ties by number. */
static int
compare_sizes(const void *a, const void *b)
{
    const class_size *x = a, *y = b;

    if (x->rows != y->rows)
        return x->rows > y->rows ? -1 : 1;
    return x->class - y->class;
}

typedef struct confusion
{
    int n;              /* rows and columns */
    int class[LARGEST]; /* of each */
    bool others;        /* the last is of all other classes */
    int64 count[LARGEST + 1][LARGEST + 1];
} confusion;

/* Choose the classes with most rows. place [classes]: the row of each. */
static void
choose_classes(const moe_report *report, confusion *c, int *place)
{
    int classes = report->info->n_classes;
    class_size *size = palloc_array(class_size, classes);

    for (int k = 0; k < classes; k++)
        size[k] = (class_size){k, 0};
    for (int64 i = 0; i < report->held_out->n; i++)
        size[(int) report->held_out->label[i]].rows++;
    qsort(size, classes, sizeof(class_size), compare_sizes);
    c->n = Min(classes, LARGEST);
    for (int k = 0; k < classes; k++)
    {
        place[size[k].class] = Min(k, LARGEST);
        if (k < LARGEST)
            c->class[k] = size[k].class;
    }
    c->others = classes > LARGEST;
    c->n += c->others;
    pfree(size);
}

static void
put_name(const moe_report *report, const confusion *c, int row)
{
    if (c->others && row == c->n - 1)
        appendStringInfoString(report->out, "all others");
    else
        moe_html_short(report->out, report->info->classes[c->class[row]], COLUMNS);
}

/* One row of cells, shaded by its shares. */
static void
put_row(const moe_report *report, const confusion *c, int row)
{
    StringInfo out = report->out;
    double top = HEAD + row * CELL;
    int64 sum = 0;

    for (int k = 0; k < c->n; k++)
        sum += c->count[row][k];
    appendStringInfo(out, "<text class=\"e\" x=\"%g\" y=\"%g\">", LABELS - 20, top + CELL / 2 + 4);
    put_name(report, c, row);
    appendStringInfo(out, "</text><text class=\"s e\" x=\"%g\" y=\"%g\">%d</text>\n", LABELS - 5, top + CELL / 2 + 4,
                     row + 1);
    for (int k = 0; k < c->n; k++)
    {
        double share = sum == 0 ? 0 : (double) c->count[row][k] / sum;
        double x = LABELS + k * CELL;

        appendStringInfo(out,
                         "<rect class=\"cell\" x=\"%g\" y=\"%g\" width=\"%g\" height=\"%g\" fill-opacity=\"%.2f\"/>",
                         x + 1, top + 1, CELL - 2, CELL - 2, 0.06 + 0.54 * share);
        appendStringInfo(out, "<text class=\"m%s\" x=\"%g\" y=\"%g\">", row == k ? " b" : "", x + CELL / 2,
                         top + CELL / 2 + 4);
        if (c->count[row][k] < 10000)
            appendStringInfo(out, INT64_FORMAT, c->count[row][k]);
        else
            appendStringInfo(out, INT64_FORMAT "k", c->count[row][k] / 1000);
        appendStringInfoString(out, "</text>\n");
    }
}

void
moe_report_confusion(const moe_report *report, const int *told)
{
    confusion *c = palloc0(sizeof(confusion));
    int *place = palloc_array(int, report->info->n_classes);

    choose_classes(report, c, place);
    for (int64 i = 0; i < report->held_out->n; i++)
        c->count[place[(int) report->held_out->label[i]]][place[told[i]]]++;
    moe_html_drawing(report->out, "Confusion", LABELS + c->n * CELL + 1, HEAD + c->n * CELL + 1);
    for (int k = 0; k < c->n; k++)
        appendStringInfo(report->out, "<text class=\"s m\" x=\"%g\" y=\"%g\">%d</text>\n", LABELS + (k + 0.5) * CELL,
                         HEAD - 8, k + 1);
    for (int row = 0; row < c->n; row++)
        put_row(report, c, row);
    moe_html_drawing_end(report->out,
                         "Rows: the actual class; columns, by the same numbers: the class predicted. The more colour, "
                         "the larger a share of the row.");
}
