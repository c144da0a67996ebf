/*
 * report_graph.c: the tables and their foreign keys, in layers.
 *
 * The entity stands on the left, each table as many columns to the right as it
 * is foreign keys away, so that an arrow joins neighbouring layers or leads
 * within one. Within a layer tables stand by the mean place of their neighbours
 * to the left (Sugiyama, Tagawa, Toda 1981, one sweep). Arrows point where
 * the foreign key does.
 */
#include "postgres.h"

#include <math.h>

#include "extension/report.h"
#include "extension/subject.h"

#define BOX_WIDTH  160.0
#define BOX_HEIGHT 58.0
#define GAP        20.0 /* between boxes of a layer */
#define LANE       68.0 /* between layers */
#define MARGIN     8.0
#define COLUMNS    18 /* of a name in a box */

typedef struct spot
{
    int layer;
    int place; /* in the layer */
    double wish;
    double x, y;
    int left, right; /* arrow ends on either side */
    int left_used, right_used;
} spot;

typedef struct layout
{
    const moe_schema *schema;
    spot *spots;
    int layers;
    int tallest;
} layout;

/* How many foreign keys away each table is; those that none leads to stand with the entity. */
static void
find_layers(layout *l)
{
    const moe_schema *schema = l->schema;
    bool changed = true;

    for (int t = 0; t < schema->n_tables; t++)
        l->spots[t].layer = t == 0 ? 0 : -1;
    for (l->layers = 1; changed; l->layers++)
    {
        changed = false;
        for (int e = 0; e < schema->n_edges; e++)
        {
            spot *child = &l->spots[schema->edges[e].child], *parent = &l->spots[schema->edges[e].parent];
            spot *next = child->layer < 0 ? child : parent, *near = child->layer < 0 ? parent : child;

            if (next->layer >= 0 || near->layer != l->layers - 1)
                continue;
            next->layer = l->layers;
            changed = true;
        }
    }
    l->layers--;
    for (int t = 0; t < schema->n_tables; t++)
        l->spots[t].layer = Max(l->spots[t].layer, 0);
}

/* The mean place of a table's neighbours one layer to the left. */
static double
wished_place(const layout *l, int table)
{
    double sum = 0;
    int n = 0;

    for (int e = 0; e < l->schema->n_edges; e++)
    {
        int child = l->schema->edges[e].child, parent = l->schema->edges[e].parent;
        int other = child == table ? parent : child;

        if ((child != table && parent != table) || l->spots[other].layer != l->spots[table].layer - 1)
            continue;
        sum += l->spots[other].place;
        n++;
    }
    return n == 0 ? 0 : sum / n;
}

/* Order one layer. */
static void
order_layer(layout *l, int layer)
{
    int n = 0;

    for (int t = 0; t < l->schema->n_tables; t++)
        if (l->spots[t].layer == layer)
        {
            l->spots[t].wish = wished_place(l, t);
            n++;
        }
    for (int t = 0; t < l->schema->n_tables; t++)
    {
        spot *s = &l->spots[t];

        if (s->layer != layer)
            continue;
        s->place = 0;
        for (int u = 0; u < l->schema->n_tables; u++)
            if (l->spots[u].layer == layer && (l->spots[u].wish < s->wish || (l->spots[u].wish == s->wish && u < t)))
                s->place++;
    }
    l->tallest = Max(l->tallest, n);
}

/* Give every box its coordinates, layers centred. */
static void
place_boxes(layout *l)
{
    for (int layer = 0; layer < l->layers; layer++)
        order_layer(l, layer);
    for (int t = 0; t < l->schema->n_tables; t++)
    {
        spot *s = &l->spots[t];
        int n = 0;

        for (int u = 0; u < l->schema->n_tables; u++)
            n += l->spots[u].layer == s->layer;
        s->x = MARGIN + s->layer * (BOX_WIDTH + LANE);
        s->y = MARGIN + (s->place + (l->tallest - n) / 2.0) * (BOX_HEIGHT + GAP);
    }
    for (int e = 0; e < l->schema->n_edges; e++)
    {
        spot *a = &l->spots[l->schema->edges[e].child], *b = &l->spots[l->schema->edges[e].parent];

        *(a->layer > b->layer ? &a->left : &a->right) += 1;
        *(b->layer > a->layer ? &b->left : &b->right) += 1;
    }
}

/* Where the next arrow of a side meets a box. */
static double
next_end(spot *s, bool left)
{
    int n = left ? s->left : s->right;
    int k = left ? s->left_used++ : s->right_used++;

    return rint((s->y + BOX_HEIGHT * (k + 1) / (n + 1)) * 10) / 10;
}

