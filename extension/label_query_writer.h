/*
 * label_query_writer.h: what the files that write a predictive query's SQL share.
 *
 * label_query_sql.c        the whole: seeds, joins, output
 * label_query_aggregate.c  one common table expression an aggregate
 * label_query_condition.c  conditions and values
 */
#ifndef MOE_LABEL_QUERY_WRITER_H
#define MOE_LABEL_QUERY_WRITER_H

#include "extension/label_query_internal.h"

typedef struct moe_label_writer
{
    const moe_label_context *context;
    const moe_schema *schema;
    moe_label_text *text;
    StringInfo sql;
    const char *moment; /* as_of as an expression; NULL: the grid's */
    const char *closed; /* of past labels: the moment that each is known at, as an expression; NULL: nothing is late */
    const char *past;   /* the moment that what is being written is told at: within WHERE, and in past labels */
    int row_table;      /* of the columns within an aggregate */
    bool n_ctes;
    bool conditions; /* WHERE has been written */
} moe_label_writer;

/* label_query_condition.c */
/* A column's quoted name. */
const char *moe_label_column_sql(const moe_schema *schema, int table, int column);
/* A column's value; within WHERE and past labels as it was known then. */
char *moe_label_value_sql(const moe_label_writer *writer, int table, const char *alias, const char *name);
/* An operand, in parentheses unless it binds tighter than any operator. row_alias: as in moe_label_write_condition. */
void moe_label_write_operand(moe_label_writer *writer, const moe_node *node, const char *row_alias);
/* Start the next condition of a WHERE clause. */
void moe_label_next_condition(moe_label_writer *writer, const char *indent);
/* A condition as further conditions of WHERE. row_alias: of the row filter's table; NULL: columns are the entity's. */
void moe_label_write_condition(moe_label_writer *writer, const moe_node *node, const char *row_alias,
                               const char *indent);

/* label_query_aggregate.c */
/* A foreign key's equality. */
void moe_label_write_equality(moe_label_writer *writer, const char *left, Oid left_type, const char *right,
                              Oid right_type);
/* Is the aggregate kept as the first moment from which it is not 0? */
bool moe_label_is_since(const moe_label_writer *writer, const moe_label_aggregate *aggregate);
/* The aggregate's common table expression. */
void moe_label_write_aggregate(moe_label_writer *writer, const moe_label_aggregate *aggregate);

/* label_query_sql.c */
/* Is every seed dropped where the aggregate has no row? Then the join need not keep it. */
bool moe_label_joined_inside(const moe_label_writer *writer, const moe_label_aggregate *aggregate);

#endif