static void
put_box(const moe_report *report, const layout *l, int table)
{
    StringInfo out = report->out;
    const spot *s = &l->spots[table];
    char *name = moe_subject_table(l->schema, table);
    char *time = moe_schema_time_name(l->schema, table);

    appendStringInfo(out, "<g><title>");
    moe_html_text(out, name);
    appendStringInfo(out,
                     "</title><rect class=\"box%s\" x=\"%g\" y=\"%g\" width=\"%g\" height=\"%g\" rx=\"6\"/>"
                     "<text class=\"b\" x=\"%g\" y=\"%g\">",
                     table == 0 ? " entity" : "", s->x, s->y, BOX_WIDTH, BOX_HEIGHT, s->x + 10, s->y + 18);
    moe_html_short(out, name, COLUMNS);
    appendStringInfo(out, "</text><text class=\"s\" x=\"%g\" y=\"%g\">", s->x + 10, s->y + 34);
    moe_html_count(out, report->predictor->data->tables[table].n_rows);
    appendStringInfo(out, " rows</text><text class=\"s\" x=\"%g\" y=\"%g\">", s->x + 10, s->y + 50);
    if (time == NULL)
        appendStringInfoString(out, "always visible");
    else
        moe_html_short(out, psprintf("since %s", time), COLUMNS + 2);
    appendStringInfoString(out, "</text></g>\n");
}

/* "orders.customer_id -> customers" in full. */
static void
put_key(const moe_report *report, const moe_schema_edge *edge)
{
    const moe_schema *schema = report->predictor->schema;
    StringInfoData text;

    initStringInfo(&text);
    appendStringInfoString(&text, moe_subject_table(schema, edge->child));
    for (int i = 0; i < edge->n_columns; i++)
        appendStringInfo(&text, "%s%s", i == 0 ? "." : ", ",
                         schema->tables[edge->child].columns[edge->child_columns[i]].name);
    moe_html_text(report->out, text.data);
    appendStringInfoString(report->out, " &#x2192; ");
    moe_html_text(report->out, moe_subject_table(schema, edge->parent));
    pfree(text.data);
}

/* An arrow from a child to its parent: an S between layers, a bow on the right within one. */
static void
put_arrow(const moe_report *report, layout *l, const moe_schema_edge *edge)
{
    StringInfo out = report->out;
    spot *a = &l->spots[edge->child], *b = &l->spots[edge->parent];
    bool a_left = a->layer > b->layer, b_left = b->layer > a->layer;
    double x1 = a->x + (a_left ? 0 : BOX_WIDTH), y1 = next_end(a, a_left);
    double x2 = b->x + (b_left ? 0 : BOX_WIDTH), y2 = next_end(b, b_left);
    double bow = a->layer == b->layer ? 26 + Min(fabs(y2 - y1) / 10, 34) : LANE / 2;
    double tip = b_left ? -7 : 7;

    appendStringInfoString(out, "<g><title>");
    put_key(report, edge);
    appendStringInfo(out, "</title><path class=\"edge\" d=\"M%g,%g C%g,%g %g,%g %g,%g\"/>", x1, y1,
                     x1 + (a_left ? -bow : bow), y1, x2 + (b_left ? -bow : bow), y2, x2 + tip, y2);
    appendStringInfo(out, "<path class=\"head\" d=\"M%g,%g l%g,-4 v8 z\"/></g>\n", x2, y2, b_left ? -8.0 : 8.0);
}

static void
put_keys(const moe_report *report)
{
    const moe_schema *schema = report->predictor->schema;

    appendStringInfoString(report->out, "<p class=\"note\">");
    for (int e = 0; e < schema->n_edges; e++)
    {
        appendStringInfoString(report->out, e == 0 ? "" : "; ");
        put_key(report, &schema->edges[e]);
    }
    appendStringInfoString(report->out, "</p>\n");
}

void
moe_report_graph(const moe_report *report)
{
    layout l = {.schema = report->predictor->schema};
    bool bows = false; /* to the right of the last layer */

    l.spots = palloc0_array(spot, l.schema->n_tables);
    find_layers(&l);
    place_boxes(&l);
    for (int e = 0; e < l.schema->n_edges; e++)
        bows |= l.spots[l.schema->edges[e].child].layer == l.layers - 1 &&
                l.spots[l.schema->edges[e].parent].layer == l.layers - 1;
    moe_html_section(report->out, "What it reads");
    moe_html_drawing(report->out, "Tables and foreign keys",
                     2 * MARGIN + l.layers * BOX_WIDTH + (l.layers - 1) * LANE + (bows ? 60 : 0),
                     2 * MARGIN + l.tallest * (BOX_HEIGHT + GAP) - GAP);
    for (int e = 0; e < l.schema->n_edges; e++)
        put_arrow(report, &l, &l.schema->edges[e]);
    for (int t = 0; t < l.schema->n_tables; t++)
        put_box(report, &l, t);
    moe_html_drawing_end(report->out, "Arrows lead from a foreign key to the table it refers to; a row counts from the "
                                      "time of the column named.");
    put_keys(report);
    moe_html_section_end(report->out);
}
